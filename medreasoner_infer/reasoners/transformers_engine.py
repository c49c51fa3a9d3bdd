# SPDX-License-Identifier: Apache-2.0
"""A reasoner in this process, by transformers."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from xgrammar.contrib.hf import LogitsProcessor as GrammarProcessor

from medreasoner_infer.answer import answer_regex
from medreasoner_infer.byte_cache import ByteCache
from medreasoner_infer.errors import AnswerError, CancelledError, InputError, MedReasonerError
from medreasoner_infer.hooks import Cancelled, OnText, Question, raise_if_cancelled
from medreasoner_infer.language.recognition import first_called
from medreasoner_infer.reasoners.base import (
    Reasoner,
    check_request,
    check_single_samples,
    ground,
)
from medreasoner_infer.reasoners.budget import completion_tokens, reasoning_chars
from medreasoner_infer.reasoners.calibration import Calibration, evidence_of
from medreasoner_infer.reasoners.confidence import answer_confidence
from medreasoner_infer.reasoners.decoding import (
    RowsStreamer,
    RowStreamer,
    StopRows,
    StopWhenCancelled,
    TokenLogprobs,
    compile_answer_grammar,
    decoding_of,
    own_random_state,
)
from medreasoner_infer.reasoners.device_memory import memory_guard
from medreasoner_infer.reasoners.image_prefix import ImagePrefix
from medreasoner_infer.reasoners.joining import computed_tokens, joined, repeated
from medreasoner_infer.reasoners.picture_kind import KindStatistics, vision_means
from medreasoner_infer.reasoners.prompts import PromptFile, PromptTemplate
from medreasoner_infer.reasoners.transformers_loading import LoadedModel
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, ReasonerRequest

T = TypeVar("T")

BATCH_ROWS = 8
WAIT_POLL_S = 0.1
PREFIX_CACHE_BYTES = 512 * 2**20
VISION_CACHE_BYTES = 2**20


class TransformersReasoner(Reasoner):
    """Runs a multimodal model in this process, one generation at a time.

    Decoding is constrained to the answer format, so that every completion is well formed, whatever
    the weights. Coordinates are asked for and read as the model's family writes them.

    Of Qwen's families the image's keys and values are kept per ``image_key``: a second question
    about an image skips the vision encoder and most of the prompt. Both questions take the same
    arithmetic path, so the answer does not depend on the cache's state.

    Args:
        loaded: the model.
        identity: which weights these are.
        settings: prompt, image encoding, input size and the bound on the trace, which is lowered
            where the context is short.
        constrained: ``False`` decodes freely, to measure how well a model keeps to the format.
        prefix_cache_bytes: memory for kept images; 0 keeps none.
        calibration: of the identity's weights.
        kinds: how these weights tell kinds of picture apart.

    Raises:
        InputError: if the prompt asks for other coordinates than the model's own.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        identity: ModelIdentity,
        settings: PromptFile,
        *,
        constrained: bool = True,
        prefix_cache_bytes: int = PREFIX_CACHE_BYTES,
        calibration: Calibration | None = None,
        kinds: KindStatistics | None = None,
    ) -> None:
        self.identity = identity
        self._calibration, self._kinds = calibration, kinds
        self.input_size = settings.input_size
        self.image_encoding = settings.image_encoding
        self.takes_follow_ups = settings.template.takes_follow_ups
        self.prefixes: ByteCache[str, ImagePrefix] = ByteCache(
            prefix_cache_bytes, lambda prefix: prefix.nbytes
        )
        self._vision: ByteCache[str, NDArray[np.float32]] = ByteCache(
            VISION_CACHE_BYTES, lambda vision: vision.nbytes
        )
        self._loaded = loaded
        self.most_together = BATCH_ROWS
        self.template: PromptTemplate = settings.template
        self.template.require_told(loaded.frame)
        self._lock = threading.Lock()
        units = loaded.frame.units
        chars = reasoning_chars(
            settings.template,
            settings.max_reasoning_chars,
            context=loaded.context_tokens,
            image_tokens=loaded.image_tokens,
            frame=loaded.frame,
        )
        self._max_new_tokens = completion_tokens(units, chars)
        self._grammar = (
            compile_answer_grammar(loaded, answer_regex(units, chars)) if constrained else None
        )

    def _sample(
        self,
        request: ReasonerRequest,
        count: int,
        on_text: OnText | None,
        cancelled: Cancelled | None,
    ) -> tuple[ReasonerAnswer, ...]:
        with self._turn(cancelled):
            prompts = repeated(self._prompt(request), count)
            return self._generate(prompts, [request] * count, on_text, cancelled)

    def answer_batch(
        self, requests: Sequence[ReasonerRequest], *, cancelled: Cancelled | None = None
    ) -> tuple[ReasonerAnswer, ...]:
        """See :meth:`Reasoner.answer_batch`; greedy requests are decoded together."""
        check_single_samples(requests)
        if any(request.temperature > 0 for request in requests):
            return super().answer_batch(requests, cancelled=cancelled)
        for request in requests:
            check_request(request, self.input_size)
        refused = [self._refused(request) for request in requests]
        asked = [r for r, answer in zip(requests, refused, strict=True) if answer is None]
        generated: list[ReasonerAnswer] = []
        for batch in _batches(asked):
            raise_if_cancelled(cancelled)
            with self._turn(cancelled):
                found = self._generate(self._encode(batch), batch, None, cancelled)
            generated += map(self._led, batch, found)
        answers = iter(generated)
        return tuple(answer or next(answers) for answer in refused)

    def answer_each(
        self, questions: Sequence[Question], *, between: Callable[[], object] | None = None
    ) -> tuple[ReasonerAnswer | MedReasonerError, ...]:
        """See :meth:`Reasoner.answer_each`; the questions are decoded together."""
        outcomes: dict[int, ReasonerAnswer | MedReasonerError] = {}
        asked: list[tuple[int, dict[str, Any]]] = []
        with self._turn(None):
            for number, question in enumerate(questions):
                if number and between is not None:
                    between()
                try:
                    refused = self._refusal(question)
                    if refused is None:
                        asked.append((number, self._fitting_prompt(question.request)))
                    else:
                        outcomes[number] = refused
                except MedReasonerError as error:
                    outcomes[number] = error
            asked.sort(key=lambda each: computed_tokens(each[1]))
            for _, alike in itertools.groupby(asked, lambda each: computed_tokens(each[1])):
                for batch in _batches(list(alike)):
                    numbers, prompts = zip(*batch, strict=True)
                    rows = [questions[number] for number in numbers]
                    outcomes |= zip(numbers, self._write(prompts, rows, between), strict=True)
        return tuple(outcomes[number] for number in range(len(questions)))

    def _refusal(self, question: Question) -> ReasonerAnswer | None:
        """The answer to a question that the model is not asked.

        Raises:
            InputError: it does not fit the model.
            CancelledError: its reader has left.
        """
        check_request(question.request, self.input_size)
        check_single_samples([question.request])
        if question.request.temperature > 0:
            raise InputError("Questions of several readers are answered greedily; expected 0.")
        raise_if_cancelled(question.cancelled)
        refused = self._refused(question.request)
        if refused is not None and question.on_text is not None:
            question.on_text(refused.completion)
        return refused

    def _fitting_prompt(self, request: ReasonerRequest) -> dict[str, Any]:
        prompt = self._prompt(request)
        self._check_room(prompt["input_ids"].shape[1])
        return prompt

    def _write(
        self,
        prompts: Sequence[dict[str, Any]],
        questions: Sequence[Question],
        between: Callable[[], object] | None,
    ) -> list[ReasonerAnswer | MedReasonerError]:
        """Complete the prompts as rows of one batch, each for its own reader."""
        stops = self._loaded.stop_token_ids
        stop = StopRows([each.cancelled or _never for each in questions], stops, between)
        told = {
            row: RowStreamer(self._loaded.processor.tokenizer, question.on_text, row)
            for row, question in enumerate(questions)
            if question.on_text is not None
        }
        streamer = RowsStreamer(told, stop.left, stops)
        inputs = joined(prompts, self._loaded.model.generation_config.pad_token_id)
        rows = self._complete(inputs, questions[0].request, streamer if told else None, stop)
        faults = streamer.faults | {
            row: CancelledError("The inference was cancelled by the caller.")
            for row, has_left in enumerate(stop.left)
            if has_left
        }
        return [
            faults.get(row) or self._read_or_fault(question.request, *written)
            for row, (question, written) in enumerate(zip(questions, rows, strict=True))
        ]

    def _read_or_fault(
        self, request: ReasonerRequest, tokens: list[int], chances: list[float]
    ) -> ReasonerAnswer | MedReasonerError:
        try:
            return self._led(request, self._read_row(request, tokens, chances))
        except AnswerError as error:
            return error

    @contextmanager
    def _turn(self, cancelled: Cancelled | None) -> Iterator[None]:
        """Wait for the model, noticing a cancellation meanwhile, and have it alone."""
        while not self._lock.acquire(timeout=WAIT_POLL_S):
            raise_if_cancelled(cancelled)
        try:
            with memory_guard(self.prefixes.clear), torch.inference_mode():
                yield
        finally:
            self._lock.release()

    @property
    def _keeps_prefixes(self) -> bool:
        return self._loaded.family.keeps_prefix

    def _chat_text(self, request: ReasonerRequest) -> str:
        system, user = self.template.render(request.query, self._loaded.frame, request.about)
        content = [{"type": "image"}, {"type": "text", "text": user}]
        # Nested content is what a processor takes; its annotation is that of a tokenizer.
        messages: list[Any] = [
            {"role": "system", "content": [{"type": "text", "text": system}]},
            {"role": "user", "content": content},
        ]
        return self._loaded.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )

    def _process(self, texts: list[str], images: list[NDArray[np.uint8]]) -> dict[str, Any]:
        encoded = self._loaded.processor(
            text=texts,
            images=[[image] for image in images],
            return_tensors="pt",
            padding=True,
            padding_side="left",
        )
        return dict(encoded.to(self._loaded.device, dtype=self._loaded.model.dtype))

    def _prompt(self, request: ReasonerRequest) -> dict[str, Any]:
        """Model inputs of one prompt."""
        if self._keeps_prefixes:
            return self._continue_prefix(request)
        return self._encode([request])

    def _encode(self, requests: Sequence[ReasonerRequest]) -> dict[str, Any]:
        """Model inputs of whole prompts, one row per request."""
        texts = [self._chat_text(request) for request in requests]
        return self._process(texts, [request.image for request in requests])

    def _continue_prefix(self, request: ReasonerRequest) -> dict[str, Any]:
        """Model inputs of one prompt whose part up to the image is computed already."""
        text = self._chat_text(request)
        # Processors of images have it; their common base does not say so.
        image_token: str = cast("Any", self._loaded.processor).image_token
        before, _, after = text.partition(image_token)
        prefix = self.prefixes.get(request.image_key)
        if prefix is None:
            prefix = self._compute_prefix(before + image_token, request.image)
            if request.image_key:
                self.prefixes.keep(request.image_key, prefix)
        tail = self._loaded.processor.tokenizer(
            after, add_special_tokens=False, return_tensors="pt"
        )["input_ids"].to(self._loaded.device)
        inputs: dict[str, Any] = dict(prefix.inputs)
        for name, filled in (
            ("input_ids", tail),
            ("attention_mask", torch.ones_like(tail)),
            ("mm_token_type_ids", torch.zeros_like(tail)),
        ):
            inputs[name] = torch.cat([inputs[name], filled.to(inputs[name].dtype)], dim=1)
        inputs["past_key_values"] = copy.deepcopy(prefix.keys_and_values)
        return inputs

    def _compute_prefix(self, text: str, image: NDArray[np.uint8]) -> ImagePrefix:
        inputs = self._process([text], [image])
        output = self._loaded.model(**inputs, use_cache=True, logits_to_keep=1)
        del inputs["pixel_values"]
        return ImagePrefix(inputs, output.past_key_values)

    def _generate(
        self,
        inputs: dict[str, Any],
        requests: Sequence[ReasonerRequest],
        on_text: OnText | None,
        cancelled: Cancelled | None,
    ) -> tuple[ReasonerAnswer, ...]:
        """Complete every row of ``inputs``, each of its request, for one caller."""
        self._check_room(inputs["input_ids"].shape[1])
        stop = StopWhenCancelled(cancelled) if cancelled else None
        streamer = RowStreamer(self._loaded.processor.tokenizer, on_text) if on_text else None
        rows = self._complete(inputs, requests[0], streamer, stop)
        if stop is not None and stop.fired:
            raise_if_cancelled(lambda: True)
        return tuple(
            self._read_row(request, *written)
            for request, written in zip(requests, rows, strict=True)
        )

    def _complete(
        self,
        inputs: dict[str, Any],
        request: ReasonerRequest,
        streamer: BaseStreamer | None,
        stop: StoppingCriteria | None,
    ) -> list[tuple[list[int], list[float]]]:
        """Of every row of ``inputs`` the tokens that follow, and their log probabilities.

        Args:
            request: says how they are drawn.
        """
        model, logprobs = self._loaded.model, TokenLogprobs()
        if "past_key_values" in inputs:
            model.model.rope_deltas = None  # else those of the previous prompt would be used
        processors = [logprobs] + ([GrammarProcessor(self._grammar)] if self._grammar else [])
        with own_random_state(request.seed, self._loaded.device):
            generate = cast("Callable[..., torch.Tensor]", model.generate)
            sequences = generate(
                **inputs,
                generation_config=decoding_of(model, self._max_new_tokens, request.temperature),
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList([stop] if stop else []),
                streamer=streamer,
            )
        chances = logprobs.finish(sequences[:, -1])
        written = sequences[:, inputs["input_ids"].shape[1] :].tolist()
        return list(zip(written, chances.tolist(), strict=True))

    def _check_room(self, prompt_tokens: int) -> None:
        room = self._loaded.context_tokens - self._max_new_tokens
        if prompt_tokens > room:
            raise InputError(
                f"The prompt with image and question has {prompt_tokens} tokens; this model has "
                f"room for {room}. Shorten the question."
            )

    def _read_row(
        self, request: ReasonerRequest, tokens: list[int], logprobs: list[float]
    ) -> ReasonerAnswer:
        """The answer of one row: its tokens up to the first that ends a completion."""
        stops = [i for i, token in enumerate(tokens) if token in self._loaded.stop_token_ids]
        length = stops[0] if stops else len(tokens)
        tokenizer = self._loaded.processor.tokenizer
        completion = tokenizer.decode(
            tokens[:length], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        pieces = [tokenizer.decode([token]) for token in tokens[:length]]
        grounding = ground(
            completion, self._loaded.frame, require_reasoning=self.template.asks_reasoning
        )
        size, calibration = self.input_size, self._calibration
        found = evidence_of(pieces, logprobs[:length], grounding.bbox_xyxy_px, size)
        if found is not None:
            found = replace(found, kind_log_odds=self._kind_log_odds(request, grounding))
        if calibration is None or found is None:
            confidence = answer_confidence(pieces, logprobs[:length])
        else:
            confidence = calibration.probability(found, present=grounding.present)
        return ReasonerAnswer(
            completion,
            grounding,
            confidence,
            length + bool(stops),
            calibrated=calibration is not None,
            evidence=found,
        )

    def _kind_log_odds(self, request: ReasonerRequest, grounding: Grounding) -> float:
        """That the picture is of a kind that can show what is asked for, or else what is named."""
        if self._kinds is None or grounding.outcome == "not_understood":
            return 0.0
        asked = self.template.targets.named(request.query) if self.template.targets else ""
        target = asked or first_called(grounding.reasoning)
        if not target:
            return 0.0
        vision = self._vision.get(request.image_key) if request.image_key else None
        if vision is None:
            (vision,) = vision_means(self._loaded, [request.image])
            if request.image_key:
                self._vision.keep(request.image_key, vision)
        return self._kinds.log_odds(target, vision, request.modality)


def _batches(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), BATCH_ROWS):
        yield items[start : start + BATCH_ROWS]


def _never() -> bool:
    return False
