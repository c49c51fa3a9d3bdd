# SPDX-License-Identifier: Apache-2.0
"""Words that lead to a target without naming it: a disease, a procedure, a value, a function.

``What is taken out in a cholecystectomy?`` asks for the gallbladder, whatever words stand around
the one that tells it, as long as they are of questions and descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import cast, get_args

from medreasoner_infer.language.errors import VocabularyError
from medreasoner_infer.language.grammar import LANGUAGES, Language, Side
from medreasoner_infer.language.reading import read_checked, vocabulary
from medreasoner_infer.language.sides import side_told, side_words
from medreasoner_infer.language.spelling import Spellings
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Phrases,
    Tokens,
    plain_tokens,
    spoken_names,
)
from medreasoner_infer.language.vocabulary import FactKind
from medreasoner_infer.language.words import (
    description_words,
    first_alike,
    likely_languages,
    little_words,
)
from medreasoner_infer.once import computed_once

_BETWEEN = " / "
"""Stands between words of one language that say the same."""
_Rows = dict[str, list[tuple[str | None, ...]]]


@dataclass(frozen=True)
class Lead:
    """The name of the target that a word leads to, and what the word tells of it."""

    target: str
    kind: FactKind


def led_to(text: str) -> tuple[Lead, Side | None] | None:
    """The one target that the words of a text lead to, with the patient's side if it is paired.

    Returns:
        ``None`` if no word leads to a target, if words lead to several, or if the text says more
        than words of questions and descriptions do.
    """
    tokens = plain_tokens(text)
    for language in likely_languages(tokens):
        read = _read_unspaced if language in UNSPACED else _read
        leads = read(tokens, language)
        if len({lead.target for lead in leads}) == 1:
            target = vocabulary().targets[leads[0].target]
            return leads[0], side_told(tokens, target, language)
    return None


def leads_elsewhere(text: str, but: str) -> bool:
    """Whether a word of a text leads to another target than ``but``, whatever else it says."""
    tokens = tuple(token for token in plain_tokens(text) if token.isalnum())
    for language in likely_languages(tokens):
        leads = _leads(language)
        said = (leads.longest_at(tokens, at) for at in range(len(tokens)))
        if any(leads.meanings[words].target != but for words in said if words):
            return True
    return False


@cache
def lead_words(language: Language) -> frozenset[str]:
    """The words of all that leads to a target."""
    return frozenset(word for tokens in _leads(language).meanings for word in tokens)


def _read(tokens: Tokens, language: Language) -> Sequence[Lead]:
    """What a text leads to; empty where a word is left that says more."""
    leads, names, found, at = _leads(language), spoken_names(language), [], 0
    left: list[Tokens] = []
    sides = frozenset().union(*side_words(language).values())
    words = tuple(token for token in tokens if token.isalnum() and token not in sides)
    while at < len(words):
        said, name = leads.longest_at(words, at), names.longest_at(words, at)
        if said:
            found.append(leads.meanings[said])
        elif name and (len(name) > 1 or not _is_general(name[0], language)):
            left.append(name)
        elif not _is_general(words[at], language):
            near = _nearly(words[at], language)
            if near is None:
                return ()
            found.append(near)
        at += len(said or name) or 1
    own = {lead.target for lead in found}
    return () if any(_names_other(name, own, language) for name in left) else found


def _names_other(name: Tokens, own: set[str], language: Language) -> bool:
    """Whether a text names another thing than the one that its words lead to."""
    singles = spoken_names(language).meanings[name].singles
    return any(single.name not in own for single in singles)


def _nearly(word: str, language: Language) -> Lead | None:
    leads = _leads(language).meanings
    found = {leads[(text,)] for text, _ in _single_words(language).near(word)}
    return found.pop() if len(found) == 1 else None


def _is_general(word: str, language: Language) -> bool:
    alike = first_alike(language)
    return word.isdigit() or word in alike or word in general_words(language)


@cache
def general_words(language: Language) -> frozenset[str]:
    """Words of questions and descriptions that lead to nothing by themselves."""
    forms = vocabulary().forms[language]
    more = chain.from_iterable(map(plain_tokens, (*forms.qualities, *forms.asides, *forms.context)))
    sides = chain.from_iterable(side_words(language).values())
    return description_words(language).union(little_words(language), more, sides)


def _read_unspaced(tokens: Tokens, language: Language) -> Sequence[Lead]:
    text, leads = "".join(token for token in tokens if token.isalnum()), _by_text(language)
    found = [leads[match[0]] for match in _pattern(language).finditer(text)]
    rest = _general_phrases(language).sub("", _pattern(language).sub("", text))
    return () if re.search(r"[^\W\d]", rest) else found


@cache
def _by_text(language: Language) -> Mapping[str, Lead]:
    return {"".join(tokens): lead for tokens, lead in _leads(language).meanings.items()}


@cache
def _pattern(language: Language) -> re.Pattern[str]:
    return _any_of(_by_text(language))


@cache
def _general_phrases(language: Language) -> re.Pattern[str]:
    forms = vocabulary().forms[language]
    alike = (word for group in forms.alike for word in group)
    asked = (piece for form in forms.descriptions for piece in form.split("{fact}"))
    said = chain(
        forms.words, forms.little, forms.kinds, forms.qualities, forms.asides, forms.context, alike
    )
    requests = (piece for form in forms.requests for piece in re.split(r"{\w+}", form))
    sides = chain.from_iterable(side_words(language).values())
    texts = {"".join(plain_tokens(text)) for text in chain(said, asked, requests, sides)}
    return _any_of(texts - {""})


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


@computed_once
def _leads(language: Language) -> Phrases[Lead]:
    column = 1 + LANGUAGES.index(language)
    found: dict[Tokens, Lead] = {}
    for name, row in _rows():
        lead = Lead(name, _kind(row))
        for text in (row[column] or "").split(_BETWEEN):
            if text:
                found.setdefault(tuple(t for t in plain_tokens(text) if t.isalnum()), lead)
    return Phrases(found)


@cache
def _single_words(language: Language) -> Spellings:
    return Spellings(tokens[0] for tokens in _leads(language).meanings if len(tokens) == 1)


@computed_once
def _rows() -> Sequence[tuple[str, tuple[str | None, ...]]]:
    return tuple(_read_rows(Path(str(resources.files(__package__))) / "leads"))


def _read_rows(folder: Path) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """Rows of the tables with the target that they lead to.

    Raises:
        VocabularyError: a row has not one column per language, or leads to no target.
    """
    for path in sorted(folder.glob("*.yaml")):
        for name, rows in read_checked(path, _Rows).items():
            if name not in vocabulary().targets:
                raise VocabularyError(f"{path} leads to {name!r}, which is no target.")
            for row in rows:
                if len(row) != 1 + len(LANGUAGES) or row[0] not in get_args(FactKind):
                    raise VocabularyError(
                        f"The row {row} of {name} in {path} is not a kind of fact and "
                        f"{len(LANGUAGES)} columns: {', '.join(LANGUAGES)}."
                    )
                yield name, row


def _kind(row: tuple[str | None, ...]) -> FactKind:
    return cast("FactKind", row[0])
