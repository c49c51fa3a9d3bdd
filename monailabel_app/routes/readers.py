# SPDX-License-Identifier: Apache-2.0
"""Who is reading, as far as the server knows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from monailabel_app.dicom.deciding import READER_KEY
from monailabel_app.framework import DEFAULT_USER, User
from monailabel_app.security.readers import Reader


def current_user(request: Request) -> User:
    """What MONAI Label's routes take for the caller: the reader who is logged in, if any.

    It stands in for MONAI Label's own, which asks a Keycloak server or calls everybody admin.
    """
    name = reader_name(request)
    return DEFAULT_USER if name is None else DEFAULT_USER.model_copy(update={"username": name})


def reader_name(request: Request) -> str | None:
    """Who is logged in, ``None`` where nobody has to."""
    user = request.scope.get("user")
    return user.display_name if isinstance(user, Reader) else None


def reader_of(user: User) -> str | None:
    """The account's name; ``None`` without login, where MONAI Label calls everybody admin."""
    return None if user == DEFAULT_USER else user.username


def signed(values: Mapping[str, Any], reader: str | None) -> str:
    """The ``params`` of a submission as JSON, with the server's own word on who submits."""
    stated = {key: value for key, value in values.items() if key != READER_KEY}
    return json.dumps(stated if reader is None else {**stated, READER_KEY: reader})
