# SPDX-License-Identifier: Apache-2.0
"""What the questions of each split may be made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Literal

from medreasoner_infer.errors import InputError
from medreasoner_infer.language import Fact, Language, Name, Target, Vocabulary, plain_text

from .loosening import filler_of
from .question import SPLITS, Split
from .splits import form_key, split_of_each
from .wording import neighbour_fact

FormGroup = Literal["requests", "adjectival", "descriptions", "several"]
TEST: Split = "test"
GROUPS: tuple[FormGroup, ...] = ("requests", "adjectival", "descriptions", "several")


@dataclass(frozen=True)
class KeyedFact:
    """A fact of a target, with the key that decides its split."""

    target: Target
    fact: Fact
    key: str


@dataclass(frozen=True)
class Material:
    """The vocabulary, divided.

    Attributes:
        words: the vocabulary.
        known: names of the targets that the model is taught.
        forms: by language, group and split. Forms without words of their own, such as the bare
            name, are of the training only, and of a held-out language they are all of it.
        facts: by split, of all targets.
        outside: by split, names in each language of what is outside, with the term as key.
        off_topic: by language and split.
    """

    words: Vocabulary
    known: frozenset[str]
    forms: Mapping[tuple[Language, FormGroup, Split], tuple[str, ...]]
    facts: Mapping[Split, tuple[KeyedFact, ...]]
    outside: Mapping[tuple[Language, Split], tuple[tuple[str, Name], ...]]
    off_topic: Mapping[tuple[Language, Split], tuple[str, ...]]

    def known_targets(self) -> tuple[Target, ...]:
        """The targets that the model is taught, in the order of the files."""
        return tuple(t for name, t in self.words.targets.items() if name in self.known)

    def plain_names(self) -> frozenset[str]:
        """All names of targets and terms, normalised."""
        found = [name for target in self.words.targets.values() for name in _all_names(target)]
        found += [name for term in self.words.outside.values() for name in term.names.values()]
        return frozenset(plain_text(name.spelt) for name in found)

    def names_in(self, language: Language) -> tuple[str, ...]:
        """Normalised names of targets and terms in a language and in Latin."""
        if language not in self._names:
            found = [n for t in self.words.targets.values() for n in t.expressions(language)]
            found += [n for t in self.words.targets.values() for n in t.names.get("la", ())]
            found += [t.names[language] for t in self.words.outside.values() if language in t.names]
            self._names[language] = tuple(sorted({plain_text(name.spelt) for name in found} - {""}))
        return self._names[language]

    @cached_property
    def _names(self) -> dict[Language, tuple[str, ...]]:
        return {}

    def filler(self, language: Language, split: Split) -> tuple[str, ...]:
        """Words of a language's forms that a split may use."""
        if (language, split) not in self._filler:
            forms = [form for group in GROUPS for form in self.forms[language, group, split]]
            self._filler[language, split] = filler_of(forms, language)
        return self._filler[language, split]

    @cached_property
    def _filler(self) -> dict[tuple[Language, Split], tuple[str, ...]]:
        return {}

    @cached_property
    def name_words(self) -> frozenset[str]:
        """The normalised words of all names, known and outside."""
        return frozenset(word for name in self.plain_names() for word in name.split())


def divide(
    words: Vocabulary, known: Collection[str], held_out_languages: Collection[Language]
) -> Material:
    """Divide a vocabulary.

    Args:
        words: the vocabulary.
        known: names of the targets that the model is taught; all others are outside.
        held_out_languages: whose forms are all kept for the test.

    Raises:
        InputError: a known target is not in the vocabulary.
    """
    missing = set(known) - set(words.targets)
    if missing:
        raise InputError(
            f"No targets of the vocabulary: {', '.join(sorted(missing))}; expected names such as "
            f"{', '.join(list(words.targets)[:3])}."
        )
    return Material(
        words,
        frozenset(known),
        _divided_forms(words, held_out_languages),
        _divided_facts(words),
        _divided_outside(words, known),
        _divided_off_topic(words),
    )


def _divided_forms(
    words: Vocabulary, held_out_languages: Collection[Language]
) -> dict[tuple[Language, FormGroup, Split], tuple[str, ...]]:
    divided: dict[tuple[Language, FormGroup, Split], tuple[str, ...]] = {}
    decided: dict[str, Split] = {}  # languages may share a form: "Segmenta" is two of them
    held_out_first = sorted(words.forms, key=lambda language: language not in held_out_languages)
    for language in held_out_first:
        forms = words.forms[language]
        for group in GROUPS:
            all_forms: tuple[str, ...] = getattr(forms, group)
            keys = [key for form in all_forms if (key := form_key(form))]
            if language in held_out_languages:
                splits = dict.fromkeys(keys, TEST)
            else:
                splits = split_of_each(keys, decided)
            decided |= splits
            for split in SPLITS:
                divided[language, group, split] = tuple(
                    form for form in all_forms if splits.get(form_key(form), "train") == split
                )
    return divided


def _divided_facts(words: Vocabulary) -> dict[Split, tuple[KeyedFact, ...]]:
    divided: dict[Split, list[KeyedFact]] = {split: [] for split in SPLITS}
    for target in words.targets.values():
        facts = [
            KeyedFact(target, fact, f"{target.name}: {fact.side or ''} {fact.texts['en']}")
            for fact in target.facts
        ]
        for group in (facts, list(_neighbour_facts(target, words))):
            splits = split_of_each(item.key for item in group)
            for item in group:
                divided[splits[item.key]].append(item)
    return {split: tuple(items) for split, items in divided.items()}


def _neighbour_facts(target: Target, words: Vocabulary) -> Iterator[KeyedFact]:
    """Each pair of relations that hold for the same side is one fact."""
    for pair in combinations(target.neighbours, 2):
        if pair[0].side == pair[1].side:
            fact = neighbour_fact(pair, words.targets, words.forms)
            yield KeyedFact(target, fact, f"{target.name}: {fact.side or ''} {fact.texts['en']}")


def _divided_outside(
    words: Vocabulary, known: Collection[str]
) -> dict[tuple[Language, Split], tuple[tuple[str, Name], ...]]:
    unknown = [target for name, target in words.targets.items() if name not in known]
    splits = split_of_each([*words.outside, *(target.name for target in unknown)])
    divided: dict[tuple[Language, Split], tuple[tuple[str, Name], ...]] = {}
    for language in words.forms:
        named = [(o.name, o.names[language]) for o in words.outside.values() if language in o.names]
        for target in unknown:
            named += [(target.name, name) for name in target.expressions(language)]
        for split in SPLITS:
            divided[language, split] = tuple(item for item in named if splits[item[0]] == split)
    return divided


def _divided_off_topic(words: Vocabulary) -> dict[tuple[Language, Split], tuple[str, ...]]:
    divided: dict[tuple[Language, Split], tuple[str, ...]] = {}
    for language, forms in words.forms.items():
        splits = split_of_each(forms.off_topic)
        for split in SPLITS:
            divided[language, split] = tuple(t for t in forms.off_topic if splits[t] == split)
    return divided


def _all_names(target: Target) -> Iterator[Name]:
    for table in (target.names, target.lay, target.abbreviations):
        for names in table.values():
            yield from names
