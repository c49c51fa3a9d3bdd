# SPDX-License-Identifier: Apache-2.0
"""From a model specification to a loaded SAM2 segmenter.

Weights come from a folder (``config.yaml`` and ``model.safetensors``), from a checkpoint file with
the name of a configuration, or from Hugging Face.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.segmenters.checkpoints import (
    download,
    identity_of,
    load_state,
    read_state,
    torch_device,
)
from medreasoner_infer.types import ModelSpec

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from medreasoner_infer.segmenters.sam import SamSegmenter
    from medreasoner_infer.segmenters.settings import SamSettings

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class WeightFiles:
    """The files of a model on this machine; ``revision`` is the Hugging Face commit, if any."""

    config: Path
    weights: Path
    revision: str | None = None


def load_sam2(
    spec: ModelSpec, *, device: str = "auto", settings: SamSettings | None = None
) -> SamSegmenter:
    """Load a SAM2 or MedSAM2.

    Args:
        spec: where the weights are; ``config`` (name or path of a configuration) and ``filename``
            are needed for checkpoints outside a model folder.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``...
        settings: how to use the model; the default is what its configuration says.

    Raises:
        ModelUnavailableError: if files are missing, cannot be read or do not fit each other.
    """
    from medreasoner_infer.segmenters.sam import SamSegmenter
    from medreasoner_infer.segmenters.sam2_network import Sam2Network

    files = find_files(spec)
    config = read_config(files.config)
    settings = settings or _settings(config)
    model = build_model(config)
    load_state(model, files.weights, read_state)
    identity = identity_of(spec, files.weights, files.revision)
    network = Sam2Network(model, torch_device(device), settings.multimask)
    return SamSegmenter(network, identity, settings)


def find_files(spec: ModelSpec) -> WeightFiles:
    """Find, or fetch from Hugging Face, the configuration and the weights.

    Raises:
        ModelUnavailableError: if one of them is missing.
    """
    path = Path(spec.source)
    if path.is_dir():
        weights = path / (spec.filename or WEIGHTS_FILE)
        config = config_path(spec.config) if spec.config else path / CONFIG_FILE
        for file in (weights, config):
            if not file.is_file():
                raise ModelUnavailableError(f"The model folder {path} holds no {file.name}.")
        return WeightFiles(config, weights)
    if path.is_file():
        return WeightFiles(config_path(_required_config(spec)), path)
    return _download(spec)


def _download(spec: ModelSpec) -> WeightFiles:
    config = config_path(_required_config(spec))
    if spec.filename is None:
        raise ModelUnavailableError(
            f"{spec.source} is a Hugging Face id without a file name; name the checkpoint file."
        )
    weights, revision = download(spec.source, spec.filename, spec.revision)
    return WeightFiles(config, weights, revision)


def _required_config(spec: ModelSpec) -> str:
    if spec.config is None:
        raise ModelUnavailableError(
            f"{spec.source} is a bare SAM2 checkpoint; name its configuration, for example "
            "'sam2.1_hiera_t512' for MedSAM2 or 'sam2.1_hiera_t'."
        )
    return spec.config


def config_path(name: str) -> Path:
    """Find a configuration by path, among our own, or among those of the sam2 package.

    Raises:
        ModelUnavailableError: if there is none of this name.
    """
    if Path(name).suffix in (".yaml", ".yml") and Path(name).is_file():
        return Path(name)
    stem = Path(name).stem if name.endswith(".yaml") else name
    own = resources.files("medreasoner_infer") / "segmenters" / "configs"
    sam2 = resources.files("sam2") / "configs"
    for folder in (own, sam2 / "sam2.1", sam2 / "sam2"):
        candidate = Path(str(folder)) / f"{stem}.yaml"
        if candidate.is_file():
            return candidate
    raise ModelUnavailableError(f"There is no SAM2 configuration {name!r}; give a path to a YAML.")


def read_config(path: Path) -> DictConfig:
    """Read a configuration, on top of the one that its ``base`` names."""
    from omegaconf import OmegaConf

    config = cast("DictConfig", OmegaConf.load(path))
    base = config.pop("base", None)
    if base is None:
        return config
    return cast("DictConfig", OmegaConf.merge(read_config(config_path(base)), config))


def build_model(config: DictConfig) -> torch.nn.Module:
    """Build a ``SAM2Base`` with fresh weights, without touching hydra's global state."""
    from hydra.utils import instantiate

    model: torch.nn.Module = instantiate(config.model, _recursive_=True)
    return model


def _settings(config: DictConfig) -> SamSettings:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from medreasoner_infer.segmenters.settings import SamSettings

    schema = OmegaConf.structured(SamSettings)
    OmegaConf.set_readonly(schema.stop, False)  # frozen dataclasses become read-only nodes
    try:
        merged = OmegaConf.merge(schema, config.get("inference", {}))
        return cast("SamSettings", OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ModelUnavailableError(
            f"The section 'inference' of the model's configuration cannot be used: {error}"
        ) from error
