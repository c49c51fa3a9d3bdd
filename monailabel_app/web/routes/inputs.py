# SPDX-License-Identifier: Apache-2.0
"""The image that a request to ``/infer`` or a stream is about."""

from __future__ import annotations

import shutil
from pathlib import Path

from fastapi import UploadFile

from medreasoner_infer.imaging.formats import identify
from monailabel_app.images.source import ImageSource
from monailabel_app.site.sessions import Sessions
from monailabel_app.web.routes.callers import Caller


def store_upload(file: UploadFile, folder: Path) -> ImageSource:
    """Write an uploaded image; its content says of which format it is, not its name.

    Raises:
        UnreadableImageError: if it is of no format that is read here.
    """
    path = folder / "upload"
    with path.open("xb") as stored:
        shutil.copyfileobj(file.file, stored)
    named = path.with_suffix(identify(path).suffix)
    return ImageSource(path.rename(named), lasting=False)


def session_image(sessions: Sessions, session_id: str, caller: Caller) -> ImageSource:
    """The image of a session.

    Raises:
        UnknownSessionError: if it has expired, never existed, or is another reader's.
    """
    return ImageSource(sessions.get(session_id, caller.name).image)
