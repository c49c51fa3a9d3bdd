# SPDX-License-Identifier: Apache-2.0
"""What a label means in the clinical vocabulary, and whether a text names it in any language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from medreasoner_infer.language import Name, Side, Target, Tongue, plain_text, vocabulary
from medreasoner_infer.language.spoken import plain_tokens
from medreasoner_infer.language.words import names_as_texts
from medreasoner_training.samples.naming import forbidden_stems

_SHORT_CAPITALS = re.compile(r"[A-Z]{2,4}")
_STEM_LETTERS, _LONG_STEM_LETTERS = 4, 5
_SHORT_ENDING = 2


@dataclass(frozen=True)
class NamedTarget:
    """A label, and what the vocabulary knows of it.

    Attributes:
        label: in plain words.
        target: of the vocabulary; ``None`` where it holds no such thing.
        side: of the patient, where the label tells it.
    """

    label: str
    target: Target | None = None
    side: Side | None = None

    @property
    def name(self) -> str:
        """In English, with the side: ``left lung``."""
        if self.target is None:
            return self.label
        return f"{self.side} {self.target.name}" if self.side else self.target.name


@cache
def named_target(label: str) -> NamedTarget:
    """The target that a label names in English, whatever the order of its words."""
    if label in vocabulary().targets:
        return NamedTarget(label, vocabulary().targets[label])
    names, tokens = names_as_texts("en"), plain_tokens(label)
    found = names.get(" ".join(tokens)) or _in_any_order().get(frozenset(tokens))
    known = None if found is None else names[found] if isinstance(found, str) else found
    if known is None or known.name not in vocabulary().targets:
        return NamedTarget(label)
    return NamedTarget(label, vocabulary().targets[known.name], known.side)


@cache
def _in_any_order() -> dict[frozenset[str], str]:
    return {frozenset(text.split()): text for text in names_as_texts("en")}


def names_target(text: str, named: NamedTarget) -> bool:
    """Whether a text calls the target by any of its names, in any language, or by part of a word.

    ``Kidneys``, ``renal``, ``Nierenstein`` and ``腎臓`` all name the kidney. Abbreviations count in
    capitals only, since many are words of other languages. Of a label that the vocabulary does not
    hold, the beginnings of its own words and of their synonyms are its names.
    """
    composed = unicodedata.normalize("NFC", text)
    if named.target is None:
        tokens = plain_tokens(composed)
        stems = forbidden_stems(named.label) or (named.label,)
        return any(_holds(tokens, plain_tokens(stem)) for stem in stems)
    spoken = _names_of(named.target.name)
    if any(re.search(rf"(?<!\w){re.escape(short)}(?!\w)", composed) for short in spoken.short):
        return True
    tokens = plain_tokens(composed)
    if any(name in word for word in tokens for name in spoken.within):
        return True
    return any(_holds(tokens, name) for name in spoken.names)


@dataclass(frozen=True)
class _Spoken:
    """All names as tokens, abbreviations as they are written, and what German words hold within."""

    names: frozenset[tuple[str, ...]]
    short: frozenset[str]
    within: frozenset[str]


@cache
def _names_of(target: str) -> _Spoken:
    found = vocabulary().targets[target]
    texts = {name.spelt for _, name in _all_names(found)}
    texts |= {word for words in found.adjectives.values() for word in words}
    abbreviations = {n.spelt for names in found.abbreviations.values() for n in names}
    short = abbreviations | {text for text in texts if _SHORT_CAPITALS.fullmatch(text)}
    long = {plain_tokens(text) for text in texts - short} - {()}
    german = {plain_text(name.spelt) for tongue, name in _all_names(found) if tongue == "de"}
    within = {text for text in german if len(text) >= _LONG_STEM_LETTERS and " " not in text}
    return _Spoken(frozenset(long), frozenset(short), frozenset(within))


def _all_names(target: Target) -> Iterator[tuple[Tongue, Name]]:
    tables: tuple[Mapping[Any, tuple[Name, ...]], ...] = (target.names, target.lay, target.both)
    for table in tables:
        for tongue, names in table.items():
            yield from ((tongue, name) for name in names)


def _holds(tokens: tuple[str, ...], name: tuple[str, ...]) -> bool:
    """Whether the words of a name stand in a text next to each other, with any endings."""
    return any(
        all(map(_begins, tokens[at : at + len(name)], name))
        for at in range(len(tokens) - len(name) + 1)
    )


def _begins(word: str, stem: str) -> bool:
    """Whether a word is one of a name, inflected or joined with others; short ones are not."""
    if word == stem:
        return True
    longer = len(word) - len(stem)
    if len(stem) >= _LONG_STEM_LETTERS:
        return word.startswith(stem)
    return len(stem) == _STEM_LETTERS and 0 < longer <= _SHORT_ENDING and word.startswith(stem)


def super_category(told: str, named: NamedTarget) -> str:
    """What the data set tells, else the vocabulary's group of the target, in words."""
    if told or named.target is None:
        return told
    return plain_text(named.target.group)
