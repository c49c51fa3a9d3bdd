# SPDX-License-Identifier: Apache-2.0
"""The site's secret, under which patients become pseudonyms."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from medreasoner_infer.errors import InputError

SALT_NAME = "export.salt"
_BYTES = 32


def site_salt(folder: Path) -> bytes:
    """The salt kept in ``folder``, made at the first export and readable by its owner only.

    It stays the same, so that a patient keeps pseudonym and split from one export to the next.

    Raises:
        InputError: the file was cut short.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / SALT_NAME
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        salt = path.read_bytes()
    else:
        salt = secrets.token_bytes(_BYTES)
        with os.fdopen(descriptor, "wb") as file:
            file.write(salt)
    if len(salt) != _BYTES:
        raise InputError(
            f"{SALT_NAME} holds {len(salt)} bytes; expected {_BYTES}. Restore it from a backup, or "
            "remove it: patients then get new pseudonyms and may change between the splits."
        )
    return salt
