# SPDX-License-Identifier: Apache-2.0
"""The words by which a question refers to an earlier answer, in eight languages.

``follow_ups/`` beside this module holds one file per language.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from medreasoner_infer.language.grammar import Language, Side
from medreasoner_infer.language.reading import read_checked
from medreasoner_infer.language.spoken import UNSPACED, Phrases, plain_tokens
from medreasoner_infer.language.vocabulary import Where
from medreasoner_infer.language.words import filler_words, request_frames

Place = Literal["beside"] | Where
"""Where something lies from what was found; beside: to its left or right, in front or behind."""
Quantity = Literal["size", "length", "width", "diameter", "area", "volume"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)


@dataclass(frozen=True)
class FollowUpWords:
    """What one language has for what a question can refer to; a phrase may be in several lists.

    Attributes:
        size: asks for all sizes; the next five for one of them.
        slice: what slices are called.
        next: of slices, in the order in which they are read; ``previous`` likewise.
        numbers: how many slices.
        towards: which way from slice to slice.
        where: where something lies from what was found, which is named by a pronoun or not at all.
        other: before a name or by itself; ``on_other_side`` says that it is the other side.
        sides: the patient's.
        it: stands for what was found; ``same`` for the question.
        here: on the slice that is shown.
        its: before a part of what was found; ``of_it`` behind one.
        fillers: words that say nothing of all this, beside those of requests.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    size: tuple[str, ...]
    length: tuple[str, ...]
    width: tuple[str, ...]
    diameter: tuple[str, ...]
    area: tuple[str, ...]
    volume: tuple[str, ...]
    slice: tuple[str, ...]
    next: tuple[str, ...]
    previous: tuple[str, ...]
    numbers: Mapping[int, tuple[str, ...]]
    towards: Mapping[Where, tuple[str, ...]]
    where: Mapping[Place, tuple[str, ...]]
    other: tuple[str, ...]
    on_other_side: tuple[str, ...]
    sides: Mapping[Side, tuple[str, ...]]
    it: tuple[str, ...]
    same: tuple[str, ...]
    here: tuple[str, ...]
    its: tuple[str, ...]
    of_it: tuple[str, ...]
    fillers: tuple[str, ...]


@dataclass(frozen=True)
class Sign:
    """What a phrase may stand for: a list of :class:`FollowUpWords`, and its entry there."""

    kind: str
    value: str | int | None = None


@cache
def follow_up_words(language: Language) -> FollowUpWords:
    """The words of a language."""
    folder = Path(str(resources.files(__package__))) / "follow_ups"
    return read_checked(folder / f"{language}.yaml", FollowUpWords)


@cache
def bare_signs(language: Language) -> Phrases[None]:
    """The phrases that may stand for something, without fillers; read before any names are."""
    return Phrases(
        dict.fromkeys(plain_tokens(phrase) for phrase, _ in _signs(follow_up_words(language)))
    )


@cache
def signs_of(language: Language) -> Phrases[tuple[Sign, ...]]:
    """All phrases of a language with what they may stand for; fillers stand for nothing."""
    found: dict[tuple[str, ...], tuple[Sign, ...]] = {}
    for phrase, sign in _signs(follow_up_words(language)):
        tokens = plain_tokens(phrase)
        found[tokens] = (*found.get(tokens, ()), sign)
    words = map(plain_tokens, follow_up_words(language).fillers)
    if language in UNSPACED:
        requests = request_frames(language).fillers.meanings
    else:
        requests = {(word,): None for word in filler_words(language)}
    for tokens in (*words, *requests):
        found.setdefault(tokens, ())
    return Phrases(found)


def _signs(words: FollowUpWords) -> Iterator[tuple[str, Sign]]:
    for quantity in QUANTITIES:
        yield from ((phrase, Sign("quantity", quantity)) for phrase in getattr(words, quantity))
    for kind in (
        "slice", "next", "previous", "other", "on_other_side", "it", "same", "here", "its",
    ):  # fmt: skip
        yield from ((phrase, Sign(kind)) for phrase in getattr(words, kind))
    for kind in ("numbers", "towards", "where", "sides"):
        for value, phrases in getattr(words, kind).items():
            yield from ((phrase, Sign(kind, value)) for phrase in phrases)
