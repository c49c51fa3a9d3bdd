# SPDX-License-Identifier: Apache-2.0
"""One recorded answer as an audit counts it: no text that a person wrote, and no identifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from medreasoner_infer.laterality import asked_target, side_word, without_side
from medreasoner_infer.types import ModelIdentity, Outcome
from monailabel_app.audit.masks import submitted
from monailabel_app.dicom.codes import code_table
from monailabel_app.store import InferenceRecord

OTHER_TARGET = "other"
"""Of an answer whose target has no name that the vocabulary or the table of codes holds."""
_HASH_CHARACTERS = 12


@dataclass(frozen=True)
class Identifiers:
    """What tells whose image it was and who worked at it; ``None`` where that is not recorded."""

    inference_id: str
    image_id: str | None
    study_uid: str | None
    asked_by: str | None
    decided_by: str | None


@dataclass(frozen=True)
class Weights:
    """Which weights answered; ``sha256`` is ``None`` where a server did not tell."""

    name: str
    sha256: str | None

    @classmethod
    def of(cls, model: ModelIdentity) -> Weights:
        """Of a record."""
        return cls(model.name, model.weights_sha256)

    def __str__(self) -> str:
        """The name and the beginning of the hash."""
        return self.name if self.sha256 is None else f"{self.name} {self.sha256[:_HASH_CHARACTERS]}"


@dataclass(frozen=True)
class AuditedAnswer:
    """An answer and what became of it.

    Attributes:
        asked_at: UTC.
        target: a name of the vocabulary or of the table of codes, else :data:`OTHER_TARGET`.
        modality: DICOM code.
        outcome: what the answer says of the target.
        by_question: whether a reasoner was asked, not the segmenter alone.
        reasoner: which weights; ``None`` where none was asked.
        segmenter: likewise.
        confidence: 0...1, where it is a calibrated probability; else ``None``.
        agreement: of several sampled answers, 0...1.
        support: for the answer, 0...1, where several were sampled; ``None`` in older records.
        answer_s: seconds from the question to the answer.
        decision: ``accepted``, ``edited`` or ``rejected``; ``None`` while nobody decided.
        decision_s: seconds from the answer to the decision.
        dice: of the model's mask with the reader's; ``None`` where there is no pair of them.
        masked_at: when the reader's final mask of this answer was submitted.
        identifiers: of the record.
        question: as it was asked.
    """

    asked_at: datetime
    target: str
    modality: str
    outcome: Outcome
    by_question: bool
    reasoner: Weights | None
    segmenter: Weights
    confidence: float | None
    agreement: float | None
    support: float | None
    answer_s: float
    decision: str | None
    decision_s: float | None
    dice: float | None
    masked_at: datetime | None
    identifiers: Identifiers
    question: str | None

    @property
    def week(self) -> date:
        """The Monday (UTC) of its week."""
        day = self.asked_at.date()
        return day - timedelta(days=day.weekday())


def audited(
    record: InferenceRecord, dice_of: Callable[[InferenceRecord], float | None]
) -> AuditedAnswer:
    """What an audit counts of a record.

    Args:
        record: of the store.
        dice_of: compares the record's mask with the reader's, as :mod:`.masks` does.
    """
    result, decision, label = record.result, record.decision, submitted(record)
    waited = None if decision is None else decision.decided_at - record.created_at
    return AuditedAnswer(
        asked_at=record.created_at,
        target=target_of(record),
        modality=result.modality,
        outcome=record.outcome,
        by_question=result.kind == "ask",
        reasoner=None if result.reasoner is None else Weights.of(result.reasoner),
        segmenter=Weights.of(result.segmenter),
        confidence=result.confidence if result.calibrated else None,
        agreement=result.agreement,
        support=None if result.doubt is None else result.doubt.support,
        answer_s=result.total_s,
        decision=None if decision is None else decision.outcome.value,
        # A clock that was set back tells no time.
        decision_s=None if waited is None else max(0.0, waited.total_seconds()),
        dice=dice_of(record),
        masked_at=None if label is None else label.submitted_at,
        identifiers=Identifiers(
            record.id,
            record.image_id,
            record.study_uid,
            record.asked_by,
            None if decision is None else decision.reader,
        ),
        question=record.query,
    )


def target_of(record: InferenceRecord) -> str:
    """What the reader calls the target, else what the question asks for, in listed names alone."""
    called = None if record.target is None else record.target.name
    names = (_listed(text) for text in (called, record.query) if text)
    return next((name for name in names if name is not None), OTHER_TARGET)


@lru_cache(maxsize=1 << 14)  # reading a question takes milliseconds, and sites ask the same ones
def _listed(text: str) -> str | None:
    name = code_table().named_by(text) or asked_target(text)
    side = None if name is None else side_word(name)
    return name if name is None or side is None else f"{side} {without_side(name)}"
