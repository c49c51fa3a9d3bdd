# SPDX-License-Identifier: Apache-2.0
"""One request on its way to the PACS and its answer on the way back, within limits.

Bodies go through in pieces, in both directions; nothing is kept but the beginning of an answer, so
that what is cut short there is told by its status.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from medreasoner_infer.errors import CancelledError
from monailabel_app.errors import PacsAnswerError, PacsTimeoutError, PacsUnreachableError
from monailabel_app.web.routes.serving import while_connected

T = TypeVar("T")

# Types that no browser runs as a page of this server's.
_HARMLESS = re.compile(
    r"(multipart/related|application/(dicom|json|octet-stream|pdf)|application/dicom\+(json|xml)"
    r"|image/(jpeg|png|gif|jp2|jpx|jls|x-jls|jphc|jxl|dicom-rle|x-dicom-rle|webp)|video/[a-z0-9]+"
    r"|text/plain)(;[\x20-\x7e]*)?",
    re.IGNORECASE,
)
_SENT_BACK = ("content-encoding", "content-length", "etag", "last-modified")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,512}")


@dataclass(frozen=True)
class ForwardingLimits:
    """Limits of a request that is passed on; times in seconds.

    Attributes:
        connect_s: until a connection stands.
        silence_s: without a byte, in either direction.
        head_s: until the beginning of the answer is there.
        total_s: of the whole, whatever moves meanwhile.
        slowest_bytes_s: of an answer after ``head_s``, on the average.
        held_bytes: of an answer that are held back until more has come, or its end.
        most_at_a_time: requests that read.
        most_of_a_caller: of these, requests of one reader.
        stores_at_a_time: requests that store, whose bodies lie on disk meanwhile.
    """

    connect_s: float = 10.0
    silence_s: float = 60.0
    head_s: float = 60.0
    total_s: float = 1800.0
    slowest_bytes_s: float = 1024.0
    held_bytes: int = 1 << 18
    most_at_a_time: int = 64
    most_of_a_caller: int = 32
    stores_at_a_time: int = 8


@dataclass(frozen=True)
class Forwarded:
    """What is sent to the PACS; ``body`` is read piece by piece."""

    method: str
    address: str
    query: bytes
    headers: dict[str, str]
    body: AsyncIterator[bytes] | None = None


async def forward(
    request: Request,
    sent: Forwarded,
    client: httpx.AsyncClient,
    limits: ForwardingLimits,
    place: ExitStack,
) -> Response:
    """Send, and answer with what comes back.

    Args:
        client: is closed at the end.
        place: is closed when all has been sent.

    Raises:
        PacsUnreachableError: the PACS does not answer, or with a fault of its own.
        PacsTimeoutError: it does not answer in time.
        PacsAnswerError: its answer breaks off, redirects, or is none.
        CancelledError: the caller has left.
    """
    clock = _Clock(limits)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(client)
        asked = client.build_request(
            sent.method, _url(sent), headers=sent.headers, content=sent.body
        )
        answer = await while_connected(
            request, clock.limited(client.send(asked, stream=True), clock.head_s(sent))
        )
        stack.push_async_callback(answer.aclose)
        _refuse(answer)
        chunks = answer.aiter_raw()
        first, ended = await while_connected(request, _beginning(chunks, clock, limits))
        headers = _headers(answer)
        if ended:
            headers.pop("content-length", None)
            return Response(first, answer.status_code, headers)
        rest = _Rest(request, first, chunks, clock)
        # From here on the response closes what is open.
        kept = stack.pop_all()
        kept.enter_context(place.pop_all())
        return _Relay(rest.chunks(), answer.status_code, headers, kept, clock)


class _Clock:
    """How much time is left, and whether enough has come in it."""

    def __init__(self, limits: ForwardingLimits) -> None:
        self._limits = limits
        self._began = time.monotonic()
        self.received_bytes = 0

    def head_s(self, sent: Forwarded) -> float:
        """For the answer's head; what is stored takes its time."""
        return self._limits.head_s if sent.body is None else self._limits.total_s

    def left_s(self) -> float:
        """Until the whole must have ended."""
        return self._began + self._limits.total_s - time.monotonic()

    def count(self, chunk: bytes) -> None:
        """Note what has come.

        Raises:
            PacsTimeoutError: it comes too slowly to be waited for.
        """
        self.received_bytes += len(chunk)
        late_s = time.monotonic() - self._began - self._limits.head_s
        if late_s > 0 and self.received_bytes < late_s * self._limits.slowest_bytes_s:
            raise PacsTimeoutError("The PACS answers too slowly to be waited for; try again.")

    async def limited(self, work: Coroutine[Any, Any, T], most_s: float) -> T:
        """What ``work`` returns, within a limit; faults are typed.

        Raises:
            PacsUnreachableError: see :func:`forward`.
        """
        try:
            return await asyncio.wait_for(work, max(0.0, min(most_s, self.left_s())))
        except (asyncio.TimeoutError, httpx.TimeoutException) as error:
            raise PacsTimeoutError("The PACS did not answer in time; try again.") from error
        except httpx.ConnectError as error:
            raise PacsUnreachableError("The PACS cannot be reached; try again.") from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise PacsAnswerError(
                f"The PACS's answer broke off or is none ({type(error).__name__}); try again."
            ) from error


async def _beginning(
    chunks: AsyncIterator[bytes], clock: _Clock, limits: ForwardingLimits
) -> tuple[bytes, bool]:
    """The first bytes of the body, and whether they are all."""
    held = bytearray()
    until = time.monotonic() + limits.head_s
    while len(held) < limits.held_bytes:
        chunk = await clock.limited(_next(chunks), until - time.monotonic())
        if chunk is None:
            return bytes(held), True
        clock.count(chunk)
        held += chunk
    return bytes(held), False


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)


class _Rest:
    """The rest of an answer whose beginning is known."""

    def __init__(
        self, request: Request, first: bytes, chunks: AsyncIterator[bytes], clock: _Clock
    ) -> None:
        self._request = request
        self._first = first
        self._chunks = chunks
        self._clock = clock

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of the answer, piece by piece."""
        yield self._first
        while True:
            piece = self._clock.limited(_next(self._chunks), self._clock.left_s())
            chunk = await while_connected(self._request, piece)
            if chunk is None:
                return
            self._clock.count(chunk)
            yield chunk


class _Relay(StreamingResponse):
    """Sends an answer on, and closes everything at its end, also for a client that never reads.

    An answer that breaks off on the way ends the client's connection before its time: there is no
    other way to tell, as the status has been sent.
    """

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        status: int,
        headers: dict[str, str],
        kept: AsyncExitStack,
        clock: _Clock,
    ) -> None:
        super().__init__(chunks, status, headers)
        self._kept = kept
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        async with self._kept:
            try:
                await asyncio.wait_for(
                    super().__call__(scope, receive, send), max(0.0, self._clock.left_s())
                )
            except CancelledError:
                return  # nobody is there to be told
            except asyncio.TimeoutError as error:
                raise PacsTimeoutError("The answer did not come to its end in time.") from error


def _url(sent: Forwarded) -> httpx.URL:
    url = httpx.URL(sent.address)
    raw = url.raw_path + (b"?" + sent.query if sent.query else b"")
    return url.copy_with(raw_path=raw)


def _refuse(answer: httpx.Response) -> None:
    """Statuses that are no answer to the caller."""
    status = answer.status_code
    if status in (401, 403, 407):
        raise PacsAnswerError(
            f"The PACS refuses this server's own login (HTTP {status}); tell the administrator."
        )
    if not (200 <= status < 300 or 400 <= status < 500):
        raise PacsAnswerError(f"The PACS answered with HTTP {status}; try again.")


def _headers(answer: httpx.Response) -> dict[str, str]:
    kept = {name: answer.headers[name] for name in _SENT_BACK if name in answer.headers}
    kind = answer.headers.get("content-type", "")
    kept["content-type"] = kind if _HARMLESS.fullmatch(kind) else "application/octet-stream"
    return {name: value for name, value in kept.items() if _PRINTABLE.fullmatch(value)}
