# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of files, by which a result names the weights that made it."""

from __future__ import annotations

import hashlib
from pathlib import Path

_CHUNK_BYTES = 1 << 22


def files_sha256(*paths: Path) -> str:
    """SHA-256 over the bytes of all files in the order given, read piece by piece.

    For a single file this is the file's own hash, as ``sha256sum`` prints it.
    """
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()
