# SPDX-License-Identifier: Apache-2.0
"""What a request to ``/infer`` carries: params, an uploaded file, a session."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from fastapi import UploadFile
from fastapi.background import BackgroundTasks

from medreasoner_infer.errors import InputError
from monailabel_app.errors import UnknownSessionError
from monailabel_app.framework import remove_file
from monailabel_app.studies.local import IMAGE_PATTERNS
from monailabel_app.studies.source import ImageSource
from monailabel_app.tasks import CALL_KEY

# Said by the server itself; a client's params never replace them.
_RESERVED = frozenset({"image", "model", "session", CALL_KEY})


class TemporaryFiles:
    """Files that go once the answer is sent, or at once if there is none."""

    def __init__(self, background_tasks: BackgroundTasks) -> None:
        self._tasks = background_tasks
        self._paths: list[str] = []

    def add(self, path: str) -> str:
        """Take charge of ``path`` and return it."""
        self._paths.append(path)
        return path

    def __enter__(self) -> TemporaryFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for path in self._paths:
            if error is None:
                self._tasks.add_task(remove_file, path)
            else:
                remove_file(path)


def parse_params(text: str) -> dict[str, Any]:
    """The form field ``params`` without the keys that only the server sets.

    Raises:
        InputError: if it is not a JSON object.
    """
    try:
        values = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise InputError(
            f"The form field 'params' is not JSON (at character {error.pos}); "
            'expected an object such as {"query": "..."}.'
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            f"The form field 'params' holds a JSON {type(values).__name__}; expected an object "
            'such as {"query": "..."}.'
        )
    return {key: value for key, value in values.items() if key not in _RESERVED}


def store_upload(file: UploadFile, temporary: TemporaryFiles) -> ImageSource:
    """Write an uploaded image to a temporary file of the same format."""
    name = (file.filename or "").lower()
    extensions = [pattern.lstrip("*") for pattern in IMAGE_PATTERNS]
    extension = next((known for known in extensions if name.endswith(known)), ".dcm")
    with tempfile.NamedTemporaryFile(suffix=extension, delete=False) as stored:
        temporary.add(stored.name)
        shutil.copyfileobj(file.file, stored)
    return ImageSource(Path(stored.name), lasting=False)


def session_image(sessions: Any, session_id: str) -> ImageSource:
    """The image of a MONAI Label session.

    Raises:
        UnknownSessionError: if it has expired, never existed, or sessions are off.
    """
    session = None if sessions is None else sessions.get_session(session_id)
    if session is None:
        raise UnknownSessionError("There is no such session; it may have expired. Start a new one.")
    return ImageSource(Path(session.image))
