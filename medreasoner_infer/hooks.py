# SPDX-License-Identifier: Apache-2.0
"""How a caller follows an inference and stops it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum

from medreasoner_infer.errors import CancelledError
from medreasoner_infer.imaging import Plane, Volume
from medreasoner_infer.result import InferenceResult, SliceChoice

SliceChosen = Callable[[Plane, int, SliceChoice], None]
OnText = Callable[[str], None]
SliceAnswered = Callable[[InferenceResult, Volume], None]
Progress = Callable[[str, int, int], None]
Cancelled = Callable[[], bool]


class Work(str, Enum):
    """What a model is about to compute: each is one piece, between which others may have theirs."""

    SLICE = "slice"
    """The mask of the one slice that the reader looks at."""

    ANSWER = "answer"
    """The reasoner's answers on that slice."""

    SEARCH = "search"
    """The reasoner's answers on some of the slices that are searched."""

    PROPAGATION = "propagation"
    """The mask of one further slice."""


TakeTurn = Callable[[Work], AbstractContextManager["Cancelled | None"]]


@dataclass(frozen=True)
class Hooks:
    """The caller's callbacks, each optional, in the order in which they are called.

    Attributes:
        slice_chosen: receives plane, index and choice before the slice is read.
        text: receives the reasoner's text piece by piece as it is generated.
        slice_answered: receives the image, and the result with the mask of the slice alone, before
            the volume is gone through; that mask changes afterwards.
        progress: receives (stage, done, total); stages are ``search`` and ``propagate``.
        cancelled: polled often; once it returns true, :class:`CancelledError` is raised.
        take_turn: called in between, before each piece of work of a model, which is done within the
            block; waits until it may be. What it gives is polled there in place of ``cancelled``,
            in the thread that computes, and may let others have the device for a moment.
    """

    slice_chosen: SliceChosen | None = None
    text: OnText | None = None
    slice_answered: SliceAnswered | None = None
    progress: Progress | None = None
    cancelled: Cancelled | None = None
    take_turn: TakeTurn | None = None

    def turn(self, work: Work) -> AbstractContextManager[Cancelled | None]:
        """Wait until ``work`` may be done, in the block; gives what to poll meanwhile.

        Raises:
            CancelledError: if the caller cancelled meanwhile.
        """
        return nullcontext(self.cancelled) if self.take_turn is None else self.take_turn(work)

    def report(self, stage: str, done: int, total: int) -> None:
        """Tell the caller how far a stage is."""
        if self.progress is not None:
            self.progress(stage, done, total)

    def report_slice(self, plane: Plane, index: int, choice: SliceChoice) -> None:
        """Tell the caller which slice is read."""
        if self.slice_chosen is not None:
            self.slice_chosen(plane, index, choice)

    def report_answer(self, result: InferenceResult, volume: Volume) -> None:
        """Tell the caller the answer on the slice."""
        if self.slice_answered is not None:
            self.slice_answered(result, volume)

    def raise_if_cancelled(self) -> None:
        """Stop here if the caller wants so.

        Raises:
            CancelledError: in that case.
        """
        raise_if_cancelled(self.cancelled)


def raise_if_cancelled(cancelled: Cancelled | None) -> None:
    """Stop here if the caller wants so.

    Raises:
        CancelledError: in that case.
    """
    if cancelled is not None and cancelled():
        raise CancelledError("The inference was cancelled by the caller.")


NO_HOOKS = Hooks()
