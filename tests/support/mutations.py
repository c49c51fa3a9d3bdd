# SPDX-License-Identifier: Apache-2.0
"""Damaged and forged variants of a file, the same for the same seed."""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from support.element_mutations import element_mutations, is_explicit

Mutation = Callable[[bytearray, random.Random], bytearray]
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# Where most of a format's decisions are.
_HEAD = 2048


def mutations(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` variants, each of one to four changes."""
    chance = random.Random(seed)
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            changed = chance.choice(_MUTATIONS)(changed, chance) or bytearray(b"\0")
        yield bytes(changed)


def mutants_of(path: Path, count: int, seed: int) -> Iterator[bytes]:
    """Variants of a file, of which half are damaged as files of its format are.

    A PNG's checksums are made good, as nothing behind a wrong one is looked at; single elements of
    a DICOM data set get other values, which a change of bytes seldom makes.
    """
    content = path.read_bytes()
    if path.suffix == ".png":
        for number, changed in enumerate(mutations(content, count, seed)):
            yield with_checksums(changed) if number % 2 else changed
    elif path.suffix == ".dcm" and is_explicit(content):
        yield from mutations(content, count - count // 2, seed)
        yield from element_mutations(content, count // 2, seed)
    else:
        yield from mutations(content, count, seed)


def with_checksums(content: bytes) -> bytes:
    """A PNG file whose chunks have the checksums of what is in them."""
    made, at = content[:8], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        body = content[at + 4 : at + 8 + length]
        made += content[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return made


def _place(content: bytearray, chance: random.Random) -> int:
    reach = min(len(content), _HEAD) if chance.random() < 0.7 else len(content)
    return chance.randrange(reach)


def _flip(content: bytearray, chance: random.Random) -> bytearray:
    content[_place(content, chance)] ^= 1 << chance.randrange(8)
    return content


def _cut(content: bytearray, chance: random.Random) -> bytearray:
    return content[: _place(content, chance)]


def _number(content: bytearray, chance: random.Random) -> bytearray:
    code = chance.choice(("<H", ">H", "<L", ">L"))
    value = chance.choice(_EXTREMES) & (0xFFFF if code[1] == "H" else 0xFFFFFFFF)
    at = _place(content, chance)
    content[at : at + struct.calcsize(code)] = struct.pack(code, value)
    return content


def _digits(content: bytearray, chance: random.Random) -> bytearray:
    """Another number in place of one that is written as text."""
    found = list(re.finditer(rb"-?\d+", bytes(content[:_HEAD])))
    if not found:
        return content
    number = chance.choice(found)
    other = chance.choice((b"0", b"-1", b"999999999", b"1e400", b"nan", b"", b"99999999999999999"))
    content[number.start() : number.end()] = other
    return content


def _splice(content: bytearray, chance: random.Random) -> bytearray:
    start, at = _place(content, chance), _place(content, chance)
    content[at:at] = content[start : start + chance.randrange(1, 64)]
    return content


def _drop(content: bytearray, chance: random.Random) -> bytearray:
    at = _place(content, chance)
    del content[at : at + chance.randrange(1, 32)]
    return content


def _noise(content: bytearray, chance: random.Random) -> bytearray:
    at = _place(content, chance)
    content[at : at + 16] = chance.randbytes(16)
    return content


_MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _cut, _number, _digits, _splice, _drop, _noise)
