# SPDX-License-Identifier: Apache-2.0
"""A reasoner on a vLLM server, or on several."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.answer import answer_regex
from medreasoner_infer.errors import InputError, ReasonerUnreachableError
from medreasoner_infer.hooks import Cancelled, OnText
from medreasoner_infer.reasoners.base import (
    Reasoner,
    check_single_samples,
    ground,
)
from medreasoner_infer.reasoners.budget import reasoning_chars
from medreasoner_infer.reasoners.confidence import answer_confidence
from medreasoner_infer.reasoners.families import ImageSizeChangedError, ModelFamily
from medreasoner_infer.reasoners.prompts import PromptFile, PromptTemplate
from medreasoner_infer.reasoners.replicas import Replicas
from medreasoner_infer.reasoners.vllm_server import Messages, VllmServer
from medreasoner_infer.types import ModelIdentity, ReasonerAnswer, ReasonerRequest

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk

PARALLEL_REQUESTS = 8
UNTOLD_CONTEXT_TOKENS = 4096
# A server fills what a request leaves open from the model's own generation_config.json, whose
# repetition penalty and filters distort coordinates.
_PLAIN_SAMPLING = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass
class _Sample:
    """One completion as it arrives."""

    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    chars: int = 0
    finish_reason: str | None = None


class VllmReasoner(Reasoner):
    """Asks a vLLM server; the server batches what several threads ask at once.

    Decoding is constrained to the answer format by the server. An image that the family's processor
    would resize is not sent.

    Args:
        servers: the server, or its replicas.
        identity: which weights they serve, as far as it is known.
        settings: prompt, image encoding, input size and the bound on the trace, which is lowered
            where the context is short.
        family: how the served model writes coordinates and resizes images.
        score: whether to ask for the confidence, which costs a second pass over the prompt.
        constrained: ``False`` decodes freely, to measure how well a model keeps to the format.

    Raises:
        ImageSizeChangedError: if the model's processor would change the image's size.
        InputError: if the prompt asks for other coordinates than the model's own.
    """

    def __init__(
        self,
        servers: Replicas,
        identity: ModelIdentity,
        settings: PromptFile,
        family: ModelFamily,
        *,
        score: bool = True,
        constrained: bool = True,
    ) -> None:
        self.identity = identity
        self.input_size = settings.input_size
        self.image_encoding = settings.image_encoding
        self.takes_follow_ups = settings.template.takes_follow_ups
        self.servers = servers
        self._family = family
        self._frame = family.frame(settings.input_size)
        self.template: PromptTemplate = settings.template
        self.template.require_told(self._frame)
        self._score = score
        chars = reasoning_chars(
            settings.template,
            settings.max_reasoning_chars,
            context=servers.reference.context_tokens or UNTOLD_CONTEXT_TOKENS,
            image_tokens=family.resizing.tokens(settings.input_size),
            frame=self._frame,
        )
        regex = answer_regex(self._frame.units, chars)
        self._structure = {"structured_outputs": {"regex": regex}} if constrained else {}

    def _sample(
        self,
        request: ReasonerRequest,
        count: int,
        on_text: OnText | None,
        cancelled: Cancelled | None,
    ) -> tuple[ReasonerAnswer, ...]:
        messages = self._messages(request)
        told: list[str] = []

        def tell(text: str) -> None:
            told.append(text)
            if on_text is not None:
                on_text(text)

        def ask(server: VllmServer) -> tuple[ReasonerAnswer, ...]:
            samples = [_Sample() for _ in range(count)]
            most_chars = server.link.limits.sample_chars
            server.stream(
                messages,
                lambda chunk: _collect(chunk, samples, most_chars, tell),
                cancelled,
                **self._options(request, count),
            )
            return tuple(self._read(server, each, messages, cancelled) for each in samples)

        return self.servers.ask(
            request.image_key, ask, may_begin_anew=lambda: on_text is None or not told
        )

    def answer_batch(
        self, requests: Sequence[ReasonerRequest], *, cancelled: Cancelled | None = None
    ) -> tuple[ReasonerAnswer, ...]:
        """See :meth:`Reasoner.answer_batch`; the server gets several requests at a time."""
        check_single_samples(requests)
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            futures = [pool.submit(self.answer, r, cancelled=cancelled) for r in requests]
            try:
                return tuple(future.result()[0] for future in futures)
            finally:  # after a failure the rest is not even started
                pool.shutdown(wait=False, cancel_futures=True)

    def _messages(self, request: ReasonerRequest) -> Messages:
        system, user = self.template.render(request.query, self._frame, request.about)
        return [
            {"role": "system", "content": system},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": png_data_url(request.image)}},
                    {"type": "text", "text": user},
                ],
            },
        ]

    def _options(self, request: ReasonerRequest, rows: int) -> dict[str, Any]:
        return {
            "n": rows,
            "temperature": request.temperature,
            "top_p": 1.0,
            "seed": request.seed,
            "logprobs": True,  # one entry per token: the only count of tokens per sample
            "extra_body": _PLAIN_SAMPLING | self._structure,
        }

    def _read(
        self, server: VllmServer, sample: _Sample, messages: Messages, cancelled: Cancelled | None
    ) -> ReasonerAnswer:
        if sample.finish_reason is None:
            raise ReasonerUnreachableError(
                f"The reasoner's server at {server.base_url} broke off in the answer."
            )
        if sample.finish_reason == "length":
            raise InputError(
                "The answer did not fit into the server's --max-model-len of "
                f"{server.context_tokens} tokens. Shorten the question, or start the server "
                "with a longer context."
            )
        completion = "".join(sample.pieces)
        grounding = ground(completion, self._frame, require_reasoning=self.template.asks_reasoning)
        confidence = (
            self._confidence(server, messages, completion, cancelled) if self._score else None
        )
        return ReasonerAnswer(completion, grounding, confidence, sample.tokens)

    def _confidence(
        self,
        server: VllmServer,
        messages: Messages,
        completion: str,
        cancelled: Cancelled | None,
    ) -> float | None:
        scored = server.score(messages, completion, cancelled)
        if not scored:
            return None
        pieces, logprobs = zip(*scored, strict=True)
        self._require_kept(pieces.count(self._family.image_token))
        return answer_confidence(pieces, logprobs)

    def _require_kept(self, image_tokens: int) -> None:
        """Refuse the answer of a server that resized the image after all.

        Args:
            image_tokens: that it counts in the prompt; 0 where it does not tell them apart.

        Raises:
            ImageSizeChangedError: it makes another number of them than the image's size gives.
        """
        expected = self._family.resizing.tokens(self.input_size)
        if image_tokens not in (0, expected):
            raise ImageSizeChangedError(
                f"The server makes {image_tokens} tokens of an image of {self.input_size} px, for "
                f"which {self._family.name} takes {expected}: it resizes images. Start it with the "
                "bounds on pixels that the model was published with (--mm-processor-kwargs)."
            )


def png_data_url(image: NDArray[np.uint8]) -> str:
    """Lossless ``data:`` URL of a uint8 RGB image of shape (H, W, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _collect(
    chunk: ChatCompletionChunk, samples: list[_Sample], most_chars: int, on_text: OnText | None
) -> None:
    """Add one event of the stream to the sample that it belongs to.

    Raises:
        ReasonerUnreachableError: it is of no sample, is no text, or makes one too long.
    """
    for choice in chunk.choices:
        text = choice.delta.content or ""
        if choice.index not in range(len(samples)) or not isinstance(text, str):
            raise ReasonerUnreachableError(
                "The reasoner's server sent a piece of an answer that was not asked for."
            )
        sample = samples[choice.index]
        sample.finish_reason = choice.finish_reason or sample.finish_reason
        if choice.logprobs is not None:
            sample.tokens += len(choice.logprobs.content or [])
        sample.chars += len(text)
        if sample.chars > most_chars:
            raise ReasonerUnreachableError(
                f"The reasoner's server wrote more than {most_chars} characters; it does not keep "
                "to the answer's format."
            )
        if text:
            sample.pieces.append(text)
            if on_text is not None and choice.index == 0:
                on_text(text)
