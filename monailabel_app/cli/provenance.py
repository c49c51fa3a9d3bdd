# SPDX-License-Identifier: Apache-2.0
"""Where a model that was trained elsewhere comes from, as far as its files and the user tell."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from medreasoner_infer.models.registry import EMBEDDED, resolve_model
from medreasoner_infer.models.store import (
    Candidate,
    CandidateRefusedError,
    Provenance,
    StoreDamagedError,
)
from medreasoner_infer.models.store.files import CANDIDATE_FILE, check_files

UNKNOWN_DATA = "unknown"


def provenance_of(
    folder: Path,
    *,
    base: str | None,
    data: Path | None,
    parent: str | None,
    seed: int | None,
    code_version: str | None,
) -> Provenance:
    """The provenance of a model's folder.

    Args:
        folder: of a full model or a LoRA adapter, whose ``adapter_config.json`` names its base; or
            of a candidate of a run's own store, which tells all that is not given here.
        base: model that was tuned; by default what the adapter names, else the embedded reasoner.
        data: folder of the training data; its manifest is hashed.
        parent: candidate from which the training started.
        seed: of the training.
        code_version: of the code that trained it.

    Raises:
        DatasetFolderError, DatasetChangedError: ``data`` is no whole data set.
        CandidateRefusedError: the adapter's configuration, or what is told of a candidate, cannot
            be read.
        CandidateChangedError: a candidate's files are not those that were added.
        UnknownModelError: the base means nothing.
    """
    told = _told_of_candidate(folder)
    if told is not None and base in (None, told.base):
        found, weights = told.base, told.base_weights_sha256
    else:
        found = base or _adapter_base(folder) or EMBEDDED
        weights = _weights_sha256(found)
    known = told or Provenance(found, UNKNOWN_DATA, "unknown", seed=0)
    return replace(
        known,
        base=found,
        data_manifest_sha256=known.data_manifest_sha256 if data is None else _manifest_sha256(data),
        code_version=code_version or known.code_version,
        seed=known.seed if seed is None else seed,
        parent=parent or known.parent,
        base_weights_sha256=weights,
    )


def _told_of_candidate(folder: Path) -> Provenance | None:
    if not (folder / CANDIDATE_FILE).is_file():
        return None
    try:
        candidate = Candidate.read(folder)
    except StoreDamagedError as error:
        raise CandidateRefusedError(
            f"{folder / CANDIDATE_FILE} is not what is written of a candidate; remove it, or take "
            "the candidate's folder as it was."
        ) from error
    check_files(folder, candidate.files_sha256)
    return candidate.provenance


def _adapter_base(folder: Path) -> str | None:
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise CandidateRefusedError(
            f"{path} names no base_model_name_or_path ({type(error).__name__}); give --base."
        ) from error
    return str(name) if name else None


def _manifest_sha256(data: Path) -> str:
    from medreasoner_training.samples import open_dataset

    return open_dataset(data).manifest_sha256


def _weights_sha256(base: str) -> str | None:
    """Of a base on this machine, so that the adapter is never put onto other weights."""
    from medreasoner_infer.reasoners.weights import weights_sha256

    spec = resolve_model("reasoner", base)
    return weights_sha256(Path(spec.source)) if spec.is_local else None
