# SPDX-License-Identifier: Apache-2.0
"""Words that differ by errors of typing."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

SHORTEST_MISSPELT = 5
"""Letters of a word; a shorter one with an error may be anything."""
LETTERS_PER_ERROR, MOST_ERRORS = 9, 3


def errors_allowed(text: str) -> int:
    """How many letters may be wrong, missing, too many or exchanged."""
    return min(MOST_ERRORS, 1 + len(text) // LETTERS_PER_ERROR)


def near_texts(said: str, texts: Collection[str]) -> Iterator[tuple[str, int]]:
    """Texts that ``said`` may be meant for, with the number of errors.

    The first letter is right, since those who type rely on it.
    """
    if len(said) < SHORTEST_MISSPELT - 1:
        return
    scorer, cutoff = DamerauLevenshtein.distance, errors_allowed(said)
    found = process.extract(said, texts, scorer=scorer, score_cutoff=cutoff, limit=None)
    for text, errors, _ in found:
        if len(text) >= SHORTEST_MISSPELT and text[0] == said[0]:
            yield text, int(errors)


def is_near(said: str, texts: Collection[str]) -> bool:
    """Whether it may be meant for one of the texts."""
    return next(near_texts(said, texts), None) is not None
