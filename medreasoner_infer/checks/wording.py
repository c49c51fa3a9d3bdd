# SPDX-License-Identifier: Apache-2.0
"""The words of ``words.yaml``, as phrases to be found in a text and what each claims."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, ClassVar, Literal

import yaml
from pydantic import TypeAdapter

from medreasoner_infer.checks_record import StatementKind
from medreasoner_infer.language import LANGUAGES, Language
from medreasoner_infer.language.spoken import Phrases, Tokens, plain_tokens

Frame = Literal["image", "patient", "bare"]
"""Whose directions a place is told in; of ``bare`` ones the sentence decides."""

Values = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Claim:
    """What a phrase claims.

    Attributes:
        kind: what it speaks of.
        values: e.g. ``("upper", "left")``, ``("bright",)``.
        frame: of places and relations, whose directions they are.
    """

    kind: StatementKind
    values: tuple[str, ...]
    frame: Frame = "bare"


@dataclass(frozen=True)
class _Words:
    """One language of the file."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    slots: Values
    image_endings: tuple[str, ...]
    of_image: tuple[str, ...]
    image: Values
    told: Values
    patient: Values
    bare: Values
    brightness: Values
    shape: Values
    size: Values
    beside: tuple[str, ...]
    not_: tuple[str, ...]
    brighter_than: tuple[str, ...] = field(default=())
    darker_than: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Wording:
    """How one language speaks of an image.

    Attributes:
        claims: phrases that stand by themselves.
        relations: phrases before the name of another structure: ``beside``, ``brighter than``.
        of_image: phrases by which a sentence speaks of the picture's own directions.
        negations: words that turn a claim round.
    """

    claims: Phrases[Claim]
    relations: Phrases[Claim]
    of_image: Phrases[None]
    negations: Phrases[None]


@cache
def wording(language: Language) -> Wording:
    """The words of one language."""
    words = _table()[language]
    claims: dict[Tokens, Claim] = {}
    for tokens, claim in _claims(words):
        claims.setdefault(tokens, claim)
    relations = {
        tokens: claim
        for claim, phrases in (
            (Claim("neighbour", ("beside",)), words.beside),
            (Claim("brightness", ("brighter than",)), words.brighter_than),
            (Claim("brightness", ("darker than",)), words.darker_than),
        )
        for tokens in map(plain_tokens, phrases)
    }
    return Wording(
        Phrases(claims),
        Phrases(relations),
        Phrases(dict.fromkeys(_all_filled(words.of_image, words))),
        Phrases(dict.fromkeys(map(plain_tokens, words.not_))),
    )


def _claims(words: _Words) -> Iterator[tuple[Tokens, Claim]]:
    endings = list(words.image_endings)
    naming = [ending for ending in endings if "{image}" in ending]
    places: tuple[tuple[Values, Frame, list[str]], ...] = (
        (words.patient, "patient", [""]),
        (words.image, "image", ["", *endings]),
        (words.told, "image", naming),
        (words.bare, "bare", [""]),
    )
    for table, frame, ends in places:
        for value, phrases in table.items():
            values = tuple(value.split())
            is_side = frame != "image" and set(values) <= {"left", "right", "middle", "midline"}
            claim = Claim("side" if is_side else "position", values, frame)
            said = [f"{phrase} {end}" for phrase in phrases for end in ends]
            yield from ((tokens, claim) for tokens in _all_filled(said, words))
    looks: tuple[tuple[StatementKind, Values], ...] = (
        ("brightness", words.brightness), ("shape", words.shape), ("size", words.size)
    )  # fmt: skip
    for kind, table in looks:
        for value, phrases in table.items():
            yield from ((plain_tokens(phrase), Claim(kind, (value,))) for phrase in phrases)


def _all_filled(phrases: tuple[str, ...] | list[str], words: _Words) -> Iterator[Tokens]:
    """Each phrase with each word of its slots."""
    for phrase in phrases:
        slots = [name for name in words.slots if f"{{{name}}}" in phrase]
        for chosen in itertools.product(*(words.slots[name] for name in slots)):
            yield plain_tokens(phrase.format_map(dict(zip(slots, chosen, strict=True))))


@cache
def _table() -> Mapping[Language, _Words]:
    text = files(__package__).joinpath("words.yaml").read_text(encoding="utf-8")
    content = {
        language: {"not_" if key == "not" else key: value for key, value in words.items()}
        for language, words in yaml.safe_load(text).items()
    }
    table: dict[Language, _Words] = TypeAdapter(dict[Language, _Words]).validate_python(content)
    return {language: table[language] for language in LANGUAGES}
