# SPDX-License-Identifier: Apache-2.0
"""Places told by neighbours: ``the structure behind the trachea and in front of a vertebra``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from medreasoner_infer.language.grammar import LANGUAGES, Language, Side
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Single,
    Tokens,
    plain_tokens,
    spoken_names,
)
from medreasoner_infer.language.vocabulary import Neighbour, Target, Where
from medreasoner_infer.language.words import description_words, filler_words, request_frames

_T = TypeVar("_T")


@dataclass(frozen=True)
class Relation:
    """``where`` a target lies from a named one; the words from ``start`` to before ``end``."""

    where: Where
    of: Single
    start: int
    end: int


def placed(text: str) -> tuple[Target, Side | None] | None:
    """The one target that lies where a text says, with the patient's side if it is paired.

    Returns:
        ``None`` if the text says more than where its target lies, or if several may be meant.
    """
    tokens = plain_tokens(text)
    for language in LANGUAGES:
        relations = list(relations_in(tokens, language))
        within = [(relation.start, relation.end) for relation in relations]
        if relations and says_no_more(tokens, within, language):
            found = [*_targets_at(relations)]
            return found[0] if len(found) == 1 else None
    return None


def relations_in(tokens: Tokens, language: Language) -> Iterator[Relation]:
    """What a text says of where something lies from named targets or terms, in its order."""
    for where, named, start, end in said_of_names(tokens, language, _forms(language)):
        yield Relation(where, named, start, end)


def said_of_names(
    tokens: Tokens, language: Language, forms: Sequence[tuple[_T, Tokens, Tokens]]
) -> Iterator[tuple[_T, Single, int, int]]:
    """Names of one target or term around which one of some forms stands, in the text's order.

    Args:
        tokens: the text.
        language: of its names.
        forms: what each says, the words before the name, and those behind it.

    Yields:
        What the longest fitting form says, the name, and where the words of both start and end.
    """
    names, at = spoken_names(language), 0
    while at < len(tokens):
        name = names.longest_at(tokens, at)
        spoken = names.meanings.get(name)
        end = at + len(name)
        fitting = [
            (len(before) + len(after), number)
            for number, (_, before, after) in enumerate(forms)
            if spoken is not None
            and len(spoken.singles) == 1
            and _ends_with(tokens[:at], before, language)
            and tokens[end : end + len(after)] == after
        ]
        if spoken is not None and fitting:
            says, before, after = forms[max(fitting, key=lambda fit: fit[0])[1]]
            end += len(after)
            yield says, spoken.singles[0], at - len(before), end
        at = max(at + 1, end if fitting else 0)


def _ends_with(tokens: Tokens, before: Tokens, language: Language) -> bool:
    """Whether the words stand right before a name, or before the article of one: ``behind a``."""
    return tokens[len(tokens) - len(before) :] == before or (
        bool(before)
        and tokens[-1:] != before[-1:]
        and {*tokens[-1:]} <= filler_words(language)
        and tokens[-1 - len(before) : -1] == before
    )


@cache
def _forms(language: Language) -> tuple[tuple[Where, Tokens, Tokens], ...]:
    """Relations with the words before and behind the name."""
    forms = vocabulary().forms[language]
    said = [(where, form) for where, form in forms.where.items()]
    said += [(where, form) for where, more in forms.where_also.items() for form in more]
    return tuple((where, *words_around(form)) for where, form in said)


def words_around(form: str) -> tuple[Tokens, Tokens]:
    """The words before and behind the one slot of a form."""
    before, _, rest = form.partition("{")
    return plain_tokens(before), plain_tokens(rest.partition("}")[2])


def says_no_more(tokens: Tokens, within: Sequence[tuple[int, int]], language: Language) -> bool:
    """Whether a text's words outside some spans of it say nothing of what is asked for."""
    told = {at for start, end in within for at in range(start, end)}
    left = [token for at, token in enumerate(tokens) if at not in told and token.isalnum()]
    if language in UNSPACED:
        return all(character in _letters_of_descriptions(language) for character in left)
    return all(word in description_words(language) for word in left)


@cache
def _letters_of_descriptions(language: Language) -> frozenset[str]:
    phrases = request_frames(language).fillers.meanings
    words = {letter for phrase in phrases for word in phrase for letter in word}
    return description_words(language) | words


def _targets_at(relations: list[Relation]) -> Iterator[tuple[Target, Side | None]]:
    for target in vocabulary().targets.values():
        for side in target.sides:
            if all(_lies(target, side, relation) for relation in relations):
                yield target, side


def _lies(target: Target, side: Side | None, relation: Relation) -> bool:
    return any(_is_told(neighbour, side, relation) for neighbour in target.neighbours)


def _is_told(neighbour: Neighbour, side: Side | None, relation: Relation) -> bool:
    sides_agree = None in (neighbour.to_side, relation.of.side) or (
        neighbour.to_side == relation.of.side
    )
    return (
        neighbour.where == relation.where
        and neighbour.to == relation.of.name
        and sides_agree
        and neighbour.side in (None, side)
    )
