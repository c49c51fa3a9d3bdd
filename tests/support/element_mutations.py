# SPDX-License-Identifier: Apache-2.0
"""Variants of a DICOM file whose elements have another value, type or place, by a seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

_LONG = (b"OB", b"OW", b"UN", b"SQ", b"UT", b"OF", b"OD", b"OL", b"UC", b"UR")
_PREAMBLE = 132
_VALUES = (
    b"", b"0", b"1", b"-1", b"2", b"255", b"65535", b"999999999", b"-32768", b"1e400", b"nan",
    b"inf", b"abc", b"1,5", b"1.5", b"0.7", b"0\\0", b"1\\2\\3", b"1\\0\\0\\0\\1\\0", b"0\\" * 60,
    b"\\", b"\\\\", b" ", b"\0", b"\xff\xff", b"\0\x80", b"RGB", b"MONOCHROME1", b"PALETTE COLOR",
    b"MOSAIC", b"SEG", b"1.2.840.10008.1.2.4.90", b"\xc3\xa9", b"x" * 300, b"\x1b$B", b"9" * 40,
)  # fmt: skip
_TYPES = (b"AT", b"CS", b"DS", b"FD", b"IS", b"LO", b"OB", b"OW", b"PN", b"SQ", b"SS", b"UI", b"UN",
          b"US", b"UT", b"ZZ")  # fmt: skip


class Element(NamedTuple):
    """An element of explicit VR little endian (PS3.5, 7.1.2); its length is that of the value."""

    tag: bytes
    vr: bytes
    value: bytes

    def encoded(self) -> bytes:
        length = len(self.value)
        if self.vr in _LONG:
            return self.tag + self.vr + struct.pack("<HL", 0, length) + self.value
        return self.tag + self.vr + struct.pack("<H", length & 0xFFFF) + self.value


def is_explicit(content: bytes) -> bool:
    """Whether a file is of explicit VR little endian, with preamble and no undefined length."""
    return b"1.2.840.10008.1.2.1\0" in content[:400] and content[128:_PREAMBLE] == b"DICM"


def element_mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` variants, each with one to three changes of elements."""
    chance = random.Random(seed)
    elements = list(_elements(content))
    for _ in range(count):
        changed = list(elements)
        for _ in range(chance.randint(1, 3)):
            _change(changed, chance)
        yield content[:_PREAMBLE] + b"".join(element.encoded() for element in changed)


def _change(elements: list[Element], chance: random.Random) -> None:
    at = chance.randrange(len(elements))
    old = elements[at]
    what = chance.random()
    if what < 0.6:
        elements[at] = old._replace(value=chance.choice(_VALUES))
    elif what < 0.75:
        elements[at] = old._replace(vr=chance.choice(_TYPES))
    elif what < 0.85:
        elements[at] = old._replace(value=chance.choice(elements).value)
    elif what < 0.95:
        del elements[at]
    else:
        elements.insert(chance.randrange(len(elements)), old)


def _elements(content: bytes) -> Iterator[Element]:
    at = _PREAMBLE
    while at + 8 <= len(content):
        tag, vr = content[at : at + 4], content[at + 4 : at + 6]
        start = at + (12 if vr in _LONG else 8)
        form = "<L" if vr in _LONG else "<H"
        (length,) = struct.unpack_from(form, content, start - struct.calcsize(form))
        yield Element(tag, vr, content[start : start + length])
        at = start + length
