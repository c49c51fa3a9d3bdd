# SPDX-License-Identifier: Apache-2.0
"""What is known of a candidate: ``candidate.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medreasoner_infer.models.store.errors import StoreDamagedError
from medreasoner_infer.models.store.files import CANDIDATE_FILE

_FORMAT = 1


@dataclass(frozen=True)
class Provenance:
    """Where a fine-tuned reasoner comes from.

    Attributes:
        base: registry name, Hugging Face id (``@REVISION`` pins it) or folder of the model that
            was tuned; a LoRA adapter is loaded onto it.
        data_manifest_sha256: hash of the manifest of the training data.
        code_version: version or commit of the code that trained.
        seed: of the training.
        config: the training's settings.
        metrics: figures by name, as measured by whoever adds the candidate.
        parent: the candidate from which training started, if it was not the base.
        base_weights_sha256: of the base, as
            :func:`medreasoner_infer.reasoners.weights.weights_sha256` gives it; when set, an
            adapter is loaded onto a local base with these weights only.
    """

    base: str
    data_manifest_sha256: str
    code_version: str
    seed: int
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None
    base_weights_sha256: str | None = None


@dataclass(frozen=True)
class Candidate:
    """One immutable folder of the store.

    Attributes:
        name: of the folder, and under which the model answers.
        kind: ``model`` or ``adapter``.
        folder: where its files lie.
        created_at: ISO 8601 with offset.
        provenance: as given when it was added.
        licence: inherited from the parent, else from the base.
        notice: inherited likewise; what a user must know.
        files_sha256: SHA-256 of each file by name.
    """

    name: str
    kind: str
    folder: Path
    created_at: str
    provenance: Provenance
    licence: str
    notice: str | None
    files_sha256: Mapping[str, str]

    def to_json(self) -> str:
        """The text of ``candidate.json``; the folder is where that file lies."""
        fields = asdict(self)
        del fields["folder"]
        return json.dumps({"format": _FORMAT, **fields}, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, folder: Path) -> Candidate:
        """Read ``candidate.json`` of a candidate's folder.

        Raises:
            StoreDamagedError: if it is not what this library writes.
        """
        path = folder / CANDIDATE_FILE
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields.pop("format") != _FORMAT:
                raise ValueError(f"expected format {_FORMAT}")
            provenance = Provenance(**fields.pop("provenance"))
            return cls(folder=folder, provenance=provenance, **fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamagedError(
                f"{path} cannot be read ({type(error).__name__}: {error}). Restore it from a "
                "backup, or roll back to another candidate."
            ) from error
