# SPDX-License-Identifier: Apache-2.0
"""Whether a model's reasoning holds, and whether its answers come from what they point to.

Each answer's statements are tested (:mod:`medreasoner_infer.checks`). Each right answer is asked
for three times more: without the region that it points to, without a region of the same size
elsewhere, and on an image of the same kind of another patient. What flips without the region
depends on it; what flips without another one is a false alarm; what comes for another patient as
well was not read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.checks import Checks
from medreasoner_infer.checks.removal import answer_stays, elsewhere, pointed_at, without
from medreasoner_infer.reasoners import Reasoner, answers_or_faults
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import Grounding, ReasonerAnswer

RIGHT_BOX_IOU = 0.5
"""From here on an answer's box counts as right."""
_CONTENT_ABOVE = 12
"""Displayed grey; darker is air, of which nothing can be taken away."""


@dataclass(frozen=True, eq=False)
class CheckedAnswer:
    """An answer with a box, with all that is needed to ask for it again.

    Attributes:
        shown: the slice that was read.
        query: the question.
        grounding: what was answered, in reasoner px.
        mask_hw: what the segmenter made of it, bool (H, W) in slice px.
        checks: of its statements.
        right: whether its box is the true one.
        patient: whose image it is.
        modality: of the image, in the data set's words.
    """

    shown: DisplayedSlice
    query: str
    grounding: Grounding
    mask_hw: NDArray[np.bool_]
    checks: Checks
    right: bool
    patient: str
    modality: str


@dataclass(frozen=True)
class Share:
    """``yes`` of ``n``; ``share`` is ``None`` where there was none."""

    yes: int
    n: int

    @classmethod
    def of(cls, found: Iterable[bool]) -> Share:
        """How many of them are true."""
        listed = list(found)
        return cls(sum(map(bool, listed)), len(listed))

    @property
    def share(self) -> float | None:
        """0...1."""
        return self.yes / self.n if self.n else None

    def to_dict(self) -> dict[str, Any]:
        """With the share itself."""
        return {"yes": self.yes, "n": self.n, "share": self.share}


@dataclass(frozen=True)
class Faithfulness:
    """The figures of a model.

    Attributes:
        answers: that were checked, all with a box.
        statements_hold: of the statements that can be checked.
        not_checkable: of all statements.
        by_kind: those that hold of those that can be checked, by kind.
        removal_flips: right answers that go with their region.
        elsewhere_flips: right answers that go with another region of the same size: false alarms.
        shuffled_same_box: right answers whose box comes for another patient's image, too.
        shuffled_same_trace: likewise, word for word the same reasoning.
    """

    answers: int
    statements_hold: Share
    not_checkable: Share
    by_kind: dict[str, Share]
    removal_flips: Share
    elsewhere_flips: Share
    shuffled_same_box: Share
    shuffled_same_trace: Share

    def to_dict(self) -> dict[str, Any]:
        """As in ``report.json``: of each figure how many, of how many, and the share."""
        values: dict[str, Any] = {"answers": self.answers}
        for each in fields(self)[1:]:
            found = getattr(self, each.name)
            is_share = isinstance(found, Share)
            values[each.name] = (
                found.to_dict() if is_share else {k: v.to_dict() for k, v in found.items()}
            )
        return values


def faithfulness_of(
    reasoner: Reasoner,
    answers: Sequence[CheckedAnswer],
    seed: int = 0,
    on_done: Callable[[int, int], None] | None = None,
) -> Faithfulness:
    """Ask again for what was answered right, and count.

    Args:
        reasoner: who answered.
        answers: of one data set.
        seed: of the regions elsewhere and of the other patients' images.
        on_done: called with (right answers done, all of them).

    Raises:
        ServiceError: the reasoner cannot answer now.
    """
    right = [answer for answer in answers if answer.right]
    flips: list[bool] = []
    false_alarms: list[bool] = []
    same_box: list[bool] = []
    same_trace: list[bool] = []
    for done, answer in enumerate(right, start=1):
        region = pointed_at(
            answer.mask_hw,
            answer.shown.mapping.reasoner_box_to_slice_px(_box(answer.grounding)),
        )
        place = _seed(seed, answer)
        other = _other_patient(answer, answers, place)
        moved = elsewhere(region, _content(answer.shown), place)
        replies = _asked_again(
            reasoner,
            answer,
            without(answer.shown, region),
            None if moved is None else without(answer.shown, moved),
            None if other is None else other.shown,
        )
        for reply, counted in zip(replies[:2], (flips, false_alarms), strict=True):
            if reply is not None:
                counted.append(not answer_stays(answer.grounding, reply))
        if replies[2] is not None:
            same_box.append(answer_stays(answer.grounding, replies[2]))
            same_trace.append(answer.grounding.reasoning == replies[2].reasoning)
        if on_done is not None:
            on_done(done, len(right))
    return Faithfulness(
        len(answers),
        *_counted(answers),
        *map(Share.of, (flips, false_alarms, same_box, same_trace)),
    )


def _counted(answers: Sequence[CheckedAnswer]) -> tuple[Share, Share, dict[str, Share]]:
    statements = [statement for answer in answers for statement in answer.checks.statements]
    tested = [each for each in statements if each.verdict != "cannot be checked"]
    kinds = sorted({each.kind for each in tested})
    return (
        Share.of(each.verdict == "holds" for each in tested),
        Share(len(statements) - len(tested), len(statements)),
        {k: Share.of(e.verdict == "holds" for e in tested if e.kind == k) for k in kinds},
    )


def _asked_again(
    reasoner: Reasoner, answer: CheckedAnswer, *slices: DisplayedSlice | None
) -> list[Grounding | None]:
    """What is answered on each slice; ``None`` where there is none, or no answer."""
    asked = [shown for shown in slices if shown is not None]
    requests = [shown.request(answer.query, reasoner.image_encoding) for shown in asked]
    replies = iter(answers_or_faults(reasoner, requests))
    found = [None if shown is None else next(replies) for shown in slices]
    return [reply.grounding if isinstance(reply, ReasonerAnswer) else None for reply in found]


def _other_patient(
    answer: CheckedAnswer, answers: Sequence[CheckedAnswer], seed: int
) -> CheckedAnswer | None:
    others = [
        other
        for other in answers
        if other.patient != answer.patient and other.modality == answer.modality
    ]
    return others[seed % len(others)] if others else None


def _content(shown: DisplayedSlice) -> NDArray[np.bool_]:
    pixels = shown.image.pixels
    return np.asarray((pixels if pixels.ndim == 2 else pixels.max(axis=2)) > _CONTENT_ABOVE)


def _seed(seed: int, answer: CheckedAnswer) -> int:
    """The same for the same question about the same slice, whatever was asked before it."""
    return zlib.crc32(f"{seed}\0{answer.shown.image.key}\0{answer.query}".encode())


def _box(grounding: Grounding) -> tuple[float, float, float, float]:
    if grounding.bbox_xyxy_px is None:
        raise ValueError("An answer without a box was given; only those with one are asked again.")
    return grounding.bbox_xyxy_px
