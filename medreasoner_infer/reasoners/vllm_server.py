# SPDX-License-Identifier: Apache-2.0
"""The part of vLLM's OpenAI-compatible API that the engine uses, with typed errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from medreasoner_infer.errors import (
    InputError,
    MedReasonerError,
    MissingExtraError,
    ReasonerUnreachableError,
)

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.chat import ChatCompletionChunk

RETRIES = 2
CONNECT_TIMEOUT_S = 5.0

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class VllmServer:
    """A server that was found to serve ``model``.

    ``root`` is where the server says it read the weights (or the LoRA adapter) from, and
    ``context_tokens`` its ``--max-model-len``; ``None`` where it does not tell.
    """

    base_url: str
    model: str
    root: str | None
    context_tokens: int | None
    timeout_s: float
    client: OpenAI

    @classmethod
    def connect(
        cls,
        base_url: str,
        wanted: Sequence[str],
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
    ) -> VllmServer:
        """Ask the server for its models and find the first of ``wanted`` among them.

        A model is found by the name that the server lists, or by where the server read it from.

        Raises:
            ReasonerUnreachableError: if it does not answer or serves none of ``wanted``.
            MissingExtraError: if the ``openai`` package is not installed.
        """
        address = api_address(base_url)
        client = _make_client(address, api_key, timeout_s)
        cards = _served_models(client, address, timeout_s)
        by_name = {card.get("root"): card for card in cards}
        by_name |= {card["id"]: card for card in cards}
        found = next((by_name[name] for name in wanted if name in by_name), None)
        if found is None:
            listed = ", ".join(sorted(card["id"] for card in cards)) or "no model"
            raise ReasonerUnreachableError(
                f"The server at {address} serves {listed}; expected {' or '.join(wanted)}. "
                "Check --served-model-name and --lora-modules."
            )
        # Of a LoRA adapter the server tells no length; it is that of the model beneath.
        beneath = by_name.get(found.get("parent"), {})
        context = found.get("max_model_len") or beneath.get("max_model_len")
        return cls(address, found["id"], found.get("root"), context, timeout_s, client)

    def reads_from(self, folder: Path) -> bool:
        """Whether the server says that it read the weights from ``folder``."""
        return self.root is not None and Path(self.root).resolve() == folder.resolve()

    @contextmanager
    def stream(self, messages: Messages, **options: Any) -> Iterator[Iterator[ChatCompletionChunk]]:
        """Open a completion; leaving the block closes it, which makes the server stop.

        Raises:
            ReasonerUnreachableError: if the server fails or breaks off.
            InputError: if the prompt is longer than the server's context.
        """
        with typed_errors(self.base_url, self.timeout_s):
            chunks = self.client.chat.completions.create(
                model=self.model, messages=messages, stream=True, **options
            )
            with chunks:
                yield iter(chunks)

    def score(self, messages: Messages, completion: str) -> list[tuple[str, float]] | None:
        """Text and log probability of each token of the prompt and then of ``completion``.

        The log probabilities that come with a constrained completion are those *after* the
        constraint. So the finished text is put to the server once more, as a prompt; nothing is
        generated. ``None`` when the server returns no ``prompt_logprobs``.

        Raises:
            ReasonerUnreachableError: if the server fails.
        """
        with typed_errors(self.base_url, self.timeout_s):
            scored = self.client.chat.completions.create(
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
        tokens = (scored.model_extra or {}).get("prompt_logprobs")
        if tokens is None:
            return None
        # The first token has none. Of the others only the token itself is returned.
        chosen = [next(iter(candidates.values())) for candidates in tokens if candidates]
        return [(entry.get("decoded_token") or "", entry["logprob"]) for entry in chosen]


def api_address(base_url: str) -> str:
    """``base_url`` with ``/v1``, and without credentials, which must not reach records.

    Raises:
        ReasonerUnreachableError: if it is no http or https address.
    """
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ReasonerUnreachableError(
            "The reasoner's address is not an http or https URL; expected e.g. "
            "http://localhost:8000/v1."
        )
    path = parts.path.rstrip("/")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, path if path.endswith("/v1") else f"{path}/v1", "", ""))


@contextmanager
def typed_errors(address: str, timeout_s: float) -> Iterator[None]:
    """Turn the client's errors into this library's; messages hold no body, which may echo text."""
    import httpx
    import openai

    try:
        yield
    except MedReasonerError:
        raise
    except openai.APITimeoutError as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} did not answer within {timeout_s:g} s."
        ) from error
    except openai.APIStatusError as error:
        raise _status_error(error, address) from error
    except (openai.OpenAIError, httpx.HTTPError) as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} could not be reached or broke off "
            f"({type(error).__name__}). Check that it runs."
        ) from error
    except json.JSONDecodeError as error:
        raise ReasonerUnreachableError(
            f"The server at {address} did not answer with JSON; expected a vLLM server's address."
        ) from error


def _served_models(client: OpenAI, address: str, timeout_s: float) -> list[dict[str, Any]]:
    """The cards that the server lists; each has an ``id``."""
    with typed_errors(address, timeout_s):
        # Raw, since the client's own parser stumbles over whatever a proxy answers instead.
        answer = client.models.with_raw_response.list().http_response.json()
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list) or not all(isinstance(c, dict) and "id" in c for c in cards):
        raise ReasonerUnreachableError(
            f"{address} did not answer with a list of models; expected a vLLM server's address."
        )
    return cards


def _status_error(error: Any, address: str) -> MedReasonerError:
    """The error for an HTTP status that is no success."""
    status = error.status_code
    if status in (401, 403):
        return ReasonerUnreachableError(
            f"The server at {address} refused the API key (HTTP {status})."
        )
    if status == 400 and "context length" in str(error):
        return InputError(
            "Question, image and answer together exceed the server's --max-model-len. Shorten the "
            "question, or start the server with a longer context."
        )
    return ReasonerUnreachableError(
        f"The reasoner's server at {address} answered with HTTP {status}. See its log."
    )


def _make_client(address: str, api_key: str | None, timeout_s: float) -> OpenAI:
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError("openai", "vllm") from error
    timeout = openai.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))
    # A key is always passed, lest one meant for another service be read from the environment.
    return openai.OpenAI(
        base_url=address, api_key=api_key or "none", timeout=timeout, max_retries=RETRIES
    )
