# SPDX-License-Identifier: Apache-2.0
"""Unpacking DEFLATE streams (gzip, zlib, raw) no further than asked."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from medreasoner_infer.errors import UnreadableImageError

GZIP = 16 + zlib.MAX_WBITS
RAW = -zlib.MAX_WBITS
ANY = 32 + zlib.MAX_WBITS  # gzip or zlib, one member
_CHUNK = 1 << 16
_STEP = 1 << 20
# Each member of a gzip file costs work even where it holds nothing.
_MOST_MEMBERS = 100_000


def inflate(file: BinaryIO, most: int, wbits: int = GZIP) -> bytearray:
    """The first ``most`` bytes that a stream unpacks to, or all of them where there are fewer.

    Memory follows what is really there, not ``most``. The members of a gzip file are joined.

    Raises:
        UnreadableImageError: too many members.
        zlib.error: the stream is damaged.
    """
    unpacked = bytearray()
    _inflate_into(unpacked, file, most, wbits)
    return unpacked


def unpacked_length(file: BinaryIO, most: int, wbits: int = ANY) -> int:
    """How many bytes a stream unpacks to, counted up to ``most``; none of them are kept.

    Raises:
        As :func:`inflate`.
    """
    counted = _Counted()
    _inflate_into(counted, file, most, wbits)
    return len(counted)


class _Counted:
    """Takes bytes as a ``bytearray`` does, and keeps their number only."""

    def __init__(self) -> None:
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def extend(self, content: bytes) -> None:
        """Count more bytes."""
        self._length += len(content)


def _inflate_into(unpacked: bytearray | _Counted, file: BinaryIO, most: int, wbits: int) -> None:
    packed = b""
    for _ in range(_MOST_MEMBERS):
        packed = _inflate_member(file, packed, unpacked, most, wbits)
        if len(unpacked) >= most or wbits != GZIP or not (packed or (packed := file.read(_CHUNK))):
            return
        if not packed.startswith(b"\x1f"):  # padding behind the last member
            return
    raise UnreadableImageError(
        f"The gzip file has more than {_MOST_MEMBERS} parts. Compress it again as one."
    )


def _inflate_member(
    file: BinaryIO, packed: bytes, unpacked: bytearray | _Counted, most: int, wbits: int
) -> bytes:
    """Append what one member holds; returns the packed bytes read that lie behind it."""
    member = zlib.decompressobj(wbits)
    while not member.eof and len(unpacked) < most:
        packed = member.unconsumed_tail or packed or file.read(_CHUNK)
        piece = member.decompress(packed, min(_STEP, most - len(unpacked)))
        if not piece and not packed:
            break  # cut short
        unpacked.extend(piece)
        packed = b""
    return member.unused_data
