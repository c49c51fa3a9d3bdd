# SPDX-License-Identifier: Apache-2.0
"""What a file is, told by its content, and whether it lies where it seems to lie."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from medreasoner_infer.errors import UnreadableImageError

_HEAD_BYTES = 4096
_NIFTI_MAGIC = ((344, b"n+1\0"), (4, b"n+2\0\r\n\032\n"))
_DETACHED_NRRD = re.compile(rb"^data ?file\s*:", re.IGNORECASE | re.MULTILINE)
_LOCAL_META = re.compile(rb"^ElementDataFile\s*=\s*LOCAL\s*$", re.IGNORECASE | re.MULTILINE)
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"), (b"BM", ".bmp"),
)  # fmt: skip


def canonical_suffix(path: Path) -> str:
    """The extension that a file's content calls for, whatever its name.

    Raises:
        UnreadableImageError: it is of no format that is taken, or keeps its pixels elsewhere.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(b"\x1f\x8b") and _is_nifti(_unpacked(path)):
        return ".nii.gz"
    tests: tuple[tuple[Callable[[bytes], bool], str], ...] = (
        (_is_nifti, ".nii"),
        (_is_nrrd, ".nrrd"),
        (lambda content: _LOCAL_META.search(content) is not None, ".mha"),
    )
    for is_kind, suffix in tests:
        if is_kind(head):
            return suffix
    for magic, suffix in _PICTURES:
        if head.startswith(magic):
            return suffix
    raise UnreadableImageError(
        "The file is of no format that is taken, or keeps its pixels in another file. Send NIfTI, "
        "NRRD or MetaImage with the pixels in the same file, or a picture."
    )


def is_inside(folder: Path, path: Path) -> bool:
    """Whether ``path``, after following every link, lies in ``folder``."""
    return path.resolve().is_relative_to(folder.resolve())


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(_HEAD_BYTES)
    except (EOFError, OSError, zlib.error):
        return b""


def _is_nifti(head: bytes) -> bool:
    return any(head[start : start + len(magic)] == magic for start, magic in _NIFTI_MAGIC)


def _is_nrrd(head: bytes) -> bool:
    header = head.partition(b"\n\n")[0]
    return head.startswith(b"NRRD000") and _DETACHED_NRRD.search(header) is None
