# SPDX-License-Identifier: Apache-2.0
"""Finding a model's folder, and the hash that names its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.advice import download_command
from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.hashing import files_sha256

# Pickled weights can run code when loaded, so they are not even downloaded.
_WANTED_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model"]


@dataclass(frozen=True)
class ModelFolder:
    """A model on this disk; ``revision`` is the commit it was downloaded at, if it was."""

    path: Path
    revision: str | None


def locate_model(source: str, revision: str | None) -> ModelFolder:
    """The folder of a local path or of a Hugging Face id, downloaded where necessary.

    Raises:
        ModelUnavailableError: if there is no such folder or repository, or it has no safetensors.
    """
    path = Path(source).expanduser()
    found = ModelFolder(path, revision) if path.is_dir() else _download(source, revision)
    if not any(found.path.glob("*.safetensors")):
        raise ModelUnavailableError(
            f"{source} holds no *.safetensors file; other formats of weights are not loaded."
        )
    return found


def _download(repository: str, revision: str | None) -> ModelFolder:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(repository, revision=revision, allow_patterns=_WANTED_FILES)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelUnavailableError(
            f"{repository} is no folder of this machine, and could not be downloaded from Hugging "
            f"Face at revision {revision or 'main'} ({type(error).__name__}). Check the name and "
            "the network, give a local folder, or fetch it before with: "
            f"{download_command(repository, None, revision)}"
        ) from error
    return ModelFolder(Path(folder), Path(folder).name)


def weights_sha256(*folders: Path) -> str:
    """SHA-256 over the bytes of all safetensors files, folder by folder, each sorted by name.

    For a single file this is the file's own hash, as ``sha256sum`` prints it.
    """
    return files_sha256(
        *(path for folder in folders for path in sorted(folder.glob("*.safetensors")))
    )


def locate_adapter(folder: Path) -> Path:
    """The folder of a LoRA adapter.

    Raises:
        ModelUnavailableError: if it holds no adapter in the safetensors format.
    """
    path = folder.expanduser()
    if not (path / "adapter_model.safetensors").is_file():
        raise ModelUnavailableError(
            f"{path} holds no adapter_model.safetensors; expected the folder of a LoRA adapter."
        )
    return path
