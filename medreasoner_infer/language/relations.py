# SPDX-License-Identifier: Apache-2.0
"""Places told by neighbours: ``the structure behind the trachea and in front of a vertebra``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

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
        if relations and _says_no_more(tokens, relations, language):
            found = [*_targets_at(relations)]
            return found[0] if len(found) == 1 else None
    return None


def relations_in(tokens: Tokens, language: Language) -> Iterator[Relation]:
    """What a text says of where something lies from named targets or terms, in its order."""
    names, at = spoken_names(language), 0
    while at < len(tokens):
        name = names.longest_at(tokens, at)
        spoken = names.meanings.get(name)
        found = None
        if spoken is not None and len(spoken.singles) == 1:
            found = _relation(tokens, at, at + len(name), spoken.singles[0], language)
        if found is not None:
            yield found
        at = max(at + 1, found.end if found else 0)


def _relation(
    tokens: Tokens, start: int, end: int, named: Single, language: Language
) -> Relation | None:
    """The longest form of a relation that stands around a name."""
    fitting = [
        (len(before) + len(after), where, before, after)
        for where, before, after in _forms(language)
        if _ends_with(tokens[:start], before, language) and tokens[end : end + len(after)] == after
    ]
    if not fitting:
        return None
    _, where, before, after = max(fitting, key=lambda fit: fit[0])
    return Relation(where, named, start - len(before), end + len(after))


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
    cut = ((where, form.partition("{"), form.partition("}")) for where, form in said)
    return tuple(
        (where, plain_tokens(before), plain_tokens(after))
        for where, (before, _, _), (_, _, after) in cut
    )


def _says_no_more(tokens: Tokens, relations: list[Relation], language: Language) -> bool:
    within = {at for relation in relations for at in range(relation.start, relation.end)}
    left = [token for at, token in enumerate(tokens) if at not in within and token.isalnum()]
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
