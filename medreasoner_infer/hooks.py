# SPDX-License-Identifier: Apache-2.0
"""How a caller follows an inference and stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol, TypeVar

from medreasoner_infer.errors import CancelledError, MedReasonerError
from medreasoner_infer.imaging import Plane, Volume
from medreasoner_infer.result import InferenceResult, SliceChoice
from medreasoner_infer.types import ReasonerAnswer, ReasonerRequest

T = TypeVar("T")

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


class ComputeIn(Protocol):
    """Runs a piece of work where its models compute, and gives what it returns."""

    def __call__(self, work: Work, piece: Callable[[], T], /) -> T:
        """See the class."""
        ...


@dataclass(frozen=True)
class Question:
    """A request of one reader among others: who gets its text, and who may leave it."""

    request: ReasonerRequest
    on_text: OnText | None = None
    cancelled: Cancelled | None = None


class Answers(Protocol):
    """What is asked of a reasoner; see :class:`medreasoner_infer.reasoners.Reasoner`."""

    most_together: int

    def answer(
        self,
        request: ReasonerRequest,
        *,
        on_text: OnText | None = None,
        cancelled: Cancelled | None = None,
    ) -> tuple[ReasonerAnswer, ...]:
        """Of one question."""
        ...

    def answer_batch(
        self, requests: Sequence[ReasonerRequest], *, cancelled: Cancelled | None = None
    ) -> tuple[ReasonerAnswer, ...]:
        """Of several that one reader asks."""
        ...

    def answer_each(
        self, questions: Sequence[Question], *, between: Callable[[], object] | None = None
    ) -> tuple[ReasonerAnswer | MedReasonerError, ...]:
        """Of several readers' questions."""
        ...


class AnswerOne(Protocol):
    """Answers one question greedily, in a turn of its own or of several questions together."""

    def __call__(
        self, reasoner: Answers, request: ReasonerRequest, on_text: OnText | None, /
    ) -> ReasonerAnswer:
        """As :meth:`Reasoner.answer`."""
        ...


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
        compute_in: runs each piece of work, within its turn; by default in the calling thread.
        answer_one: answers the reader's question; by default in a turn for itself.
    """

    slice_chosen: SliceChosen | None = None
    text: OnText | None = None
    slice_answered: SliceAnswered | None = None
    progress: Progress | None = None
    cancelled: Cancelled | None = None
    take_turn: TakeTurn | None = None
    compute_in: ComputeIn | None = None
    answer_one: AnswerOne | None = None

    def compute(self, work: Work, piece: Callable[[Cancelled | None], T]) -> T:
        """What ``piece`` returns, which is computed in a turn and is given what to poll meanwhile.

        Raises:
            CancelledError: if the caller cancelled meanwhile.
        """
        with self.turn(work) as cancelled:
            if self.compute_in is None:
                return piece(cancelled)
            return self.compute_in(work, partial(piece, cancelled))

    def answer(self, reasoner: Answers, request: ReasonerRequest) -> ReasonerAnswer:
        """The reasoner's greedy answer to the reader's question, told as it is written.

        Raises:
            CancelledError: if the caller cancelled meanwhile; else as :meth:`Reasoner.answer`.
        """
        if self.answer_one is not None:
            return self.answer_one(reasoner, request, self.text)

        def piece(cancelled: Cancelled | None) -> ReasonerAnswer:
            (answer,) = reasoner.answer(request, on_text=self.text, cancelled=cancelled)
            return answer

        return self.compute(Work.ANSWER, piece)

    def search(
        self, reasoner: Answers, requests: Sequence[ReasonerRequest]
    ) -> tuple[ReasonerAnswer, ...]:
        """The reasoner's answers to a part of what is searched, in one turn.

        Raises:
            CancelledError: if the caller cancelled; else as :meth:`Reasoner.answer_batch`.
        """
        return self.compute(
            Work.SEARCH, lambda cancelled: reasoner.answer_batch(requests, cancelled=cancelled)
        )

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
