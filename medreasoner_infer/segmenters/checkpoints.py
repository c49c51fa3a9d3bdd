# SPDX-License-Identifier: Apache-2.0
"""Files of weights: fetched, checked, read without running code, put into a network."""

from __future__ import annotations

import pickle  # nosec B403 # for the name of its error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.advice import download_command
from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.hashing import files_sha256
from medreasoner_infer.types import ModelIdentity, ModelSpec

if TYPE_CHECKING:
    import torch


def download(
    source: str, filename: str, revision: str | None, *, alone: bool = True
) -> tuple[Path, str]:
    """Fetch a file from Hugging Face, or find it in the local cache.

    Args:
        source: the repository.
        filename: the file in it.
        revision: commit or tag.
        alone: whether the model needs no other file, so that the advice is to fetch it alone.

    Returns:
        The file, and the commit that was really fetched, whatever tag asked for it.

    Raises:
        ModelUnavailableError: if it cannot be had.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = Path(hf_hub_download(source, filename, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailableError(
            f"{filename} of {source} could not be had from Hugging Face "
            f"({type(error).__name__}). Check the network and the revision, give a local path, or "
            "fetch it before with: "
            f"{download_command(source, filename if alone else None, revision)}"
        ) from error
    # .../snapshots/<commit>/<file>
    return path, path.parents[len(Path(filename).parts) - 1].name


def identity_of(spec: ModelSpec, weights: Path, revision: str | None) -> ModelIdentity:
    """Which weights were loaded, by the hash of their file.

    Raises:
        ModelUnavailableError: if the hash is not the one that the registry wants.
    """
    found = files_sha256(weights)
    if spec.weights_sha256 not in (None, found):
        raise ModelUnavailableError(
            f"The weights {weights} of {spec.name} have the SHA-256 {found}; expected "
            f"{spec.weights_sha256}. Install or fetch them anew."
        )
    return ModelIdentity(
        name=spec.name,
        source=spec.source,
        revision=revision,
        weights_sha256=found,
        licence=spec.licence,
        notice=spec.notice,
    )


def load_state(
    model: torch.nn.Module, path: Path, read: Callable[[Path], Mapping[str, torch.Tensor]]
) -> None:
    """Put the weights of a file into the network that they belong to.

    Args:
        model: takes exactly the tensors that ``read`` gives.
        path: the file.
        read: reads it, by the names of ``model``.

    Raises:
        ModelUnavailableError: if the file cannot be read or does not fit the network.
    """
    from safetensors import SafetensorError

    unreadable = (OSError, EOFError, pickle.UnpicklingError, SafetensorError)
    unfit = (RuntimeError, KeyError, TypeError, ValueError)  # what load_state_dict() may raise
    try:
        model.load_state_dict(read(path))
    except (*unreadable, *unfit) as error:
        raise ModelUnavailableError(
            f"The weights {path} could not be loaded into the network that the configuration "
            f"describes. Check that both belong together. ({str(error)[:300]})"
        ) from error


def read_state(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a safetensors file or a checkpoint, where they may lie under ``model``.

    Raises:
        TypeError: if a checkpoint holds anything else.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights: dict[str, torch.Tensor] = load_file(path)
        return weights
    import torch

    state: object = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, Mapping):
        state = state.get("model", state)
    if not isinstance(state, Mapping):
        raise TypeError(f"it holds a {type(state).__name__}, expected tensors by their names")
    return state


def torch_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA where there is one.

    Raises:
        ModelUnavailableError: if there is no such device here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailableError(f"Device {name!r} was asked for, but there is no CUDA device.")
    return device
