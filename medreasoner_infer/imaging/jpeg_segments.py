# SPDX-License-Identifier: Apache-2.0
"""What JPEG, JPEG-LS and JPEG 2000 streams say of themselves, before a library decodes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_SOS, _APP0, _APP14 = 0xDA, 0xE0, 0xEE
# Start of frame, of every coding process; 0xF7 is that of JPEG-LS (ITU-T T.87).
_FRAMES = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF, 0xF7))
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
_ADOBE_TRANSFORMS = {0: "RGB", 1: "YBR_FULL"}
# ISO/IEC 15444-1, A.5.1: start of codestream, then the image and tile size.
_CODESTREAM = b"\xff\x4f\xff\x51"
_BEFORE_CODESTREAM = 1 << 20
_SIZES_AT, _DEPTH_AT = 8, 42


@dataclass(frozen=True)
class FrameHeader:
    """What a stream says of the picture in it.

    Attributes:
        rows: and ``columns`` that it decodes to.
        precision: bits of one sample.
        colour_space: of three components, by DICOM's names; ``None`` where it does not say.
    """

    rows: int
    columns: int
    precision: int
    colour_space: str | None


def jpeg2000_header(stream: bytes) -> FrameHeader | None:
    """The header of a JPEG 2000 codestream, ``None`` where this is none.

    It names no colour space, as its decoder undoes its colour transforms (YBR_RCT, YBR_ICT).
    """
    start = stream.find(_CODESTREAM, 0, _BEFORE_CODESTREAM)
    if start < 0 or len(stream) <= start + _DEPTH_AT:
        return None
    places = range(start + _SIZES_AT, start + _SIZES_AT + 16, 4)
    columns, rows, left, top = (int.from_bytes(stream[at : at + 4], "big") for at in places)
    precision = (stream[start + _DEPTH_AT] & 0x7F) + 1
    return FrameHeader(rows - top, columns - left, precision, None)


def jpeg_header(stream: bytes) -> FrameHeader | None:
    """The header of a JPEG or JPEG-LS stream (ITU-T T.81, annex B), ``None`` where this is none."""
    noted: str | None = None
    for code, content in _segments(stream):
        if code == _APP14 and content[:5] == b"Adobe" and len(content) >= 12:
            noted = _ADOBE_TRANSFORMS.get(content[11])
        elif code == _APP0 and content[:5] == b"JFIF\0":
            noted = noted or "YBR_FULL"
        elif code in _FRAMES and len(content) >= 6:
            by_name = "RGB" if content[6:15:3] == b"RGB" else None
            rows, columns = content[1:3], content[3:5]
            return FrameHeader(
                int.from_bytes(rows, "big"),
                int.from_bytes(columns, "big"),
                content[0],
                None if code in _LOSSLESS else by_name or noted,
            )
    return None


def scan_count(stream: bytes) -> int:
    """How often a decoder goes over the picture, at most."""
    return stream.count(bytes((0xFF, _SOS)))


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Code and content of the segments before the first scan."""
    position = 0
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        code = stream[position + 1]
        if code in (0x00, _SOS):
            return
        if code == 0xFF or code in _ALONE:
            position += 1 if code == 0xFF else 2
            continue
        length = max(int.from_bytes(stream[position + 2 : position + 4], "big"), 2)
        yield code, stream[position + 4 : position + 2 + length]
        position += 2 + length
