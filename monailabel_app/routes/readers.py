# SPDX-License-Identifier: Apache-2.0
"""Who is reading, as far as the server knows."""

from __future__ import annotations

from monailabel_app.framework import User, settings


def reader_of(user: User) -> str | None:
    """The account's name; ``None`` without login, where MONAI Label calls everybody admin."""
    return user.username if settings.MONAI_LABEL_AUTH_ENABLE else None
