# SPDX-License-Identifier: Apache-2.0
"""Text without what writers vary: case, accents, punctuation, width and spacing."""

from __future__ import annotations

import re
import unicodedata

_LATIN_MARKS = re.compile("[\u0300-\u036f]")
_NO_WORD = re.compile(r"[\W_]+")
_SINGLE_LETTERS = str.maketrans({"ß": "ss", "œ": "oe", "æ": "ae", "Œ": "oe", "Æ": "ae"})


def plain_text(text: str) -> str:
    """Lower case words, each one space apart: ``Où est le cœur ?`` becomes ``ou est le coeur``.

    Accents of Latin letters are dropped; the voicing marks of kana are kept, since they tell words
    apart.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_SINGLE_LETTERS))
    letters = unicodedata.normalize("NFKC", _LATIN_MARKS.sub("", decomposed))
    return _NO_WORD.sub(" ", letters.casefold()).strip()
