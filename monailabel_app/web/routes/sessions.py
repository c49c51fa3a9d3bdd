# SPDX-License-Identifier: Apache-2.0
"""``/session``: an image that is sent to be asked about and is not one of the studies."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Depends, File, Query, UploadFile
from fastapi.responses import FileResponse, Response

from medreasoner_infer.errors import InputError
from monailabel_app.common.door import Token
from monailabel_app.errors import NotFoundError
from monailabel_app.site.sessions import MAX_EXPIRY_S, MAX_FILES, Sessions
from monailabel_app.web.routes.callers import MayAsk
from monailabel_app.web.routes.typed_errors import FORM_LIMITS, BoundedRequest, TypedErrorRoute
from monailabel_app.web.services import App


class SeriesRequest(BoundedRequest):
    """A form with the files of a series."""

    form_limits: ClassVar[dict[str, int]] = {**FORM_LIMITS, "max_files": MAX_FILES}


class SeriesRoute(TypedErrorRoute):
    """A route that takes such a form."""

    request_class: ClassVar[type[BoundedRequest]] = SeriesRequest


router = APIRouter(prefix="/session", tags=["Session"], route_class=SeriesRoute)


def _sessions(app: App) -> Sessions:
    return app.sessions


OwnSessions = Annotated[Sessions, Depends(_sessions)]


@router.put("/", summary="Create new session with Image")
def create_session(
    caller: MayAsk,
    sessions: OwnSessions,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: Annotated[int, Query(ge=0, le=MAX_EXPIRY_S)] = 0,
) -> dict[str, Any]:
    """Keep one image file, or the files of one DICOM series; ``expiry`` in seconds."""
    if uncompress:
        raise InputError("Archives are not unpacked here; send the image's files one by one.")
    session = sessions.create((file.file for file in files), caller.name, expiry or None)
    return {"session_id": session.id, "session_info": session.to_dict()}


@router.get("/{session_id}", summary="Get Session ID", response_model=None)
def get_session(
    caller: MayAsk,
    sessions: OwnSessions,
    session_id: Token,
    update_ts: bool = False,
    image: bool = False,
) -> dict[str, Any] | Response:
    """What is known of the session, or its image."""
    session = sessions.get(session_id, caller.name, use=update_ts)
    if not image:
        return session.to_dict()
    if session.image.is_dir():
        raise NotFoundError("The session holds a DICOM series of several files, not one image.")
    return FileResponse(session.image, filename=session.image.name)


@router.delete("/{session_id}", summary="Delete Session")
def remove_session(caller: MayAsk, sessions: OwnSessions, session_id: Token) -> dict[str, Any]:
    """End the session; its image is removed."""
    return sessions.remove(session_id, caller.name).to_dict()
