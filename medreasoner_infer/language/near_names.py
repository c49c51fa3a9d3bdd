# SPDX-License-Identifier: Apache-2.0
"""Names that words may be meant for."""

from __future__ import annotations

from functools import cache, lru_cache

from medreasoner_infer.language.grammar import Language
from medreasoner_infer.language.leads import lead_words
from medreasoner_infer.language.spelling import Spellings
from medreasoner_infer.language.spoken import Single, Tokens
from medreasoner_infer.language.words import filler_words, name_words, names_as_texts


@lru_cache(maxsize=512)  # a text is tried with the requests of each language
def near_names(said: Tokens, language: Language) -> tuple[tuple[int, str, Single], ...]:
    """Names that words are but for errors: how many, the name as plain text, and what it names."""
    names, whole = names_as_texts(language), " ".join(said)
    found = [(0, whole, names[whole])] if whole in names else []
    for text, errors in _spelt_names(language).near(whole):
        if _keeps_what_is_right(said, tuple(text.split()), language):
            found.append((errors, text, names[text]))
    return tuple(found)


@cache
def _spelt_names(language: Language) -> Spellings:
    return Spellings(names_as_texts(language))


def _keeps_what_is_right(said: Tokens, name: Tokens, language: Language) -> bool:
    """Whether no word that is one already was taken for another: a mask is no mass."""
    right = name_words(language) | filler_words(language) | lead_words(language)
    return not any(word in right and word not in name for word in said)
