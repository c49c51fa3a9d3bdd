# SPDX-License-Identifier: Apache-2.0
"""The part of vLLM's OpenAI-compatible API that the engine uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from medreasoner_infer.errors import ReasonerUnreachableError
from medreasoner_infer.hooks import Cancelled
from medreasoner_infer.reasoners.server_link import (
    REASONER_LIMITS,
    RETRIES,
    ReasonerLimits,
    ServerLink,
)
from medreasoner_infer.waiting import Emit

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

Messages: TypeAlias = "list[ChatCompletionMessageParam]"
Receive = Callable[["ChatCompletionChunk"], None]


@dataclass(frozen=True)
class VllmServer:
    """A server that was found to serve ``model``.

    ``root`` is where the server says it read the weights (or the LoRA adapter) from, ``base`` where
    it read those of the model beneath an adapter from, and ``context_tokens`` its
    ``--max-model-len``; ``None`` where it does not tell.
    """

    link: ServerLink
    model: str
    root: str | None
    context_tokens: int | None
    base: str | None = None

    @property
    def base_url(self) -> str:
        """The address, without credentials."""
        return self.link.address

    @classmethod
    def connect(
        cls,
        base_url: str,
        wanted: Sequence[str],
        *,
        api_key: str | None = None,
        limits: ReasonerLimits = REASONER_LIMITS,
        retries: int = RETRIES,
    ) -> VllmServer:
        """Ask the server for its models and find the first of ``wanted`` among them.

        A model is found by the name that the server lists, or by where the server read it from.

        Raises:
            ReasonerUnreachableError: if it does not answer or serves none of ``wanted``.
            MissingExtraError: if the ``openai`` package is not installed.
        """
        link = ServerLink.to(base_url, api_key, limits, retries=retries)
        cards = _served_models(link)
        by_name = {card.get("root"): card for card in cards}
        by_name |= {card["id"]: card for card in cards}
        found = next((by_name[name] for name in wanted if name in by_name), None)
        if found is None:
            listed = ", ".join(sorted(card["id"] for card in cards)) or "no model"
            raise ReasonerUnreachableError(
                f"The server at {link.address} serves {listed}; expected {' or '.join(wanted)}. "
                "Check --served-model-name and --lora-modules."
            )
        # Of a LoRA adapter the server tells no length; it is that of the model beneath.
        beneath = by_name.get(found.get("parent"), {})
        context = found.get("max_model_len") or beneath.get("max_model_len")
        return cls(link, found["id"], found.get("root"), context, beneath.get("root"))

    def reads_from(self, folder: Path) -> bool:
        """Whether the server says that it read the weights from ``folder``."""
        return self.root is not None and Path(self.root).resolve() == folder.resolve()

    def stream(
        self, messages: Messages, receive: Receive, cancelled: Cancelled | None, **options: Any
    ) -> None:
        """Have a completion written, piece by piece; who leaves early makes the server stop.

        Args:
            receive: gets each event, in the calling thread.
            cancelled: polled all the time, also while the server is silent.

        Raises:
            ReasonerUnreachableError: if the server fails, breaks off, or takes too long.
            InputError: if the prompt is longer than the server's context.
            CancelledError: if ``cancelled`` said so.
        """

        async def request(client: AsyncOpenAI, emit: Receive) -> None:
            chunks = await client.chat.completions.create(
                model=self.model, messages=messages, stream=True, **options
            )
            async with cast("AsyncStream[ChatCompletionChunk]", chunks) as events:
                async for chunk in events:
                    emit(chunk)

        self.link.call(request, cancelled, receive, samples=options.get("n", 1))

    def score(
        self, messages: Messages, completion: str, cancelled: Cancelled | None = None
    ) -> list[tuple[str, float]] | None:
        """Text and log probability of each token of the prompt and then of ``completion``.

        The log probabilities that come with a constrained completion are those *after* the
        constraint. So the finished text is put to the server once more, as a prompt; nothing is
        generated. ``None`` when the server returns no ``prompt_logprobs``.

        Raises:
            ReasonerUnreachableError: if the server fails or takes too long.
            CancelledError: if ``cancelled`` said so.
        """

        async def request(client: AsyncOpenAI, emit: Receive) -> Any:
            return await client.chat.completions.create(
                model=self.model,
                messages=[*messages, {"role": "assistant", "content": completion}],
                max_tokens=1,
                temperature=0.0,
                extra_body={
                    "prompt_logprobs": 0,
                    "add_generation_prompt": False,
                    "continue_final_message": True,
                },
            )

        scored = self.link.call(request, cancelled)
        return _chosen_tokens((scored.model_extra or {}).get("prompt_logprobs"), self.base_url)


def _chosen_tokens(told: Any, address: str) -> list[tuple[str, float]] | None:
    """Text and log probability of each token; the first token has none and is left out."""
    if told is None:
        return None
    try:
        # Only the token itself is returned, as the one candidate.
        chosen = [next(iter(candidates.values())) for candidates in told if candidates]
        return [(entry.get("decoded_token") or "", float(entry["logprob"])) for entry in chosen]
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise ReasonerUnreachableError(
            f"The server at {address} returned log probabilities that cannot be read."
        ) from error


def _served_models(link: ServerLink) -> list[dict[str, Any]]:
    """The cards that the server lists; each has an ``id``."""

    async def request(client: AsyncOpenAI, emit: Emit[Any]) -> Any:
        # Raw, since the client's own parser stumbles over whatever a proxy answers instead.
        return (await client.models.with_raw_response.list()).http_response.json()

    answer = link.call(request)
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list) or not all(map(_is_card, cards)):
        raise ReasonerUnreachableError(
            f"{link.address} did not answer with a list of models; expected a vLLM server's "
            "address."
        )
    return cards


def _is_card(card: object) -> bool:
    """Whether the values that are used of it are of the kind that they should be."""
    if not isinstance(card, dict) or not isinstance(card.get("id"), str):
        return False
    texts = all(isinstance(card.get(key), (str, type(None))) for key in ("root", "parent"))
    return texts and isinstance(card.get("max_model_len"), (int, type(None)))
