# SPDX-License-Identifier: Apache-2.0
"""A server with OpenAI's API: how it is reached, within which limits, and what its faults mean."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from medreasoner_infer.addresses import is_usable_address
from medreasoner_infer.errors import (
    InputError,
    MedReasonerError,
    MissingExtraError,
    ReasonerUnreachableError,
)
from medreasoner_infer.hooks import Cancelled
from medreasoner_infer.waiting import Emit, OutOfTimeError, run_cancellable

if TYPE_CHECKING:
    from openai import AsyncOpenAI

RETRIES = 2

T = TypeVar("T")


@dataclass(frozen=True)
class ReasonerLimits:
    """What a model's server is waited for, and how much is taken from it.

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
class ServerLink:
    """How a server is reached: a connection for each request, which its caller can cut.

    ``address`` holds no credentials; ``trust_env`` is whether proxies of the environment are used,
    ``retries`` how often a request that failed at once is sent again.
    """

    address: str
    api_key: str
    limits: ReasonerLimits
    tls: ssl.SSLContext
    trust_env: bool = True
    retries: int = RETRIES

    @classmethod
    def to(
        cls,
        base_url: str,
        api_key: str | None,
        limits: ReasonerLimits = REASONER_LIMITS,
        *,
        trust_env: bool = True,
        retries: int = RETRIES,
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
            raise MissingExtraError("openai") from error
        # A key is always passed, lest one meant for another service be read from the environment.
        key = api_key or "none"
        tls = httpx.create_ssl_context(trust_env=trust_env)
        return cls(api_address(base_url), key, limits, tls, trust_env, retries)

    def call(
        self,
        request: Callable[[AsyncOpenAI, Emit[Any]], Coroutine[Any, Any, T]],
        cancelled: Cancelled | None = None,
        receive: Emit[Any] | None = None,
        samples: int = 1,
    ) -> T:
        """What ``request`` returns within the limits; ``receive`` gets what it emits meanwhile."""

        async def connected(emit: Emit[Any]) -> T:
            async with self._client(samples * self.limits.sample_bytes) as client:
                return await request(client, emit)

        with typed_errors(self.address, self.limits):
            return run_cancellable(
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
            max_retries=self.retries,
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
                        f"The server at {address} sent more than {most_bytes} bytes for "
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
    parts = urlsplit(base_url.strip() if is_usable_address(base_url) else "")
    # A password with a raw "/", "?" or "#" ends the host early: what follows must not be shown.
    if not parts.netloc or "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
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
            f"The server at {address} did not end its answer within {limits.total_s:g} s."
        ) from error
    except openai.APITimeoutError as error:
        raise ReasonerUnreachableError(
            f"The server at {address} did not answer within {limits.silence_s:g} s."
        ) from error
    except openai.APIStatusError as error:
        raise _status_error(error, address) from error
    except json.JSONDecodeError as error:
        raise ReasonerUnreachableError(
            f"The server at {address} did not answer with JSON; expected a vLLM server's address."
        ) from error
    except broken as error:
        raise ReasonerUnreachableError(
            f"The server at {address} could not be reached or broke off "
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
        f"The server at {address} answered with HTTP {status}. See its log."
    )
