# SPDX-License-Identifier: Apache-2.0
"""The segments of a JPEG stream (ITU-T T.81, annex B), looked at before a library decodes it."""

from __future__ import annotations

_SOS = 0xDA
# Start of frame, of every coding process; 0xF7 is that of JPEG-LS (ITU-T T.87).
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))


def frame_size(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) that the stream decodes to, ``None`` where its header says none."""
    position = 0
    while position + 9 <= len(stream) and stream[position] == 0xFF:
        code = stream[position + 1]
        if code in _FRAMES:
            rows, columns = stream[position + 5 : position + 7], stream[position + 7 : position + 9]
            return int.from_bytes(rows, "big"), int.from_bytes(columns, "big")
        if code in (0x00, _SOS):
            return None
        if code == 0xFF or code in _ALONE:
            position += 1 if code == 0xFF else 2
        else:
            length = int.from_bytes(stream[position + 2 : position + 4], "big")
            position += 2 + max(length, 2)
    return None


def scan_count(stream: bytes) -> int:
    """How often a decoder goes over the picture, at most."""
    return stream.count(bytes((0xFF, _SOS)))
