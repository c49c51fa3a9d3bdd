# SPDX-License-Identifier: Apache-2.0
"""``/proxy/dicom``: the viewer's way to the archive, which is DICOMweb and nothing else.

MONAI Label passes any path on to the archive, with ``POST`` together with the caller's own headers,
waits for the answer in its event loop, and drops the query.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, unquote_to_bytes

import httpx
import requests
from anyio import CapacityLimiter, SpooledTemporaryFile, to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from medreasoner_infer.errors import CancelledError, InputError
from monailabel_app.errors import NotFoundError, PacsTimeoutError
from monailabel_app.framework import settings
from monailabel_app.inference.gate import Places
from monailabel_app.pacs.session import credentials_of, tls_context
from monailabel_app.site.opening import Site
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.web.routes.callers import MayLabel, MayRead
from monailabel_app.web.routes.forwarding import Forwarded, ForwardingLimits, forward
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

router = APIRouter(prefix="/proxy", tags=["Others"], route_class=TypedErrorRoute)

_PREFIX = b"/proxy/dicom/"
# PS3.18 tables 10.4.1-1 (retrieve) and 10.6.1-1 (search): the resources start with one of three
# words; UIDs, fixed words, frame lists and the archive's names of bulk data follow.
_RESOURCE = re.compile(
    r"(wado|qido)/((studies|series|instances)(/[A-Za-z0-9][A-Za-z0-9._,-]*){0,12})"
)
# OHIF stores where it retrieves.
_STORE = re.compile(r"(?:stow|wado)/(studies(/[0-9]+(\.[0-9]+)*)?)")
_UNDECODED = (b"%2f", b"%5c", b"%25", b"%00")
_ACCEPT = re.compile(r"[A-Za-z0-9*/+.,;:=\"\x20_'()-]{1,1024}")
_STORED_TYPE = re.compile(r"multipart/related;[\x20-\x7e]{1,240}", re.IGNORECASE)
_MOST_QUERY_BYTES = 4096
_MOST_PARAMETERS = 64
_IN_MEMORY_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_LOGIN_S = 20.0
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]

LIMITS = ForwardingLimits(
    silence_s=settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT,
    head_s=2 * settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT,
)
_READS = Places(LIMITS.most_at_a_time, LIMITS.most_of_a_caller)
_STORES = Places(LIMITS.stores_at_a_time)


def limits() -> ForwardingLimits:
    """What is waited for; a test puts shorter ones in their place."""
    return LIMITS


Limits = Annotated[ForwardingLimits, Depends(limits)]


@router.get("/dicom/{service}/{path:path}", include_in_schema=False)
async def retrieve(request: Request, caller: MayRead, app: App, limits: Limits) -> Response:
    """Search for or retrieve DICOM objects."""
    found = _RESOURCE.fullmatch(_resource(request))
    if found is None:
        raise NotFoundError("This is no DICOMweb resource; only the archive's images are here.")
    service, path = found[1], found[2]
    # Some viewers ask the search service for metadata, which the retrieve service gives.
    service = "wado" if path.endswith("metadata") else service
    with ExitStack() as place:
        place.enter_context(_READS.place(caller.name))
        headers = await _headers(request, app.site)
        sent = Forwarded("GET", _address(app.site, service, path), _query(request), headers)
        return await forward(request, sent, _client(limits), limits, place)


@router.post("/dicom/{service}/{path:path}", include_in_schema=False)
async def store(request: Request, caller: MayLabel, app: App, limits: Limits) -> Response:
    """Store DICOM objects (STOW-RS); nothing else may be posted."""
    found = _STORE.fullmatch(_resource(request))
    if found is None:
        raise NotFoundError("DICOM objects are stored at 'stow/studies'; nothing else is taken.")
    kind = request.headers.get("content-type", "")
    if not _STORED_TYPE.fullmatch(kind):
        raise InputError(
            "The body is of another type than is stored; expected Content-Type: "
            'multipart/related; type="application/dicom"; boundary=….'
        )
    with ExitStack() as place:
        place.enter_context(_STORES.place())
        headers = {**await _headers(request, app.site), "Content-Type": kind}
        address = _address(app.site, "stow", found[1])
        async with _kept_body(request, app.site.paths.data_dir, limits) as (length, body):
            headers["Content-Length"] = str(length)
            sent = Forwarded("POST", address, _query(request), headers, body)
            return await forward(request, sent, _client(limits), limits, place)


@router.api_route("/{rest:path}", methods=_METHODS, include_in_schema=False)
@router.api_route("", methods=_METHODS, include_in_schema=False)
async def refuse(rest: str = "") -> Response:
    """Everything else; without this route some of it would be sent on to a path with a slash."""
    raise NotFoundError("Only DICOMweb's resources are passed on to the archive.")


def _resource(request: Request) -> str:
    """The path below the proxy, decoded once.

    Raises:
        NotFoundError: it holds what an archive might decode once more, or take for a separator.
    """
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    path = raw.partition(b"?")[0].partition(_PREFIX)[2]
    if any(code in path.lower() for code in _UNDECODED):
        raise NotFoundError("This is no DICOMweb resource; its path holds encoded separators.")
    return unquote_to_bytes(path).decode("ascii", errors="replace")


def _query(request: Request) -> bytes:
    """The query as it came.

    Raises:
        InputError: it is too long, or not what a client encodes.
    """
    query: bytes = request.scope.get("query_string", b"")
    if len(query) > _MOST_QUERY_BYTES or not re.fullmatch(rb"[\x21-\x7e]*", query):
        raise InputError(
            f"The query has {len(query)} bytes; expected at most {_MOST_QUERY_BYTES}, printable."
        )
    try:
        parse_qsl(query.decode(), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError as error:
        raise InputError(
            f"The query has too many parameters; expected {_MOST_PARAMETERS} at most."
        ) from error
    return query


def _address(site: Site, service: str, path: str) -> str:
    prefixes = {
        "wado": settings.MONAI_LABEL_WADO_PREFIX,
        "qido": settings.MONAI_LABEL_QIDO_PREFIX,
        "stow": settings.MONAI_LABEL_STOW_PREFIX,
    }
    parts = (site.paths.studies.rstrip("/"), prefixes[service], path)
    return "/".join(part.strip("/") for part in parts if part)


async def _headers(request: Request, site: Site) -> dict[str, str]:
    """What the archive is told: what the caller accepts, and this server's own login."""
    accept = request.headers.get("accept", "*/*")
    if not _ACCEPT.fullmatch(accept):
        raise InputError("The header 'Accept' is longer than 1024 characters or holds others.")
    session, address = _session(site), site.paths.studies
    try:
        # Google may have to be asked for a new token.
        login = await asyncio.wait_for(
            to_thread.run_sync(
                credentials_of, session, address, limiter=CapacityLimiter(1), abandon_on_cancel=True
            ),
            _LOGIN_S,
        )
    except asyncio.TimeoutError as error:
        raise PacsTimeoutError("The archive's login service did not answer in time.") from error
    # Not compressed, as it is passed on as it comes.
    return {**login, "Accept": accept, "Accept-Encoding": "identity"}


def _client(limits: ForwardingLimits) -> httpx.AsyncClient:
    timeout = httpx.Timeout(limits.silence_s, connect=limits.connect_s)
    return httpx.AsyncClient(verify=tls_context(), timeout=timeout, follow_redirects=False)


@asynccontextmanager
async def _kept_body(
    request: Request, folder: Path, limits: ForwardingLimits
) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
    """The length of the body, and the body, which lies in a file without a name meanwhile."""
    async with SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(folder)) as file:
        try:
            length = await asyncio.wait_for(_receive(request, file), limits.total_s)
        except asyncio.TimeoutError as error:
            raise InputError("The body did not come to its end in time; send it anew.") from error
        except ClientDisconnect as error:
            raise CancelledError("The caller left in the middle of what is stored.") from error
        yield length, _pieces(file)


async def _receive(request: Request, file: SpooledTemporaryFile[bytes]) -> int:
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        await file.write(chunk)
    await file.seek(0)
    return length


async def _pieces(file: SpooledTemporaryFile[bytes]) -> AsyncIterator[bytes]:
    while chunk := await file.read(_CHUNK_BYTES):
        yield chunk


def _session(site: Site) -> requests.Session:
    """The session that the datastore itself uses, with its credentials."""
    if not isinstance(site.studies, PacsStudies):
        raise NotFoundError("These studies are a folder; there is no archive behind the server.")
    return site.studies.http_session
