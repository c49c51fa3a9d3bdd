# SPDX-License-Identifier: Apache-2.0
"""Errors that fingers make: swapped, dropped, doubled and neighbouring keys, missing accents."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np

Keyboard = Literal["qwerty", "qwertz"]
_ROWS: dict[Keyboard, tuple[str, ...]] = {
    "qwerty": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
}
_LETTERS = re.compile(r"[^\W\d_]{4,}")
_ACCENTS = re.compile("[\u0300-\u036f]")


@cache
def neighbours(keyboard: Keyboard) -> dict[str, str]:
    """The keys that touch each key."""
    rows = _ROWS[keyboard]
    found: dict[str, str] = {}
    for number, row in enumerate(rows):
        for column, key in enumerate(row):
            near = row[max(0, column - 1) : column + 2]
            if number > 0:
                near += rows[number - 1][column : column + 2]
            if number + 1 < len(rows):
                near += rows[number + 1][max(0, column - 1) : column + 1]
            found[key] = near.replace(key, "")
    return found


def swapped(word: str, at: int, _: np.random.Generator, __: Keyboard) -> str:
    """Two letters change places: ``livre``."""
    return word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]


def dropped(word: str, at: int, _: np.random.Generator, __: Keyboard) -> str:
    """A letter is missing: ``lier``."""
    return word[:at] + word[at + 1 :]


def doubled(word: str, at: int, _: np.random.Generator, __: Keyboard) -> str:
    """A letter is typed twice: ``livver``."""
    return word[:at] + word[at] + word[at:]


def neighboured(word: str, at: int, rng: np.random.Generator, keyboard: Keyboard) -> str:
    """The key beside is hit: ``lober``."""
    near = neighbours(keyboard).get(word[at].lower())
    if not near:
        return word
    key = near[int(rng.integers(len(near)))]
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


Error = Callable[[str, int, np.random.Generator, Keyboard], str]
ERRORS: tuple[Error, ...] = (swapped, dropped, doubled, neighboured)


def without_accents(text: str) -> str:
    """``hígado`` as ``higado``."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)))


def misspelt(text: str, rng: np.random.Generator, keyboard: Keyboard) -> str:
    """The text with one error in one of its words of four or more letters.

    A word's first letter stays, since readers and typists rely on it. A text that holds no such
    word, as of Chinese or Japanese characters, is returned as it is.
    """
    if without_accents(text) != text and rng.random() < 0.2:
        return without_accents(text)
    words = [match for match in _LETTERS.finditer(text) if match.group().isascii() or _latin(match)]
    if not words:
        return text
    match = words[int(rng.integers(len(words)))]
    word = match.group()
    error = ERRORS[int(rng.integers(len(ERRORS)))]
    wrong = error(word, int(rng.integers(2, len(word))), rng, keyboard)
    return text[: match.start()] + wrong + text[match.end() :]


def _latin(match: re.Match[str]) -> bool:
    return all(unicodedata.name(letter, "").startswith("LATIN") for letter in match.group())
