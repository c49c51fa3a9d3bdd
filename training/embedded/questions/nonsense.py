# SPDX-License-Identifier: Apache-2.0
"""Texts that mean nothing: struck keys, invented words, digits and marks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_ONSETS = (*"bcdfghjklmnprstvwz", "bl", "br", "dr", "fl", "gr", "kl", "pr", "sk", "st", "tr")
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ou"]
_CODAS = ("", "", "", "n", "r", "x", "k", "lt", "m", "b", "rf")
_MARKS = "?!.,;:-_#*+/&%$"


def _choice(rng: np.random.Generator, items: Collection[str] | str) -> str:
    return tuple(items)[int(rng.integers(len(items)))]


def struck_keys(rng: np.random.Generator) -> str:
    """Runs along the rows of a keyboard: ``asdf qwer``."""
    words = []
    for _ in range(int(rng.integers(1, 4))):
        row = _choice(rng, _ROWS)
        start, length = int(rng.integers(len(row) - 3)), int(rng.integers(3, 7))
        run = row[start : start + length]
        words.append(run[::-1] if rng.random() < 0.3 else run)
    return " ".join(words)


def random_letters(rng: np.random.Generator) -> str:
    """Letters without any order: ``xkqv zbtrw``."""
    lengths = rng.integers(3, 9, size=int(rng.integers(1, 4)))
    return " ".join("".join(chr(97 + int(rng.integers(26))) for _ in range(n)) for n in lengths)


def digits_and_marks(rng: np.random.Generator) -> str:
    """``4711`` or ``?!?``."""
    signs = "0123456789" if rng.random() < 0.5 else _MARKS
    return "".join(_choice(rng, signs) for _ in range(int(rng.integers(2, 9))))


def invented_word(rng: np.random.Generator, names: Collection[str]) -> str:
    """A word that can be spoken and means nothing, unlike the beginning of any of ``names``."""
    beginnings = {name[:4] for name in names}
    while True:
        syllables = range(int(rng.integers(2, 4)))
        word = "".join(_choice(rng, _ONSETS) + _choice(rng, _VOWELS) for _ in syllables)
        word += _choice(rng, _CODAS)
        if len(word) >= 5 and word[:4] not in beginnings:
            return word


def near_miss(rng: np.random.Generator, names: Sequence[str]) -> str:
    """A word or two that look like a name and are none: halves or words of two names together.

    ``pancreitus``, ``seminal ventricle``. Beside invented words these teach that a part of a name
    is not the name.

    Args:
        rng: draws.
        names: normalised names, known and outside.
    """
    taken = set(names)
    while True:
        first, second = (names[int(rng.integers(len(names)))].split() for _ in range(2))
        if len(first) > 1 and rng.random() < 0.5:
            at = int(rng.integers(len(first)))
            words = [*first[:at], second[int(rng.integers(len(second)))], *first[at + 1 :]]
        else:
            one, other = (max(words, key=len) for words in (first, second))
            words = [one[: max(2, len(one) * 3 // 5)] + other[len(other) // 2 :]]
        text = " ".join(words)
        if len(text) > 3 and text not in taken:
            return text
