# SPDX-License-Identifier: Apache-2.0
"""The site's secret, under which patients become pseudonyms."""

from __future__ import annotations

import secrets
from pathlib import Path

from filelock import FileLock

from medreasoner_infer.atomic import replacing
from medreasoner_infer.errors import InputError
from monailabel_app.common.private_files import PRIVATE_FILE, private_file

SALT_NAME = "export.salt"
_BYTES = 32


def site_salt(folder: Path) -> bytes:
    """The salt kept in ``folder``, made at the first export and readable by its owner only.

    Of several threads or processes that ask first, one makes it for all. It stays the same, so
    that a patient keeps pseudonym and split from one export to the next.

    Raises:
        InputError: the file was cut short.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / SALT_NAME
    with FileLock(folder / f".{SALT_NAME}.lock", mode=PRIVATE_FILE):
        if not path.exists():
            with replacing(path, durable=True) as unfinished:
                private_file(unfinished).write_bytes(secrets.token_bytes(_BYTES))
    salt = path.read_bytes()
    if len(salt) != _BYTES:
        raise InputError(
            f"{SALT_NAME} holds {len(salt)} bytes; expected {_BYTES}. Restore it from a backup, or "
            "remove it: patients then get new pseudonyms and may change between the splits."
        )
    return salt
