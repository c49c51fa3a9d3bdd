# SPDX-License-Identifier: Apache-2.0
"""``/proxy/dicom``: the viewer's way to the archive, which is DICOMweb and nothing else.

MONAI Label passes any path on to the archive, with ``POST`` together with the caller's own headers,
waits for the answer in its event loop, and drops the query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import requests
from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse

from monailabel_app.app import MedReasonerApp
from monailabel_app.errors import NotFoundError, PacsUnreachableError
from monailabel_app.framework import (
    RBAC,
    DICOMWebDatastore,
    User,
    app_instance,
    settings,
)
from monailabel_app.routes.typed_errors import TypedErrorRoute

router = APIRouter(prefix="/proxy/dicom", tags=["Others"], route_class=TypedErrorRoute)

Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]

# PS3.18 tables 10.4.1-1 (retrieve) and 10.6.1-1 (search): the resources start with one of three
# words; UIDs, fixed words, frame lists and the archive's names of bulk data follow.
_RESOURCE = re.compile(r"(studies|series|instances)(/[A-Za-z0-9][A-Za-z0-9._,-]*)*/?")
_STORE = re.compile(r"studies(/[0-9.]+)?/?")
_SENT_ON = ("accept", "accept-encoding", "content-type")
_SENT_BACK = ("content-type", "content-encoding", "content-length", "etag", "last-modified")
_CHUNK_BYTES = 1 << 18


@router.get("/{service}/{path:path}", include_in_schema=False)
def retrieve(request: Request, user: Reader, service: str, path: str) -> Response:
    """Search for or retrieve DICOM objects."""
    if not _RESOURCE.fullmatch(path):
        raise NotFoundError("This is no DICOMweb resource; only the archive's images are here.")
    # Some viewers ask the search service for metadata, which the retrieve service gives.
    service = "wado" if path.endswith("metadata") else service
    return _forward(request, "GET", _address(service, path), None)


@router.post("/{service}/{path:path}", include_in_schema=False)
async def store(request: Request, user: Reader, service: str, path: str) -> Response:
    """Store DICOM objects (STOW-RS); nothing else may be posted."""
    if not _STORE.fullmatch(path):
        raise NotFoundError("DICOM objects are stored below 'studies'; nothing else is taken.")
    body = await request.body()
    return await run_in_threadpool(_forward, request, "POST", _address("stow", path), body)


def _address(service: str, path: str) -> str:
    prefixes = {
        "wado": settings.MONAI_LABEL_WADO_PREFIX,
        "qido": settings.MONAI_LABEL_QIDO_PREFIX,
        "stow": settings.MONAI_LABEL_STOW_PREFIX,
    }
    if service not in prefixes:
        raise NotFoundError("The archive's services are wado, qido and stow.")
    parts = (settings.MONAI_LABEL_STUDIES.rstrip("/"), prefixes[service], path)
    return "/".join(part.strip("/") for part in parts if part)


def _forward(request: Request, method: str, address: str, body: bytes | None) -> Response:
    # Named, as the session would otherwise ask for compression that the caller cannot undo.
    headers = {"accept-encoding": "identity"}
    headers |= {name: request.headers[name] for name in _SENT_ON if name in request.headers}
    try:
        answer = _session().request(
            method,
            address,
            params=request.url.query,
            headers=headers,
            data=body,
            stream=True,
            timeout=settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise PacsUnreachableError("The DICOMweb server did not answer; try again.") from error
    kept = {name: answer.headers[name] for name in _SENT_BACK if name in answer.headers}
    return StreamingResponse(_chunks(answer), status_code=answer.status_code, headers=kept)


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    # Undecoded, as the header content-encoding is sent back as well.
    with answer:
        yield from answer.raw.stream(_CHUNK_BYTES, decode_content=False)


def _session() -> requests.Session:
    """The session that the datastore itself uses, with its credentials."""
    instance: MedReasonerApp = app_instance()
    store = instance.datastore()
    if not isinstance(store, DICOMWebDatastore):
        raise NotFoundError("These studies are a folder; there is no archive behind the server.")
    session: requests.Session = store._client._session
    return session
