# SPDX-License-Identifier: Apache-2.0
"""Words that differ by errors of typing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from rapidfuzz import process
from rapidfuzz.distance import DamerauLevenshtein

SHORTEST_MISSPELT = 5
"""Letters of a word; a shorter one with an error may be anything."""
LETTERS_PER_ERROR, MOST_ERRORS = 9, 3
LONGEST_SHORT_WORD = 6
"""Letters of a word that one wrong letter may make another word of."""


def errors_allowed(text: str) -> int:
    """How many letters may be wrong, missing, too many or exchanged."""
    return min(MOST_ERRORS, 1 + len(text) // LETTERS_PER_ERROR)


def is_slip(said: str, meant: str) -> bool:
    """Whether a word is another but for a slip of the fingers.

    Of a short word letters are exchanged, missing or doubled; a wrong one makes another word of it:
    *lives* is no liver.
    """
    if said == meant:
        return True
    if len(meant) < SHORTEST_MISSPELT - 1 or said[0] != meant[0]:
        return False
    if len(meant) > LONGEST_SHORT_WORD:
        return DamerauLevenshtein.distance(said, meant) <= errors_allowed(meant)
    exchanged = sorted(said) == sorted(meant)
    doubled = len(said) > len(meant) and re.sub(r"(.)\1", r"\1", said) == re.sub(
        r"(.)\1", r"\1", meant
    )
    missing = len(said) == len(meant) - 1 and len(said) >= SHORTEST_MISSPELT - 1
    near = DamerauLevenshtein.distance(said, meant) == 1
    return near and (exchanged or doubled or missing)


class Spellings:
    """Texts to be found by what was typed for them.

    The first letter is right, since those who type rely on it.

    Args:
        texts: the right ones.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(texts)

    def near(self, said: str) -> Iterator[tuple[str, int]]:
        """Texts that ``said`` may be meant for, with the number of errors."""
        if len(said) < SHORTEST_MISSPELT - 1:
            return
        scorer, cutoff = DamerauLevenshtein.distance, errors_allowed(said)
        texts = self._by_first_letter.get(said[0], ())
        found = process.extract(said, texts, scorer=scorer, score_cutoff=cutoff, limit=None)
        yield from ((text, int(errors)) for text, errors, _ in found)

    def have(self, said: str) -> bool:
        """Whether it is one of the texts."""
        return said in self._texts

    def hold(self, said: str) -> bool:
        """Whether it may be meant for one of the texts."""
        return said in self._texts or next(self.near(said), None) is not None

    @cached_property
    def _by_first_letter(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for text in sorted(self._texts):
            if len(text) >= SHORTEST_MISSPELT:
                found[text[0]].append(text)
        return found
