# SPDX-License-Identifier: Apache-2.0
"""The part of vLLM's OpenAI-compatible API that the engine uses, with typed errors."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from medreasoner_infer.errors import (
    InputError,
    MedReasonerError,
    MissingExtraError,
    ReasonerUnreachableError,
)
from medreasoner_infer.hooks import Cancelled
from medreasoner_infer.waiting import OutOfTimeError, attend

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

RETRIES = 2

Messages: TypeAlias = "list[ChatCompletionMessageParam]"
Receive = Callable[["ChatCompletionChunk"], None]
T = TypeVar("T")


@dataclass(frozen=True)
class ReasonerLimits:
    """What a reasoner's server is waited for, and how much is taken from it.

    Attributes:
        connect_s: until a connection stands, in seconds.
        silence_s: without a byte, the wait for the first token included.
        total_s: from the question to the end of the answer, whatever arrives meanwhile, and with
            all that is tried again.
        sample_bytes: of the body, for each sample that is asked for; a token takes some 400 bytes.
        sample_chars: of the text of one sample.
    """

    connect_s: float = 5.0
    silence_s: float = 120.0
    total_s: float = 300.0
    sample_bytes: int = 16 << 20
    sample_chars: int = 200_000


REASONER_LIMITS = ReasonerLimits()


@dataclass(frozen=True)
class VllmServer:
    """A server that was found to serve ``model``.

    ``root`` is where the server says it read the weights (or the LoRA adapter) from, and
    ``context_tokens`` its ``--max-model-len``; ``None`` where it does not tell.
    """

    link: ServerLink
    model: str
    root: str | None
    context_tokens: int | None

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
    ) -> VllmServer:
        """Ask the server for its models and find the first of ``wanted`` among them.

        A model is found by the name that the server lists, or by where the server read it from.

        Raises:
            ReasonerUnreachableError: if it does not answer or serves none of ``wanted``.
            MissingExtraError: if the ``openai`` package is not installed.
        """
        link = ServerLink.to(base_url, api_key, limits)
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
        return cls(link, found["id"], found.get("root"), context)

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

        async def talk(client: AsyncOpenAI, tell: Receive) -> None:
            chunks = await client.chat.completions.create(
                model=self.model, messages=messages, stream=True, **options
            )
            async with cast("AsyncStream[ChatCompletionChunk]", chunks) as events:
                async for chunk in events:
                    tell(chunk)

        self.link.talk(talk, cancelled, receive, samples=options.get("n", 1))

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

        async def talk(client: AsyncOpenAI, tell: Receive) -> Any:
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

        scored = self.link.talk(talk, cancelled)
        return _chosen_tokens((scored.model_extra or {}).get("prompt_logprobs"), self.base_url)


@dataclass(frozen=True)
class ServerLink:
    """How a server is talked to: a connection for each request, which its caller can cut.

    ``address`` holds no credentials; ``trust_env`` is whether proxies of the environment are used.
    """

    address: str
    api_key: str
    limits: ReasonerLimits
    tls: ssl.SSLContext
    trust_env: bool = True

    @classmethod
    def to(
        cls,
        base_url: str,
        api_key: str | None,
        limits: ReasonerLimits = REASONER_LIMITS,
        *,
        trust_env: bool = True,
    ) -> ServerLink:
        """The link to the server at ``base_url``, which is not asked anything yet.

        Raises:
            ReasonerUnreachableError: if ``base_url`` is no http or https address.
            MissingExtraError: if the ``openai`` package is not installed.
        """
        import httpx

        try:
            import openai  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("openai", "vllm") from error
        # A key is always passed, lest one meant for another service be read from the environment.
        key = api_key or "none"
        tls = httpx.create_ssl_context(trust_env=trust_env)
        return cls(api_address(base_url), key, limits, tls, trust_env)

    def talk(
        self,
        talk: Callable[[AsyncOpenAI, Callable[[Any], None]], Coroutine[Any, Any, T]],
        cancelled: Cancelled | None = None,
        receive: Callable[[Any], None] | None = None,
        samples: int = 1,
    ) -> T:
        """What ``talk`` returns within the limits; ``receive`` gets what it tells meanwhile."""

        async def connected(tell: Callable[[Any], None]) -> T:
            async with self._client(samples * self.limits.sample_bytes) as client:
                return await talk(client, tell)

        with typed_errors(self.address, self.limits):
            return attend(
                connected, total_s=self.limits.total_s, cancelled=cancelled, receive=receive
            )

    def _client(self, most_bytes: int) -> AsyncOpenAI:
        import openai

        async def bound(response: Any) -> None:
            response.stream = bounded_stream(response.stream, most_bytes, self.address)

        return openai.AsyncOpenAI(
            base_url=self.address,
            api_key=self.api_key,
            timeout=openai.Timeout(
                self.limits.silence_s, connect=min(self.limits.connect_s, self.limits.silence_s)
            ),
            max_retries=RETRIES,
            http_client=openai.DefaultAsyncHttpxClient(
                verify=self.tls,
                event_hooks={"response": [bound]},
                follow_redirects=False,
                trust_env=self.trust_env,
            ),
        )


def bounded_stream(stream: Any, most_bytes: int, address: str) -> Any:
    """``stream``, which fails once it has brought more than ``most_bytes``.

    The client's parsers hold what they cannot read yet, so a body without an end would fill the
    memory long before the time is up.
    """
    # httpx2 or httpx, as the installed client uses; it takes streams of its own kind only.
    kind: type = next(base for base in type(stream).__mro__ if base.__name__ == "AsyncByteStream")

    class Bounded(kind):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = most_bytes
            async for chunk in stream:
                left -= len(chunk)
                if left < 0:
                    raise ReasonerUnreachableError(
                        f"The reasoner's server at {address} sent more than {most_bytes} bytes for "
                        "one answer. Check that it is a vLLM server."
                    )
                yield chunk

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()


def api_address(base_url: str) -> str:
    """``base_url`` with ``/v1``, and without credentials, which must not reach records.

    Raises:
        ReasonerUnreachableError: if it is no http or https address.
    """
    try:
        parts = urlsplit(base_url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    # A password with a raw "/", "?" or "#" ends the host early: what follows must not be shown.
    if not usable or "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
        raise ReasonerUnreachableError(
            "The reasoner's address is not an http or https URL; expected e.g. "
            "http://localhost:8000/v1."
        )
    path = parts.path.rstrip("/")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, path if path.endswith("/v1") else f"{path}/v1", "", ""))


@contextmanager
def typed_errors(address: str, limits: ReasonerLimits) -> Iterator[None]:
    """Turn the client's errors into this library's; messages hold no body, which may echo text."""
    import openai

    broken: tuple[type[Exception], ...] = (openai.OpenAIError, *_transport_errors())
    try:
        yield
    except MedReasonerError:
        raise
    except OutOfTimeError as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} did not end its answer within "
            f"{limits.total_s:g} s."
        ) from error
    except openai.APITimeoutError as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} did not answer within {limits.silence_s:g} s."
        ) from error
    except openai.APIStatusError as error:
        raise _status_error(error, address) from error
    except json.JSONDecodeError as error:
        raise ReasonerUnreachableError(
            f"The server at {address} did not answer with JSON; expected a vLLM server's address."
        ) from error
    except broken as error:
        raise ReasonerUnreachableError(
            f"The reasoner's server at {address} could not be reached or broke off "
            f"({type(error).__name__}). Check that it runs."
        ) from error
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ReasonerUnreachableError(
            f"The server at {address} answered with what is no answer of a vLLM server "
            f"({type(error).__name__})."
        ) from error


def _transport_errors() -> tuple[type[Exception], ...]:
    """Faults of the connection, of whichever library the installed client is built on."""
    import httpx

    kinds: list[type[Exception]] = [httpx.HTTPError, httpx.InvalidURL, httpx.StreamError]
    try:
        import httpx2
    except ImportError:  # the client of openai 2
        return tuple(kinds)
    return (*kinds, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError)


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

    async def talk(client: AsyncOpenAI, tell: Callable[[Any], None]) -> Any:
        # Raw, since the client's own parser stumbles over whatever a proxy answers instead.
        return (await client.models.with_raw_response.list()).http_response.json()

    answer = link.talk(talk)
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
