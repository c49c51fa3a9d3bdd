# SPDX-License-Identifier: Apache-2.0
"""Text without what writers vary: case, accents, punctuation, width and spacing."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opencc import OpenCC

_LATIN_MARKS = re.compile("[\u0300-\u036f]")
_NO_WORD = re.compile(r"[\W_]+")
_SINGLE_LETTERS = str.maketrans({"ß": "ss", "œ": "oe", "æ": "ae", "Œ": "oe", "Æ": "ae"})
_HAN = re.compile("[\u3400-\u9fff]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")


def has_kana(text: str) -> bool:
    """Whether a text is Japanese for certain."""
    return _KANA.search(text) is not None


def simplified(text: str) -> str:
    """A text with simplified Chinese characters, each in the place of its own: 主动脉 for 主動脈.

    What holds kana stays as it is.
    """
    if has_kana(text) or not _HAN.search(text):
        return text
    return _HAN.sub(lambda found: _converter().convert(found[0]), text)


@cache
def _converter() -> OpenCC:
    from opencc import OpenCC

    return OpenCC("t2s")


def plain_text(text: str) -> str:
    """Lower case words, each one space apart: ``Où est le cœur ?`` becomes ``ou est le coeur``.

    Accents of Latin letters are dropped; the voicing marks of kana are kept, since they tell words
    apart.
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(_SINGLE_LETTERS))
    letters = unicodedata.normalize("NFKC", _LATIN_MARKS.sub("", decomposed))
    return _NO_WORD.sub(" ", letters.casefold()).strip()
