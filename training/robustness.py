# SPDX-License-Identifier: Apache-2.0
"""Whether a reasoner's answer depends on what must not matter.

The same target of the same slice is asked for in other words, in other languages, with typing
errors and in capitals, and the same question is put to the slice in other windows, shifted and
mirrored. How far the answers agree is known without any truth. The paper leaves the question open
(arXiv 2508.08177, limitations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.imaging import Window, letterbox, slice_image
from medreasoner_infer.language import LANGUAGES, Language, unsided
from medreasoner_infer.reasoners import Reasoner, prepare_image
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import XYXY, Outcome, ReasonerAnswer, ReasonerRequest
from medreasoner_training.embedded.questions import Kind, QuestionWriter

VariationKind = Literal[
    "same question",
    "other words",
    "description",
    "other language",
    "typing error",
    "capitals",
    "window",
    "shift",
    "mirror",
]
VARIATION_KINDS: tuple[VariationKind, ...] = get_args(VariationKind)
NAME_KINDS: tuple[Kind, ...] = ("name", "synonym", "lay", "latin")
WINDOW_CHANGES = ((0.0, 0.75), (0.0, 1.35), (0.15, 1.0), (-0.15, 1.0))
"""Of the centre in widths, and of the width as a factor."""
SHIFTS = ((0.06, 0.0), (-0.06, 0.0), (0.0, 0.06), (0.0, -0.06))
"""Of the picture along x and y, in sides of the square."""
_DRAWS = 40


@dataclass(frozen=True)
class Variation:
    """One way to ask: ``square`` is uint8 (S, S, 3); ``back`` leads a box to the image as it is."""

    kind: VariationKind
    language: Language
    query: str
    square: NDArray[np.uint8]
    back: Callable[[XYXY], XYXY]


@dataclass(frozen=True)
class Varied:
    """What was answered to a variation, beside the answer to the plain question.

    ``bbox_xyxy_px`` is in the reasoner px of the image as it is; ``other_side`` tells that the box
    of a sided target lies in the other half of the picture than the plain answer's.
    """

    kind: VariationKind
    language: Language
    query: str
    outcome: Outcome
    bbox_xyxy_px: XYXY | None
    iou: float
    other_side: bool


def plain_question(target: str) -> str:
    """The question that all others are compared with."""
    return f"Segment the {target}."


def variations(
    shown: DisplayedSlice, target: str, per_kind: int = 4, seed: int = 0
) -> Iterator[Variation]:
    """Every way in which the question is put; the plain one first.

    Args:
        shown: the slice, as displayed to the reasoner.
        target: name in the vocabulary, with its side.
        per_kind: questions of each way of wording.
        seed: equal seeds give equal questions.

    Raises:
        InputError: the vocabulary does not hold the target.
    """
    square = letterbox(shown.image, shown.mapping)
    plain = plain_question(target)

    def worded(kind: VariationKind, query: str, language: Language = "en") -> Variation:
        return Variation(kind, language, query, square, _as_it_is)

    yield worded("same question", plain)
    yield worded("capitals", plain.upper())
    rng, writer = np.random.default_rng(seed), QuestionWriter(known=[unsided(target)])
    for kind, language, query in _questions(writer, target, per_kind, rng):
        yield worded(kind, query, language)
    for window in _windows(shown.window):
        image = slice_image(shown.volume, shown.mapping, window)
        yield Variation("window", "en", plain, letterbox(image, shown.mapping), _as_it_is)
    yield from _moved(square, plain)
    if unsided(target) == target:
        yield Variation("mirror", "en", plain, square[:, ::-1].copy(), _mirrored(len(square)))


def _questions(
    writer: QuestionWriter, target: str, per_kind: int, rng: np.random.Generator
) -> Iterator[tuple[VariationKind, Language, str]]:
    yield from _worded(writer, target, "other words", NAME_KINDS, "en", per_kind, rng)
    yield from _worded(writer, target, "description", ("implicit",), "en", per_kind, rng)
    yield from _worded(writer, target, "typing error", ("misspelt",), "en", per_kind, rng)
    for language in LANGUAGES[1:]:
        yield from _worded(writer, target, "other language", ("name",), language, 1, rng)


def _worded(
    writer: QuestionWriter,
    target: str,
    kind: VariationKind,
    kinds: Sequence[Kind],
    language: Language,
    count: int,
    rng: np.random.Generator,
) -> Iterator[tuple[VariationKind, Language, str]]:
    found: set[str] = set()
    for _ in range(_DRAWS * count):
        split = ("train", "test")[int(rng.integers(2))]
        drawn = writer.write(kinds[int(rng.integers(len(kinds)))], language, split, rng)  # type: ignore[arg-type]
        if drawn is not None and drawn.target == target and drawn.text not in found:
            found.add(drawn.text)
            yield kind, language, drawn.text
        if len(found) == count:
            return


def _windows(window: Window | None) -> Iterator[Window]:
    """Windows that a reader might have chosen as well; none for 8 bit and colour."""
    if window is not None:
        for centre, width in WINDOW_CHANGES:
            yield Window(window.center + centre * window.width, window.width * width)


def _moved(square: NDArray[np.uint8], query: str) -> Iterator[Variation]:
    side = len(square)
    for x_share, y_share in SHIFTS:
        dx, dy = round(x_share * side), round(y_share * side)
        moved = np.zeros_like(square)
        moved[max(0, dy) : side + min(0, dy), max(0, dx) : side + min(0, dx)] = square[
            max(0, -dy) : side - max(0, dy), max(0, -dx) : side - max(0, dx)
        ]
        yield Variation("shift", "en", query, moved, _shifted(-dx, -dy))


def _as_it_is(box: XYXY) -> XYXY:
    return box


def _shifted(dx: int, dy: int) -> Callable[[XYXY], XYXY]:
    return lambda box: (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)


def _mirrored(side: int) -> Callable[[XYXY], XYXY]:
    return lambda box: (side - box[2], box[1], side - box[0], box[3])


def varied_answers(
    reasoner: Reasoner, asked: Sequence[Variation], target: str
) -> tuple[Varied, ...]:
    """Ask all variations, the plain question first, and compare each answer with that one."""
    requests = [
        ReasonerRequest(prepare_image(each.square, reasoner.image_encoding), each.query, "")
        for each in asked
    ]
    answers = reasoner.answer_batch(requests)
    boxes = [_home(each, answer) for each, answer in zip(asked, answers, strict=True)]
    base, middle = (answers[0], boxes[0]), len(asked[0].square) / 2
    sided = unsided(target) != target
    return tuple(
        Varied(
            each.kind,
            each.language,
            each.query,
            answer.grounding.outcome,
            box,
            _agreement(base, (answer, box)),
            sided and _in_other_half(base[1], box, middle),
        )
        for each, answer, box in zip(asked, answers, boxes, strict=True)
    )


def _home(asked: Variation, answer: ReasonerAnswer) -> XYXY | None:
    box = answer.grounding.bbox_xyxy_px
    return None if box is None else asked.back(box)


def _agreement(
    first: tuple[ReasonerAnswer, XYXY | None], second: tuple[ReasonerAnswer, XYXY | None]
) -> float:
    """Box IoU; without two boxes, whether the outcomes are the same."""
    if first[1] is not None and second[1] is not None:
        return box_iou(first[1], second[1])
    return float(first[0].grounding.outcome == second[0].grounding.outcome)


def _in_other_half(first: XYXY | None, second: XYXY | None, middle: float) -> bool:
    if first is None or second is None:
        return False
    return (first[0] + first[2] < 2 * middle) != (second[0] + second[2] < 2 * middle)


@dataclass(frozen=True)
class KindSummary:
    """The answers to one kind of variation."""

    kind: VariationKind
    asked: int
    mean_iou: float
    same_outcome: float
    not_understood: float
    other_side: float


def summary(answers: Sequence[Varied]) -> tuple[KindSummary, ...]:
    """Each kind that was asked, in the order of ``VARIATION_KINDS``."""
    plain = answers[0].outcome
    found = []
    for kind in VARIATION_KINDS:
        part = [each for each in answers if each.kind == kind]
        if part:
            found.append(
                KindSummary(
                    kind,
                    len(part),
                    float(np.mean([each.iou for each in part])),
                    float(np.mean([each.outcome == plain for each in part])),
                    float(np.mean([each.outcome == "not_understood" for each in part])),
                    float(np.mean([each.other_side for each in part])),
                )
            )
    return tuple(found)
