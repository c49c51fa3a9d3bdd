# SPDX-License-Identifier: Apache-2.0
"""What the pipeline needs of a reasoner, whichever engine runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from medreasoner_infer.answer import parse_answer
from medreasoner_infer.errors import AnswerError, InputError, MedReasonerError
from medreasoner_infer.hooks import Cancelled, OnText, Question, raise_if_cancelled
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.prompts import PromptTemplate
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, ReasonerRequest

MIN_BOX_SIDE_PX = 1.0
# An engine decodes more at once than a question may ask for (request.MAX_SAMPLES).
MAX_COMPLETIONS = 64


class Reasoner(ABC):
    """Answers a clinical question about one image with a trace, a box and two key points.

    Implementations are safe to call from several threads.

    Attributes:
        identity: which weights answer.
        template: how it is asked; ``None`` where that does not matter.
        input_size: side of the square image that the model expects, in reasoner px.
        image_encoding: how :func:`~medreasoner_infer.reasoners.prepare_image` must encode it.
        takes_follow_ups: whether a request may say which earlier answer it is ``about``.
        most_together: how many questions :meth:`answer_each` gains by being asked together.
    """

    identity: ModelIdentity
    template: PromptTemplate | None = None
    input_size: int
    image_encoding: str
    takes_follow_ups: bool = False
    most_together: int = 1

    def answer(
        self,
        request: ReasonerRequest,
        *,
        on_text: OnText | None = None,
        cancelled: Cancelled | None = None,
    ) -> tuple[ReasonerAnswer, ...]:
        """Answer one question.

        Args:
            request: image and question; ``temperature`` 0 decodes greedily, so that all samples
                are equal and only one is computed.
            on_text: receives the first sample's text piece by piece, from the calling thread; the
                pieces joined are its completion.
            cancelled: polled while decoding.

        Returns:
            One answer per sample.

        Raises:
            InputError: if the image or the question does not fit the model.
            AnswerError: if decoding is not constrained and the model does not keep to the format.
            CancelledError: if ``cancelled`` said so.
            OutOfMemoryError: if the device ran out of memory.
            ReasonerUnreachableError: if a remote reasoner does not answer.
        """
        check_request(request, self.input_size)
        raise_if_cancelled(cancelled)
        refused = self._refused(request)
        if refused is not None:
            if on_text is not None:
                on_text(refused.completion)
            return (refused,) * request.samples
        count = request.samples if request.temperature > 0 else 1
        answers = self._sample(request, count, on_text, cancelled)
        answers = tuple(self._led(request, answer) for answer in answers)
        return answers if count == request.samples else answers * request.samples

    def _refused(self, request: ReasonerRequest) -> ReasonerAnswer | None:
        """The answer to a question of which the vocabulary tells that the model cannot judge it."""
        targets = self.template.targets if self.template else None
        completion = targets.refusal(request.query) if targets else None
        if completion is None:
            return None
        grounding = ground(completion, AnswerFrame(self.input_size), require_reasoning=True)
        return ReasonerAnswer(completion, grounding, None, 0)

    def _led(self, request: ReasonerRequest, answer: ReasonerAnswer) -> ReasonerAnswer:
        """The answer with what in the question led to its target, where the model was not told.

        A question that tells a fact of the vocabulary is put to a small model by its target's name.
        """
        targets = self.template.targets if self.template else None
        sentence = targets.led_by(request.query) if targets else ""
        grounding = answer.grounding
        if not sentence or not grounding.reasoning:
            return answer
        told = replace(grounding, reasoning=grounding.reasoning + sentence)
        return replace(answer, grounding=told)

    @abstractmethod
    def _sample(
        self,
        request: ReasonerRequest,
        count: int,
        on_text: OnText | None,
        cancelled: Cancelled | None,
    ) -> tuple[ReasonerAnswer, ...]:
        """``count`` answers to a request that is known to fit; else as :meth:`answer`."""

    def answer_batch(
        self, requests: Sequence[ReasonerRequest], *, cancelled: Cancelled | None = None
    ) -> tuple[ReasonerAnswer, ...]:
        """Answer one question about each of many images; one answer per request, in their order.

        Each request asks for one sample. Engines may answer several at once.

        Raises:
            InputError: if a request asks for more than one sample; else as :meth:`answer`.
        """
        check_single_samples(requests)
        return tuple(self.answer(request, cancelled=cancelled)[0] for request in requests)

    def answer_each(
        self, questions: Sequence[Question], *, between: Callable[[], object] | None = None
    ) -> tuple[ReasonerAnswer | MedReasonerError, ...]:
        """Answer questions of several readers; of each its answer or its own fault, in their order.

        Each request asks for one greedy sample. Engines may answer several at once; whoever leaves
        does not keep the others.

        Args:
            between: called again and again while an answer is written.

        Raises:
            ServiceError: none can be answered now.
        """
        return tuple(self._answer_or_fault(question, between) for question in questions)

    def _answer_or_fault(
        self, question: Question, between: Callable[[], object] | None
    ) -> ReasonerAnswer | MedReasonerError:
        def cancelled() -> bool:
            if between is not None:
                between()
            return question.cancelled is not None and question.cancelled()

        try:
            return self.answer(question.request, on_text=question.on_text, cancelled=cancelled)[0]
        except MedReasonerError as error:
            return error


def check_request(request: ReasonerRequest, input_size: int) -> None:
    """Refuse a request that an engine could only answer wrongly.

    Raises:
        InputError: with what was received and what was expected.
    """
    expected = (input_size, input_size, 3)
    if request.image.shape != expected or request.image.dtype != np.uint8:
        raise InputError(
            f"The image is {request.image.dtype} of shape {request.image.shape}; this reasoner "
            f"expects uint8 of shape {expected}. Letterbox the slice to its input_size."
        )
    if not request.query.strip():
        raise InputError("The question is empty; expected a clinical question.")
    if not 1 <= request.samples <= MAX_COMPLETIONS:
        raise InputError(f"samples is {request.samples}; expected 1 to {MAX_COMPLETIONS}.")
    if not 0.0 <= request.temperature <= 2.0:
        raise InputError(f"temperature is {request.temperature}; expected 0 to 2.")
    if not 0 <= request.seed < 2**63:
        raise InputError(f"seed is {request.seed}; expected 0 to 2**63 - 1.")


def check_single_samples(requests: Sequence[ReasonerRequest]) -> None:
    """Refuse a batch in which one request asks for several samples.

    Raises:
        InputError: in that case.
    """
    if any(request.samples != 1 for request in requests):
        raise InputError("A batch takes one sample per image; ask for further samples one by one.")


def ground(completion: str, frame: AnswerFrame, *, require_reasoning: bool) -> Grounding:
    """Parse a completion, whose numbers are the model's own, into a grounding in reasoner px.

    A model that answers in integers can name a box one pixel thin as x1 = x2, and constrained
    decoding cannot forbid it; such a box is widened to one pixel, which a warning tells.

    Args:
        completion: the generated text.
        frame: how the model writes coordinates.
        require_reasoning: whether the prompt asked for a trace.

    Raises:
        AnswerError: if the completion is malformed beyond repair.
    """
    try:
        return parse_answer(
            frame.in_px(completion),
            mode="tolerant",
            image_size=frame.side_px,
            require_reasoning=require_reasoning,
            min_side_px=MIN_BOX_SIDE_PX,
        )
    except AnswerError as error:
        error.completion = completion
        raise


def answers_or_faults(
    reasoner: Reasoner, requests: Sequence[ReasonerRequest]
) -> list[ReasonerAnswer | AnswerError | InputError]:
    """The answers to a batch; where one cannot be read or asked, its fault in its place.

    Raises:
        ServiceError: the reasoner cannot answer now.
    """
    try:
        return list(reasoner.answer_batch(requests))
    except (AnswerError, InputError) as error:
        if len(requests) == 1:
            return [error]
        return [answers_or_faults(reasoner, [request])[0] for request in requests]
