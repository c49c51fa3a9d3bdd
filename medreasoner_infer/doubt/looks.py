# SPDX-License-Identifier: Apache-2.0
"""The readings of a slice: what each says, and the mask that it leads to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.doubt.naming import first_named
from medreasoner_infer.doubt.views import VIEWS, View
from medreasoner_infer.errors import PromptError
from medreasoner_infer.hooks import Hooks, Work
from medreasoner_infer.prompting import prompt_from_grounding
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import AskRequest
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import Grounding, Outcome, ReasonerAnswer, SlicePrompt

STAGE = "doubt"
"""Of the progress that is told."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A question that was answered, and by whom it is read again.

    Attributes:
        reasoner: who answered.
        segmenter: who makes the masks.
        shown: the slice.
        request: the question; its clicks join each reading's prompt.
        answers: the answer, then the sampled ones.
        views: in which it is asked besides.
    """

    reasoner: Reasoner
    segmenter: Segmenter
    shown: DisplayedSlice
    request: AskRequest
    answers: tuple[ReasonerAnswer, ...]
    views: tuple[View, ...] = VIEWS


@dataclass(frozen=True, eq=False)
class Look:
    """One reading of a slice.

    Attributes:
        outcome: what it says of the target.
        name: of the target that its reasoning names.
        shown: the slice as it was segmented.
        prompt: in slice px; ``None`` without a target or a click.
        mask: bool (H, W) on the slice's pixels.
    """

    outcome: Outcome
    name: str | None
    shown: DisplayedSlice
    prompt: SlicePrompt | None
    mask: NDArray[np.bool_]


def looks_at(asked: Asked, mask_hw: NDArray[np.bool_], hooks: Hooks) -> tuple[Look, ...]:
    """All readings, the answer first, whose mask (H, W) is known.

    Readings that lead to the same prompt on the same picture share a mask. Each piece of work of a
    model takes a turn, no more urgent than a search and a propagation: the reader has the answer.

    Raises:
        ServiceError: a model cannot answer now.
        CancelledError: the caller cancelled.
    """
    read = list(_groundings(asked, hooks))
    looks: list[Look] = []
    known: dict[tuple[str, SlicePrompt], NDArray[np.bool_]] = {}
    for number, (shown, grounding) in enumerate(read):
        prompt = _prompt_of(grounding, asked)
        if prompt is None:
            mask = np.zeros(shown.mapping.shape_hw, dtype=bool)
        else:
            key = (shown.image.key, prompt)
            if key not in known:
                known[key] = _segmented(asked, shown, prompt, hooks) if looks else mask_hw
            mask = known[key]
        looks.append(Look(grounding.outcome, first_named(grounding.reasoning), shown, prompt, mask))
        hooks.report(STAGE, number + 1, len(read))
    return tuple(looks)


def _groundings(asked: Asked, hooks: Hooks) -> Iterator[tuple[DisplayedSlice, Grounding]]:
    """By reading: the picture to be segmented, and what was answered in px of the whole square."""
    for answer in asked.answers:
        yield asked.shown, answer.grounding
    reasoner, request = asked.reasoner, asked.request
    pictures = [view.displayed(asked.shown) for view in asked.views]
    questions = [
        view.request(shown, request.query, reasoner.image_encoding, request.about)
        for view, shown in zip(asked.views, pictures, strict=True)
    ]
    answers = hooks.search(reasoner, questions)
    for view, shown, answer in zip(asked.views, pictures, answers, strict=True):
        yield shown, view.in_whole(answer.grounding, reasoner.input_size)


def _prompt_of(grounding: Grounding, asked: Asked) -> SlicePrompt | None:
    sourced = prompt_from_grounding(grounding, asked.request.clicks, asked.shown.mapping)
    return None if sourced is None else sourced.prompt


def _segmented(
    asked: Asked, shown: DisplayedSlice, prompt: SlicePrompt, hooks: Hooks
) -> NDArray[np.bool_]:
    hooks.raise_if_cancelled()
    try:
        return hooks.compute(
            Work.PROPAGATION, lambda _: asked.segmenter.segment_slice(shown.image, prompt).mask
        )
    except PromptError:  # its box lies beside the slice, and this model takes no points alone
        return np.zeros(shown.mapping.shape_hw, dtype=bool)
