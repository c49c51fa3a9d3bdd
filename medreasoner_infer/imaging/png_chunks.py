# SPDX-License-Identifier: Apache-2.0
"""The chunks of a PNG file (ISO/IEC 15948, 5.3), of which a reader of images needs a few."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PHYS, _PHYS_BYTES = b"pHYs", 9
# Transparency, the pixels' aspect and the orientation; all that is critical is kept besides.
_KEPT = (b"tRNS", _PHYS, b"eXIf")
_CRITICAL_BIT = 0x20


def without_notes(content: bytes) -> bytes:
    """A PNG file without what is not needed to show it, such as texts and colour profiles.

    Libraries refuse a file for long or damaged notes that other programs pass over. Critical chunks
    stay as they are, damaged ones too.
    """
    return _SIGNATURE + b"".join(
        whole for kind, data, whole in _chunks(content) if _is_needed(kind, data, whole)
    )


def _is_needed(kind: bytes, data: bytes, whole: bytes) -> bool:
    if not kind[0] & _CRITICAL_BIT:
        return True
    intact = zlib.crc32(kind + data).to_bytes(4, "big") == whole[8 + len(data) :]
    return kind in _KEPT and intact and (kind != _PHYS or len(data) == _PHYS_BYTES)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Type, data and all bytes of each chunk; the last one may be cut short."""
    at = len(_SIGNATURE)
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        end = at + 12 + length
        kind, data = content[at + 4 : at + 8], content[at + 8 : end - 4]
        yield kind, data, content[at:end]
        at = end
