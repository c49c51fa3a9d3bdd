# SPDX-License-Identifier: Apache-2.0
"""What a text names without asking for it: *everything except the liver*, *beside the liver*."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from medreasoner_infer.language.grammar import LANGUAGES, Language
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.relations import said_of_names, says_no_more, words_around
from medreasoner_infer.language.spoken import Token, Tokens, plain_tokens, tokens_of


@dataclass(frozen=True)
class Apart:
    """A text of which a part only tells what is not asked for, or what lies beside it.

    Attributes:
        rest: the other words.
        leaves_out: whether a named thing is not asked for, rather than lies beside it.
        is_all: whether the rest asks for nothing, so that anything else or several may be meant.
    """

    rest: tuple[Token, ...]
    leaves_out: bool
    is_all: bool


@lru_cache(maxsize=64)  # each reading of a text asks
def set_apart(text: str) -> Apart | None:
    """A text's words beside those that set a named thing apart; ``None`` if it has no such words.

    ``not the spleen but the liver`` leaves ``but the liver``, and ``next to the liver`` nothing.
    """
    tokens = tokens_of(text)
    plain = tuple(token.plain for token in tokens)
    for language in LANGUAGES:
        found = [*said_of_names(plain, language, _forms(language))]
        spans = [(start, end) for _, _, start, end in found]
        lacks = next((at for at, word in enumerate(plain) if word in _lacking(language)), 0)
        if spans or lacks:
            told = {at for start, end in spans for at in range(start, end)}
            asked = tokens[: lacks or len(tokens)]
            rest = tuple(token for at, token in enumerate(asked) if at not in told)
            is_all = bool(spans) and says_no_more(plain, spans, language)
            return Apart(rest, any(out for out, *_ in found), is_all)
    return None


@cache
def _lacking(language: Language) -> frozenset[str]:
    return frozenset(word for (word,) in map(plain_tokens, vocabulary().forms[language].lacking))


@cache
def _forms(language: Language) -> tuple[tuple[bool, Tokens, Tokens], ...]:
    """What leaves a name out, and what only lies near it, with the words around the name."""
    forms = vocabulary().forms[language]
    said = [(True, form) for form in forms.left_out] + [(False, form) for form in forms.near]
    return tuple((out, *words_around(form)) for out, form in said)
