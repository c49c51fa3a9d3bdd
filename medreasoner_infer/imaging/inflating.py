# SPDX-License-Identifier: Apache-2.0
"""Unpacking DEFLATE streams (gzip, zlib, raw) no further than asked."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from medreasoner_infer.errors import UnreadableImageError

GZIP = 16 + zlib.MAX_WBITS
RAW = -zlib.MAX_WBITS
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
    packed = b""
    for _ in range(_MOST_MEMBERS):
        packed = _inflate_member(file, packed, unpacked, most, wbits)
        if len(unpacked) >= most or wbits != GZIP or not (packed or (packed := file.read(_CHUNK))):
            return unpacked
        if not packed.startswith(b"\x1f"):  # padding behind the last member
            return unpacked
    raise UnreadableImageError(
        f"The gzip file has more than {_MOST_MEMBERS} parts. Compress it again as one."
    )


def _inflate_member(
    file: BinaryIO, packed: bytes, unpacked: bytearray, most: int, wbits: int
) -> bytes:
    """Append what one member holds; returns the packed bytes read that lie behind it."""
    member = zlib.decompressobj(wbits)
    while not member.eof and len(unpacked) < most:
        packed = member.unconsumed_tail or packed or file.read(_CHUNK)
        piece = member.decompress(packed, min(_STEP, most - len(unpacked)))
        if not piece and not packed:
            break  # cut short
        unpacked += piece
        packed = b""
    return member.unused_data
