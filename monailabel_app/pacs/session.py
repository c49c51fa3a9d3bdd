# SPDX-License-Identifier: Apache-2.0
"""The HTTP session of a DICOMweb server."""

from __future__ import annotations

import functools
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, cast

import httpx
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

from medreasoner_infer.waiting import OutOfTimeError, run_cancellable
from monailabel_app.framework import settings
from monailabel_app.pacs.limits import (
    PACS_LIMITS,
    AnswerTooLongError,
    PacsLimits,
    current_exchange,
)

_IN_MEMORY_BYTES = 1 << 20
# The answer's body is handed on decoded and whole.
_OF_THE_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_SET_ANEW = frozenset({"content-length", "transfer-encoding", "connection", "accept-encoding"})


class BoundedAdapter(BaseAdapter):
    """Sends a request and takes its answer within limits; requests itself would wait for ever.

    The limit of silence that requests knows does not end an answer that comes a byte at a time,
    and a thread in a read cannot be called back when its reader leaves. So the exchange goes by
    httpx in an event loop, and its answer is there as a whole (on disk, if it is long) or not at
    all. Each request has a connection of its own, so none is lost with one that was kept too long.
    """

    def __init__(self, limits: PacsLimits = PACS_LIMITS) -> None:
        super().__init__()
        self._limits = limits

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: object = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send; the limits are those of :func:`monailabel_app.pacs.limits.exchange`.

        Raises:
            requests.Timeout: no answer, or no end of it, in time.
            AnswerTooLongError: the answer is longer than what is taken.
            requests.ConnectionError: any other fault of the connection.
            CancelledError: nobody waits for the answer any more.
        """
        going = current_exchange()
        limits = self._limits
        left_s = limits.answer_s
        if going.deadline is not None:
            left_s = going.deadline - time.monotonic()
        try:
            answer = run_cancellable(
                lambda _: self._talk(request, tls_context(verify, cert)),
                total_s=left_s,
                cancelled=going.cancelled,
            )
        except OutOfTimeError as error:
            raise requests.ReadTimeout("no end of the answer", request=request) from error
        except httpx.TimeoutException as error:
            raise requests.Timeout(type(error).__name__, request=request) from error
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise requests.ConnectionError(type(error).__name__, request=request) from error
        response: requests.Response = HTTPAdapter().build_response(request, answer)
        return response

    def close(self) -> None:
        """Nothing is kept open."""

    async def _talk(
        self, request: requests.PreparedRequest, tls: ssl.SSLContext
    ) -> urllib3.HTTPResponse:
        limits = self._limits
        timeout = httpx.Timeout(limits.silence_s, connect=limits.connect_s)
        async with (
            httpx.AsyncClient(verify=tls, timeout=timeout) as client,
            client.stream(
                request.method or "GET",
                request.url or "",
                content=_body(request),
                headers=_headers(request),
            ) as answer,
        ):
            spool = await self._taken(answer)
            kept = [(k, v) for k, v in answer.headers.items() if k not in _OF_THE_TRANSFER]
            return urllib3.HTTPResponse(
                spool, urllib3.HTTPHeaderDict(kept), answer.status_code,
                reason=answer.reason_phrase, preload_content=False,
            )  # fmt: skip

    async def _taken(self, answer: httpx.Response) -> IO[bytes]:
        """The body, in memory or in a file without a name that nobody else can read."""
        going = current_exchange()
        left = most = going.most_bytes or self._limits.answer_bytes
        folder = None if going.scratch is None else str(going.scratch)
        spool = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=folder)  # noqa: SIM115
        try:
            async for chunk in answer.aiter_bytes():
                left -= len(chunk)
                if left < 0:
                    raise AnswerTooLongError(f"more than {most} bytes")
                spool.write(chunk)
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        return spool


def pacs_session(limits: PacsLimits = PACS_LIMITS) -> requests.Session:
    """A session with MONAI Label's credentials, if any are set, and with limits."""
    from dicomweb_client.session_utils import (
        create_session,
        create_session_from_gcp_credentials,
        create_session_from_user_pass,
    )

    user = settings.MONAI_LABEL_DICOMWEB_USERNAME
    password = settings.MONAI_LABEL_DICOMWEB_PASSWORD
    if "googleapis.com" in settings.MONAI_LABEL_STUDIES:
        session = create_session_from_gcp_credentials()
    elif user and password:
        session = create_session_from_user_pass(user, password)
    else:
        session = create_session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, BoundedAdapter(limits))
    return session


def credentials_of(session: requests.Session, address: str) -> dict[str, str]:
    """The headers by which ``session`` logs in at ``address``; may ask Google for a new token."""
    google = getattr(session, "credentials", None)
    if google is not None:
        headers: dict[str, str] = {}
        google.before_request(getattr(session, "_auth_request", None), "GET", address, headers)
        return headers
    prepared = session.prepare_request(requests.Request("GET", address))
    authorization = prepared.headers.get("Authorization")
    return {} if authorization is None else {"Authorization": _text(authorization)}


def tls_context(verify: bool | str = True, cert: Any = None) -> ssl.SSLContext:
    """What certificates are checked against: as requests does, also ``REQUESTS_CA_BUNDLE``."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return _tls_context(bundle if verify is True and bundle else verify, cert)


@functools.lru_cache(maxsize=8)
def _tls_context(verify: bool | str, cert: Any) -> ssl.SSLContext:
    context: ssl.SSLContext
    if isinstance(verify, str):
        folder = os.path.isdir(verify)
        context = ssl.create_default_context(
            cafile=None if folder else verify, capath=verify if folder else None
        )
    else:
        context = httpx.create_ssl_context(verify=verify)
    if cert:
        context.load_cert_chain(*((cert,) if isinstance(cert, str) else cert))
    return context


def _headers(request: requests.PreparedRequest) -> dict[str, str]:
    # Bytes that are packed would have to be unpacked before their number is known.
    kept = {k: _text(v) for k, v in request.headers.items() if k.lower() not in _SET_ANEW}
    return {**kept, "Accept-Encoding": "identity"}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _body(request: requests.PreparedRequest) -> bytes | None:
    body = request.body
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    read: Callable[[], bytes] | None = getattr(body, "read", None)
    # The DICOMweb client cuts what it has in memory into pieces.
    return read() if read is not None else b"".join(cast("Iterable[bytes]", body))
