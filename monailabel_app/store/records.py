# SPDX-License-Identifier: Apache-2.0
"""What the store gives and takes: plain frozen dataclasses, free of any database session."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from medreasoner_infer.result import Inference
from medreasoner_infer.types import Outcome as AnswerOutcome

RGB = tuple[int, int, int]


class JoinedBy(str, Enum):
    """How a submitted label found its inference.

    ID: the label names it; certain. OVERLAP: of the image's inferences its mask is the one that the
    label covers; probable. TIME_ONLY: inferred by time, the image has one inference that found
    something; probable. TIME_LATEST: inferred by time, the latest of several; uncertain.
    NOTHING: not joined.
    """

    ID = "id"
    OVERLAP = "overlap"
    TIME_ONLY = "time_only"
    TIME_LATEST = "time_latest"
    NOTHING = "nothing"

    @property
    def confidence(self) -> str:
        """In one word: certain, probable, uncertain or none."""
        return _CONFIDENCE[self]


_CONFIDENCE = {
    JoinedBy.ID: "certain",
    JoinedBy.OVERLAP: "probable",
    JoinedBy.TIME_ONLY: "probable",
    JoinedBy.TIME_LATEST: "uncertain",
    JoinedBy.NOTHING: "none",
}


class Outcome(str, Enum):
    """What the reader made of an answer."""

    ACCEPTED = "accepted"
    EDITED = "edited"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Decision:
    """A reader's word on an answer; ``reader`` is the account where the server asks for one."""

    outcome: Outcome
    reason: str | None
    decided_at: datetime
    reader: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "outcome": self.outcome.value,
            "reason": self.reason,
            "decided_at": self.decided_at.isoformat(),
            "reader": self.reader,
        }


@dataclass(frozen=True)
class Target:
    """What the reader calls a target, and its colour on the screen (red, green, blue, 0...255)."""

    name: str | None
    rgb: RGB | None = None

    @classmethod
    def of(cls, entry: object) -> Target | None:
        """From words of a client, ``name`` and ``color``; what is no name or colour is left out."""
        if not isinstance(entry, Mapping):
            return None
        name, rgb = entry.get("name"), rgb_of(entry.get("color"))
        name = " ".join(name.split()) or None if isinstance(name, str) else None
        return None if name is None and rgb is None else cls(name, rgb)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; :meth:`of` reads them."""
        return {"name": self.name, "color": None if self.rgb is None else list(self.rgb)}


def rgb_of(value: object) -> RGB | None:
    """A colour as a client writes it, maybe with an opacity, which is left out; else ``None``."""
    if not isinstance(value, Sequence) or len(value) not in (3, 4):
        return None
    if not all(type(part) is int and 0 <= part <= 255 for part in value):
        return None
    red, green, blue = value[:3]
    return red, green, blue


class PacsState(str, Enum):
    """Where a document is on its way to the archive.

    PENDING: to be sent, or to be tried again. SENT: the archive has it. FAILED: it cannot be made
    or the archive refuses it; trying again would not help. SUPERSEDED: a newer version of the
    record was submitted before this one had been sent.
    """

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True)
class PacsDocument:
    """What the archive has, or is to have, of a record: one version of it.

    ``version`` counts from 1; ``key`` is the record, ``error`` the sentence of the last fault.
    """

    id: int
    key: str
    version: int
    inference_id: str | None
    label_id: int | None
    image_id: str
    study_uid: str | None
    state: PacsState
    tries: int
    created_at: datetime
    next_try_at: datetime | None
    sent_at: datetime | None
    error: str | None
    seg_series_uid: str | None
    seg_instance_uid: str | None
    report_series_uid: str | None
    report_instance_uid: str | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["state"] = self.state.value
        for name in ("created_at", "next_try_at", "sent_at"):
            values[name] = None if values[name] is None else values[name].isoformat()
        return values


@dataclass(frozen=True)
class LabelSubmission:
    """A label that a reader submits: MONAI Label's image id, tag, file and info.

    ``asked_by`` is the reader whose answers alone it may be joined to without naming one; ``None``
    for anybody's.
    """

    image_id: str
    tag: str
    file: Path | None
    info: Mapping[str, Any]
    asked_by: str | None = None

    @property
    def inference_id(self) -> str | None:
        """The inference that the label's info names, wherever clients put it."""
        said = self.info.get("client")
        return named_inference(self.info) or named_inference(said)


def named_inference(info: object) -> str | None:
    """The inference that a caller's words name."""
    if not isinstance(info, Mapping):
        return None
    segments = info.get("label_info")
    places = [info, info.get("params"), info.get("medreasoner")]
    places += segments if isinstance(segments, list) else []
    for place in places:
        if isinstance(place, Mapping) and isinstance(place.get("inference_id"), str):
            return str(place["inference_id"])
    return None


@dataclass(frozen=True)
class LabelRecord:
    """A submitted label as recorded; ``file`` is the copy kept in the store."""

    id: int
    submitted_at: datetime
    image_id: str
    tag: str
    inference_id: str | None
    joined_by: JoinedBy
    explanation: str
    info: dict[str, Any]
    sha256: str | None
    file: Path | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "id": self.id,
            "submitted_at": self.submitted_at.isoformat(),
            "image_id": self.image_id,
            "tag": self.tag,
            "inference_id": self.inference_id,
            "joined_by": self.joined_by.value,
            "join_confidence": self.joined_by.confidence,
            "join_explanation": self.explanation,
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class InferenceRecord:
    """An inference as recorded; ``mask_file`` is ``None`` once retention has dropped the mask.

    ``doubt_file`` holds by voxel how many of the readings hold it, as long as the mask is kept.
    ``asked_by`` is the account where the server asks for one, ``target`` what the reader calls it.
    """

    id: str
    created_at: datetime
    task: str
    image_id: str | None
    present: bool
    result: Inference
    mask_sha256: str | None
    mask_file: Path | None
    labels: tuple[LabelRecord, ...] = ()
    study_uid: str | None = None
    decision: Decision | None = None
    pacs: tuple[PacsDocument, ...] = ()
    asked_by: str | None = None
    target: Target | None = None
    doubt_file: Path | None = None

    @property
    def query(self) -> str | None:
        """The question, ``None`` for the segmenter alone."""
        return self.result.query

    @property
    def outcome(self) -> AnswerOutcome:
        """What the answer says of the target."""
        return self.result.outcome

    @property
    def can_be_accepted(self) -> bool:
        """Whether the answer says anything: what was not understood may have the reader's mask."""
        return self.outcome != "not_understood" or self.result.mask.voxels > 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types, with the whole result."""
        return {
            "inference_id": self.id,
            "created_at": self.created_at.isoformat(),
            "task": self.task,
            "image_id": self.image_id,
            "asked_by": self.asked_by,
            "present": self.present,
            "outcome": self.outcome,
            "result": self.result.to_dict(),
            "mask_sha256": self.mask_sha256,
            "mask_kept": self.mask_file is not None,
            "doubt_map_kept": self.doubt_file is not None,
            "labels": [label.to_dict() for label in self.labels],
            "study_uid": self.study_uid,
            "decision": None if self.decision is None else self.decision.to_dict(),
            "target": None if self.target is None else self.target.to_dict(),
            "pacs": [document.to_dict() for document in self.pacs],
        }


@dataclass(frozen=True)
class TrainingLabel:
    """A reader's label together with the inference it corrects: one training example.

    ``label_file`` is a label map on the image's grid, the target non-zero.
    """

    inference: InferenceRecord
    label: LabelRecord
    label_file: Path
