# SPDX-License-Identifier: Apache-2.0
"""From a completion to a :class:`~medreasoner_infer.types.Grounding`."""

from __future__ import annotations

import re
from typing import Literal

from medreasoner_infer.answer.body import read_body
from medreasoner_infer.answer.errors import (
    ExtraTextError,
    MissingAnswerError,
    MissingReasoningError,
)
from medreasoner_infer.answer.pattern import split_size
from medreasoner_infer.answer.repairs import Repairs
from medreasoner_infer.answer.values import read_grounding
from medreasoner_infer.types import Grounding

SPACE = " \t\n\r\f\v"
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_ANSWER_OPEN, _ANSWER_CLOSE = "<answer>", "</answer>"


def parse_answer(
    completion: str,
    *,
    mode: Literal["strict", "tolerant"] = "strict",
    image_size: int | tuple[int, int],
    require_reasoning: bool = True,
    min_side_px: float = 0.0,
) -> Grounding:
    """Read a reasoner's completion.

    ``strict`` takes the agreed format only. ``tolerant`` repairs what real models emit, and says
    each repair in ``Grounding.warnings``: Python-like quotes, code fences, numbers as texts, other
    names of the keys, points in one list, a list around the answer, a box beyond the image
    (clipped), reversed corners (swapped), a key point outside the image (clipped where that leaves
    it in the box, else the other key point is used twice), a missing trace, an unclosed answer,
    text around the JSON, and other words for ``null`` and ``"not understood"``. Booleans are never
    numbers; NaN and infinity are never repaired.

    Args:
        completion: the generated text.
        mode: which faults are refused.
        image_size: side of the square, or (width, height), in reasoner px.
        require_reasoning: whether a missing trace is a fault; ``False`` for a direct prompt.
        min_side_px: constrained decoding can forbid neither x2 = x1 nor y2 = y1. A positive value
            makes tolerant mode widen such a box, where it touches the image, to this side about its
            centre, with a warning. The default refuses every box without area.

    Returns:
        Box and points in reasoner px (edge based), inside the image, with x1 < x2 and y1 < y2.

    Raises:
        AnswerError: one of its subclasses in :mod:`medreasoner_infer.answer.errors`.
        ValueError: ``mode`` or ``image_size`` is not one of the above.
    """
    if mode not in ("strict", "tolerant"):
        raise ValueError(f"mode is {mode!r}; expected 'strict' or 'tolerant'.")
    size = split_size(image_size)
    repairs = Repairs(tolerant=mode == "tolerant")
    reasoning, rest = _take_reasoning(completion, repairs, require_reasoning)
    text, cut = _take_answer(rest, repairs)
    body = read_body(text, repairs, cut=cut)
    if isinstance(body, str):
        return Grounding(reasoning, None, None, tuple(repairs.warnings), outcome=body)
    bbox, points = read_grounding(body, size, repairs, min_side_px)
    return Grounding(reasoning, bbox, points, tuple(repairs.warnings))


def _take_reasoning(completion: str, repairs: Repairs, required: bool) -> tuple[str, str]:
    """The trace without outer space, and what follows its block."""
    before, opened, after = completion.partition(_THINK_OPEN)
    if not opened:
        if required:
            repairs.add(
                MissingReasoningError, "There is no <think> block", "the answer is without a trace"
            )
        return "", completion
    if before.strip(SPACE):
        repairs.add(ExtraTextError, "Text stands before the <think> block", "it was ignored")
    trace, closed, rest = after.partition(_THINK_CLOSE)
    if not closed:
        trace, rest = _split_open_trace(after, repairs)
    trace = trace.strip(SPACE)
    if not trace and required:
        repairs.add(
            MissingReasoningError, "The <think> block is empty", "the answer is without a trace"
        )
    return _without_tags(trace, repairs), rest


def _split_open_trace(after: str, repairs: Repairs) -> tuple[str, str]:
    """Trace and rest where ``</think>`` is missing: the trace ends where the answer starts."""
    trace, opened, rest = after.partition(_ANSWER_OPEN)
    if not opened:
        raise MissingAnswerError(
            "The <think> block is not closed and no <answer> follows: the completion was cut. "
            "Allow more tokens."
        )
    repairs.add(
        MissingReasoningError, "The <think> block is not closed", "it was ended at the answer"
    )
    return trace, opened + rest


def _without_tags(trace: str, repairs: Repairs) -> str:
    clean = re.sub(r"</?(?:think|answer)>", "", trace)
    if clean != trace:
        repairs.add(ExtraTextError, "The <think> block holds a tag of the format", "it was dropped")
    return clean.strip(SPACE)


def _take_answer(rest: str, repairs: Repairs) -> tuple[str, bool]:
    """The answer block's text, and whether it was cut before its closing tag."""
    before, opened, after = rest.partition(_ANSWER_OPEN)
    if not opened:
        return _take_untagged(rest, repairs)
    if before.strip(SPACE):
        repairs.add(ExtraTextError, "Text stands before the <answer> block", "it was ignored")
    text, closed, behind = after.partition(_ANSWER_CLOSE)
    if not closed:
        repairs.add(MissingAnswerError, "The <answer> block is not closed", "it was read as it is")
    if behind.strip(SPACE):
        repairs.add(ExtraTextError, "Text stands behind the <answer> block", "it was ignored")
    return text, not closed


def _take_untagged(rest: str, repairs: Repairs) -> tuple[str, bool]:
    """A JSON object that stands where the answer block is expected, but without its tags."""
    problem = "There is no <answer> block"
    if "{" not in rest:
        raise MissingAnswerError(f"{problem}; expected one after the reasoning.")
    repairs.add(MissingAnswerError, problem, "the first JSON object was taken for the answer")
    return rest.partition(_ANSWER_CLOSE)[0], _ANSWER_CLOSE not in rest
