# SPDX-License-Identifier: Apache-2.0
"""Which files a model's folder may hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from medreasoner_infer.hashing import files_sha256
from medreasoner_infer.models.store.errors import CandidateChangedError, CandidateRefusedError

CANDIDATE_FILE = "candidate.json"
_ADAPTER_FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})
# A list of what is allowed: pickled weights come under many suffixes, and code under others.
_SAFE_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".jinja", ".md"})
_SAFE_NAMES = frozenset({"tokenizer.model", "LICENSE", "NOTICE"})


def safe_model_files(folder: Path) -> tuple[Path, ...]:
    """The files of a model's or adapter's folder, sorted, if every one of them is harmless.

    What a store wrote of a candidate beside its files is left out.

    Raises:
        CandidateRefusedError: if there is no such folder, or it holds subfolders, links, or files
            that are neither safetensors nor text, or a safetensors file that is none.
    """
    if not folder.is_dir():
        raise CandidateRefusedError(f"{folder} is no folder; expected a model or a LoRA adapter.")
    files = tuple(sorted(path for path in folder.iterdir() if path.name != CANDIDATE_FILE))
    for path in files:
        if path.is_symlink() or not path.is_file() or not _has_safe_name(path):
            raise CandidateRefusedError(
                f"{folder} holds {path.name!r}; expected plain files only: *.safetensors, "
                "configuration, tokenizer and text. Pickled weights (.bin, .pt) and code are not "
                "taken, nor are training states; remove it."
            )
        if path.suffix == ".safetensors":
            _refuse_false_safetensors(path)
    return files


def _has_safe_name(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.suffix in _SAFE_SUFFIXES or path.name in _SAFE_NAMES


def _refuse_false_safetensors(path: Path) -> None:
    """Read the header, which a renamed pickle does not have."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            count = len(tensors.keys())
    except SafetensorError as error:
        raise CandidateRefusedError(
            f"{path.name!r} is named safetensors, but is none ({error}); save the weights with "
            "save_pretrained."
        ) from error
    if count == 0:
        raise CandidateRefusedError(f"{path.name!r} holds no tensor.")


def kind_of_model(files: tuple[Path, ...]) -> str:
    """``adapter`` for a LoRA adapter, ``model`` for a full model.

    Raises:
        CandidateRefusedError: if it is neither.
    """
    names = {path.name for path in files}
    if names >= _ADAPTER_FILES:
        return "adapter"
    if "config.json" in names and any(path.suffix == ".safetensors" for path in files):
        return "model"
    raise CandidateRefusedError(
        "The folder is neither a LoRA adapter (adapter_config.json, adapter_model.safetensors) nor "
        "a full model (config.json, *.safetensors)."
    )


def copy_durably(files: tuple[Path, ...], folder: Path) -> dict[str, str]:
    """Copy into ``folder``, read-only, and return the SHA-256 of each copy by name."""
    hashes = {}
    for source in files:
        copy = folder / source.name
        shutil.copyfile(source, copy)
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        copy.chmod(0o444)
        hashes[copy.name] = files_sha256(copy)
    return hashes


def check_files(folder: Path, files_sha256_by_name: Mapping[str, str]) -> None:
    """Compare every file of a candidate with the hash recorded when it was added.

    Raises:
        CandidateChangedError: if one is missing, was added, or differs.
    """
    found = {path.name for path in folder.iterdir()} - {CANDIDATE_FILE}
    if found != set(files_sha256_by_name):
        odd = ", ".join(sorted(found ^ set(files_sha256_by_name)))
        raise CandidateChangedError(
            f"{folder} has files that were not added, or lacks some that were: {odd}. Add the "
            "model anew under another name."
        )
    for name, expected in files_sha256_by_name.items():
        actual = files_sha256(folder / name)
        if actual != expected:
            raise CandidateChangedError(
                f"{folder / name} was changed: SHA-256 {actual[:12]}…, expected {expected[:12]}…. "
                "Add the model anew under another name."
            )
