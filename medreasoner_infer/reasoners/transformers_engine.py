# SPDX-License-Identifier: Apache-2.0
"""A reasoner in this process, by transformers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from xgrammar.contrib.hf import LogitsProcessor as GrammarProcessor

from medreasoner_infer.answer import answer_regex
from medreasoner_infer.byte_cache import ByteCache
from medreasoner_infer.errors import InputError
from medreasoner_infer.hooks import Cancelled, OnText, raise_if_cancelled
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
    FirstRowStreamer,
    StopWhenCancelled,
    TokenLogprobs,
    compile_answer_grammar,
    own_random_state,
)
from medreasoner_infer.reasoners.device_memory import memory_guard
from medreasoner_infer.reasoners.image_prefix import ImagePrefix
from medreasoner_infer.reasoners.prompts import PromptFile, PromptTemplate
from medreasoner_infer.reasoners.transformers_loading import LoadedModel
from medreasoner_infer.types import ModelIdentity, ReasonerAnswer, ReasonerRequest

BATCH_ROWS = 8
WAIT_POLL_S = 0.1
PREFIX_CACHE_BYTES = 512 * 2**20


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
    ) -> None:
        self.identity = identity
        self._calibration = calibration
        self.input_size = settings.input_size
        self.image_encoding = settings.image_encoding
        self.takes_follow_ups = settings.template.takes_follow_ups
        self.prefixes: ByteCache[str, ImagePrefix] = ByteCache(
            prefix_cache_bytes, lambda prefix: prefix.nbytes
        )
        self._loaded = loaded
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
            inputs = self._continue_prefix(request) if self._keeps_prefixes else None
            inputs = inputs or self._encode([request])
            return self._generate(_repeat(inputs, count), request, on_text, cancelled)

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
        for start in range(0, len(asked), BATCH_ROWS):
            raise_if_cancelled(cancelled)
            batch = asked[start : start + BATCH_ROWS]
            with self._turn(cancelled):
                found = self._generate(self._encode(batch), batch[0], None, cancelled)
            generated += map(self._led, batch, found)
        answers = iter(generated)
        return tuple(answer or next(answers) for answer in refused)

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
        request: ReasonerRequest,
        on_text: OnText | None,
        cancelled: Cancelled | None,
    ) -> tuple[ReasonerAnswer, ...]:
        """Complete every row of ``inputs``."""
        prompt_tokens = inputs["input_ids"].shape[1]
        self._check_room(prompt_tokens)
        model, logprobs = self._loaded.model, TokenLogprobs()
        if "past_key_values" in inputs:
            model.model.rope_deltas = None  # else those of the previous prompt would be used
        processors = [logprobs] + ([GrammarProcessor(self._grammar)] if self._grammar else [])
        stop = StopWhenCancelled(cancelled) if cancelled else None
        tokenizer = self._loaded.processor.tokenizer
        with own_random_state(request.seed, self._loaded.device):
            generate = cast("Callable[..., torch.Tensor]", model.generate)
            sequences = generate(
                **inputs,
                generation_config=self._decoding(request.temperature),
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList([stop] if stop else []),
                streamer=FirstRowStreamer(tokenizer, on_text) if on_text else None,
            )
        if stop is not None and stop.fired:
            raise_if_cancelled(lambda: True)
        chances = logprobs.finish(sequences[:, -1])
        rows = zip(sequences[:, prompt_tokens:].tolist(), chances.tolist(), strict=True)
        return tuple(self._read_row(tokens, row_chances) for tokens, row_chances in rows)

    def _decoding(self, temperature: float) -> GenerationConfig:
        shared = self._loaded.model.generation_config.to_dict() | {
            "max_new_tokens": self._max_new_tokens,
            "do_sample": temperature > 0,
        }
        if temperature > 0:
            shared |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
        return GenerationConfig(**shared)

    def _check_room(self, prompt_tokens: int) -> None:
        room = self._loaded.context_tokens - self._max_new_tokens
        if prompt_tokens > room:
            raise InputError(
                f"The prompt with image and question has {prompt_tokens} tokens; this model has "
                f"room for {room}. Shorten the question."
            )

    def _read_row(self, tokens: list[int], logprobs: list[float]) -> ReasonerAnswer:
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


def _repeat(inputs: dict[str, Any], rows: int) -> dict[str, Any]:
    """The single prompt of ``inputs``, once per sample."""
    if rows == 1:
        return inputs
    repeated = {
        name: value.repeat(rows, *[1] * (value.dim() - 1))
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor)
    }
    if "past_key_values" in inputs:
        inputs["past_key_values"].batch_repeat_interleave(rows)
        repeated["past_key_values"] = inputs["past_key_values"]
    return repeated
