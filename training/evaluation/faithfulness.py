# SPDX-License-Identifier: Apache-2.0
"""Whether a model's reasoning holds, and whether its answers come from what they point to.

Each answer's statements are tested (:mod:`medreasoner_infer.checks`). Each right answer is asked
for again: without the region that it points to, taken away in several ways, without a region of the
same shape elsewhere, likewise, and on an image of the same kind of another patient. What flips
without the region depends on it; what flips without another one is a false alarm; what comes for
another patient as well was not read.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.checks import Checks
from medreasoner_infer.checks.removal import (
    Taken,
    answer_goes,
    answer_stays,
    content_of,
    elsewhere,
    pointed_at,
)
from medreasoner_infer.reasoners import Reasoner, answers_or_faults
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import Grounding, ReasonerAnswer

RIGHT_BOX_IOU = 0.5
"""From here on an answer's box counts as right."""


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
        elsewhere_flips: right answers that go with another region of the same shape: false alarms.
        removal_gone: right answers that are gone, or at another place (box IoU below 0.5), without
            their region in one of the ways at least.
        elsewhere_gone: likewise without another region.
        shuffled_same_box: right answers whose box comes for another patient's image, too.
        shuffled_same_trace: likewise, word for word the same reasoning.
    """

    answers: int
    statements_hold: Share
    not_checkable: Share
    by_kind: dict[str, Share]
    removal_flips: Share
    elsewhere_flips: Share
    removal_gone: Share
    elsewhere_gone: Share
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
    gone: list[bool] = []
    falsely_gone: list[bool] = []
    same_box: list[bool] = []
    same_trace: list[bool] = []
    for done, answer in enumerate(right, start=1):
        place = _seed(seed, answer)
        taken = pointed_at(
            answer.mask_hw,
            answer.shown.mapping.reasoner_box_to_slice_px(_box(answer.grounding)),
        )
        for regions, going, leaving in (
            (taken, flips, gone),
            (_elsewhere(taken, answer, place), false_alarms, falsely_gone),
        ):
            replies = _asked_again(reasoner, answer, [each.of(answer.shown) for each in regions])
            if replies:
                going.append(answer_goes(answer.grounding, replies, len(replies)))
                leaving.append(not all(answer_stays(answer.grounding, each) for each in replies))
        other = _other_patient(answer, answers, place)
        for reply in _asked_again(reasoner, answer, [] if other is None else [other.shown]):
            same_box.append(answer_stays(answer.grounding, reply))
            same_trace.append(answer.grounding.reasoning == reply.reasoning)
        if on_done is not None:
            on_done(done, len(right))
    return Faithfulness(
        len(answers),
        *_counted(answers),
        *map(Share.of, (flips, false_alarms, gone, falsely_gone, same_box, same_trace)),
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


def _elsewhere(taken: Sequence[Taken], answer: CheckedAnswer, seed: int) -> list[Taken]:
    """The same regions, moved together to another place; none where there is no room for them."""
    if not taken:
        return []
    largest = max((each.region_hw for each in taken), key=lambda region: int(region.sum()))
    shift = elsewhere(largest, content_of(answer.shown.image.pixels), seed)
    return [] if shift is None else [each.moved(shift) for each in taken]


def _asked_again(
    reasoner: Reasoner, answer: CheckedAnswer, slices: Sequence[DisplayedSlice]
) -> list[Grounding]:
    """What is answered on each slice; faults are left out."""
    requests = [shown.request(answer.query, reasoner.image_encoding) for shown in slices]
    replies = answers_or_faults(reasoner, requests) if requests else ()
    return [reply.grounding for reply in replies if isinstance(reply, ReasonerAnswer)]


def _other_patient(
    answer: CheckedAnswer, answers: Sequence[CheckedAnswer], seed: int
) -> CheckedAnswer | None:
    others = [
        other
        for other in answers
        if other.patient != answer.patient and other.modality == answer.modality
    ]
    return others[seed % len(others)] if others else None


def _seed(seed: int, answer: CheckedAnswer) -> int:
    """The same for the same question about the same slice, whatever was asked before it."""
    return zlib.crc32(f"{seed}\0{answer.shown.image.key}\0{answer.query}".encode())


def _box(grounding: Grounding) -> tuple[float, float, float, float]:
    if grounding.bbox_xyxy_px is None:
        raise ValueError("An answer without a box was given; only those with one are asked again.")
    return grounding.bbox_xyxy_px
