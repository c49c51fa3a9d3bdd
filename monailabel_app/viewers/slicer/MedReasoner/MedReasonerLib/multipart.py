# SPDX-License-Identifier: Apache-2.0
"""Forms with files (RFC 7578), kept on disk where they are large."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Union

Content = Union[bytes, Path]
_IN_MEMORY_BYTES = 1 << 20


@dataclass(frozen=True)
class FilePart:
    """A file of a form; ``name`` is what the server is told, never the reader's own file name."""

    field: str
    name: str
    content: Content


def encode(fields: Mapping[str, str], files: Iterable[FilePart]) -> tuple[str, BinaryIO, int]:
    """Content type, body and the body's length in bytes; the body is to be closed."""
    boundary = uuid.uuid4().hex
    body = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - the caller's
    for name, value in fields.items():
        body.write(_head(boundary, f'name="{name}"'))
        body.write(value.encode("utf-8") + b"\r\n")
    for part in files:
        body.write(_head(boundary, f'name="{part.field}"; filename="{part.name}"'))
        if isinstance(part.content, bytes):
            body.write(part.content)
        else:
            with part.content.open("rb") as file:
                shutil.copyfileobj(file, body)
        body.write(b"\r\n")
    body.write(f"--{boundary}--\r\n".encode("ascii"))
    length = body.tell()
    body.seek(0)
    return f"multipart/form-data; boundary={boundary}", body, length


def _head(boundary: str, disposition: str) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode("ascii")
