# SPDX-License-Identifier: Apache-2.0
"""From a model specification to a loaded SAM2 segmenter.

Weights come from a folder (``config.yaml`` and ``model.safetensors``), from a checkpoint file with
the name of a configuration, or from Hugging Face.
"""

from __future__ import annotations

import pickle  # nosec B403 # for the name of its error
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medreasoner_infer.advice import download_command
from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.hashing import files_sha256
from medreasoner_infer.types import ModelIdentity, ModelSpec

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from medreasoner_infer.segmenters.sam2 import Sam2Segmenter
    from medreasoner_infer.segmenters.settings import Sam2Settings

CONFIG_FILE = "config.yaml"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class WeightFiles:
    """The files of a model on this machine; ``revision`` is the Hugging Face commit, if any."""

    config: Path
    weights: Path
    revision: str | None = None


def load_sam2(
    spec: ModelSpec, *, device: str = "auto", settings: Sam2Settings | None = None
) -> Sam2Segmenter:
    """Load a SAM2 or MedSAM2.

    Args:
        spec: where the weights are; ``config`` (name or path of a configuration) and ``filename``
            are needed for checkpoints outside a model folder.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``...
        settings: how to use the model; the default is what its configuration says.

    Raises:
        ModelUnavailableError: if files are missing, cannot be read or do not fit each other.
    """
    from medreasoner_infer.segmenters.network import Sam2Network
    from medreasoner_infer.segmenters.sam2 import Sam2Segmenter

    files = find_files(spec)
    config = read_config(files.config)
    settings = settings or _settings(config)
    model = build_model(config)
    _load_weights(model, files.weights)
    identity = ModelIdentity(
        name=spec.name,
        source=spec.source,
        revision=files.revision,
        weights_sha256=files_sha256(files.weights),
        licence=spec.licence,
        notice=spec.notice,
    )
    network = Sam2Network(model, _torch_device(device), settings.multimask)
    return Sam2Segmenter(network, identity, settings)


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
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    config = config_path(_required_config(spec))
    if spec.filename is None:
        raise ModelUnavailableError(
            f"{spec.source} is a Hugging Face id without a file name; name the checkpoint file."
        )
    try:
        weights = Path(hf_hub_download(spec.source, spec.filename, revision=spec.revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailableError(
            f"{spec.filename} of {spec.source} could not be had from Hugging Face "
            f"({type(error).__name__}). Check the network and the revision, give a local path, or "
            f"fetch it before with: {download_command(spec.source, spec.filename, spec.revision)}"
        ) from error
    # .../snapshots/<commit>/<file>: the commit that was really fetched, whatever tag asked for it
    return WeightFiles(config, weights, _commit_of(weights, spec.filename))


def _commit_of(weights: Path, filename: str) -> str:
    return weights.parents[len(Path(filename).parts) - 1].name


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


def _settings(config: DictConfig) -> Sam2Settings:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from medreasoner_infer.segmenters.settings import Sam2Settings

    schema = OmegaConf.structured(Sam2Settings)
    OmegaConf.set_readonly(schema.stop, False)  # frozen dataclasses become read-only nodes
    try:
        merged = OmegaConf.merge(schema, config.get("inference", {}))
        return cast("Sam2Settings", OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ModelUnavailableError(
            f"The section 'inference' of the model's configuration cannot be used: {error}"
        ) from error


def _load_weights(model: torch.nn.Module, path: Path) -> None:
    from safetensors import SafetensorError

    unreadable = (OSError, pickle.UnpicklingError, SafetensorError)
    unfit = (RuntimeError, KeyError, TypeError, ValueError)  # what load_state_dict() may raise
    try:
        model.load_state_dict(_read_weights(path))
    except (*unreadable, *unfit) as error:
        raise ModelUnavailableError(
            f"The weights {path} could not be loaded into the network that the configuration "
            f"describes. Check that both belong together. ({str(error)[:300]})"
        ) from error


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights: dict[str, torch.Tensor] = load_file(path)
        return weights
    import torch

    state: dict[str, dict[str, torch.Tensor]] = torch.load(
        path, map_location="cpu", weights_only=True
    )
    return state["model"]


def _torch_device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailableError(f"Device {name!r} was asked for, but there is no CUDA device.")
    return device
