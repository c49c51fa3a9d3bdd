# SPDX-License-Identifier: Apache-2.0
"""Draws questions of each kind, in each language, from what a split may use."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np

from medreasoner_infer.language import (
    SIDES,
    Fact,
    Language,
    Name,
    Side,
    Slot,
    Target,
    Tongue,
    Vocabulary,
    plain_text,
    vocabulary,
)

from . import nonsense
from .known import known_names
from .material import FormGroup, KeyedFact, divide
from .question import Kind, Question, Split
from .splits import split_of_text
from .typing_errors import Keyboard, misspelt
from .wording import described, filled, listed, named, sided_name, slot_of, vary_surface

HELD_OUT_LANGUAGES: frozenset[Language] = frozenset({"pt"})
"""Languages whose forms are all kept for the test; their bare names and facts are trained."""
SIDE_OPEN_SHARE, SIDE_BESIDE_SHARE, BOTH_SHARE = 0.1, 0.2, 0.25
UNKNOWN_FACT_SHARE, ADJECTIVE_SHARE = 0.15, 0.15
_ENDS_WITH_SLOT = re.compile(r"}\W*$")
_T = TypeVar("_T")


class QuestionWriter:
    """Writes questions; equal random generators give equal questions.

    Args:
        words: the vocabulary; the shipped one by default.
        known: names of the targets that the model is taught, see :func:`known_names`; all others
            are outside.
        held_out_languages: whose forms are all kept for the test.

    Raises:
        InputError: a known target is not in the vocabulary.
    """

    def __init__(
        self,
        words: Vocabulary | None = None,
        known: Collection[str] | None = None,
        held_out_languages: Collection[Language] = HELD_OUT_LANGUAGES,
    ) -> None:
        self.words = words or vocabulary()
        known = known_names() if known is None else known
        self.material = divide(self.words, known, held_out_languages)

    def write(
        self, kind: Kind, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        """One question; ``None`` where this draw leads to nothing of that kind and split.

        Args:
            kind: how the target is spoken of.
            language: of the sentence.
            split: of which facts, forms and terms it is made.
            rng: draws everything.
        """
        match kind:
            case "implicit":
                question = self._implicit(language, split, rng)
            case "misspelt":
                question = self._misspelt(language, split, rng)
            case "several":
                question = self._several(language, split, rng)
            case "outside":
                question = self._outside(language, split, rng)
            case "nonsense":
                question = self._nonsense(language, split, rng)
            case _:
                question = self._named(kind, language, split, rng)
        return question

    def _named(
        self, kind: Kind, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        if kind == "synonym" and rng.random() < ADJECTIVE_SHARE:
            return self._adjectival(language, split, rng)
        tongue: Tongue = "la" if kind == "latin" else language
        form = self._form(language, "requests", split, rng)
        pick = self._target_and_name(kind, tongue, rng)
        if pick is None or form is None:
            return None
        target, name = pick
        slot, side = slot_of(form), _side(target, rng)
        if not name.fits(slot):
            return None
        beside = None if tongue == "la" else self._beside(form, language, side, rng)
        text = filled(form, named(name, tongue, slot, side, beside))
        targets = (sided_name(target.name, side),)
        return Question(vary_surface(text, rng), language, kind, targets, split, form)

    def _adjectival(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        items = [(t, word) for t in self._known for word in t.adjectives.get(language, ())]
        form = self._form(language, "adjectival", split, rng)
        if not items or form is None:
            return None
        target, word = _one_of(items, rng)
        side = _side(target, rng)
        text = vary_surface(form.format(adjective=sided_name(word, side)), rng)
        targets = (sided_name(target.name, side),)
        return Question(text, language, "synonym", targets, split, form)

    def _implicit(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        return self._of_fact(self._facts(language, split, known=True), language, split, rng)

    def _of_fact(
        self,
        facts: Sequence[Sequence[KeyedFact]],
        language: Language,
        split: Split,
        rng: np.random.Generator,
    ) -> Question | None:
        form = self._form(language, "descriptions", split, rng)
        if not facts or form is None:
            return None
        item = _one_of(_one_of(facts, rng), rng)
        side = item.fact.side or _side(item.target, rng)
        told = self._told_side(item.fact, side, language, rng)
        text = vary_surface(described(form, item.fact, language, told), rng)
        targets = (sided_name(item.target.name, side),)
        return Question(text, language, "implicit", targets, split, form, item.key)

    def _told_side(
        self, fact: Fact, side: Side | None, language: Language, rng: np.random.Generator
    ) -> str | None:
        """The form that adds the side; a fact of one side need not tell it."""
        if side is None or (fact.side and rng.random() < 0.7):
            return None
        return self.words.forms[language].on_side[side]

    def _misspelt(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        kind: Kind = ("name", "synonym", "lay")[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]
        form = self._form(language, "requests", split, rng)
        pick = self._target_and_name(kind, language, rng)
        if pick is None or form is None:
            return None
        target, name = pick
        slot, side = slot_of(form), _side(target, rng)
        if not name.fits(slot):
            return None
        phrase = named(name, language, slot, side)
        wrong = misspelt(phrase, rng, _keyboard(language, rng))
        if wrong == phrase or self._is_other_word(phrase, wrong):
            return None
        text = vary_surface(filled(form, wrong), rng)
        targets = (sided_name(target.name, side),)
        return Question(text, language, "misspelt", targets, split, form)

    def _is_other_word(self, right: str, wrong: str) -> bool:
        """Whether the error has made another word of the vocabulary, as ``ileum`` of ``ilium``."""
        new = set(plain_text(wrong).split()) - set(plain_text(right).split())
        return bool(new & self._name_words)

    def _several(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        form = self._form(language, "several", split, rng)
        if form is None:
            return None
        picks = rng.permutation(len(self._known))[: int(rng.integers(2, 5))]
        bare = rng.random() < 0.5
        words: list[str] = []
        targets: list[str] = []
        for target in (self._known[int(i)] for i in picks):
            item, asked = self._list_item(target, language, bare, rng)
            words.append(item)
            targets += asked
        text = form.format(list=listed(words, language, self.words.forms[language]))
        text = vary_surface(text, rng)
        return Question(text, language, "several", tuple(targets), split, form)

    def _list_item(
        self, target: Target, language: Language, bare: bool, rng: np.random.Generator
    ) -> tuple[str, list[str]]:
        """One item of a list and what it asks for; ``both kidneys`` asks for two targets."""
        both = target.both.get(language, ())
        if both and rng.random() < BOTH_SHARE:
            words = named(_one_of(both, rng), language, "bare", None)
            return words, [sided_name(target.name, side) for side in reversed(SIDES)]
        side: Side | None = SIDES[int(rng.integers(2))] if target.paired else None
        slot: Slot = "bare" if bare else "acc"
        words = named(target.names[language][0], language, slot, side)
        return words, [sided_name(target.name, side)]

    def _outside(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        if rng.random() < UNKNOWN_FACT_SHARE:
            return self._of_unknown_fact(language, split, rng)
        terms = self.material.outside[language, split]
        form = self._form(language, "requests", split, rng)
        if not terms or form is None:
            return None
        term, name = _one_of(terms, rng)
        slot = slot_of(form)
        if not name.fits(slot):
            return None
        text = vary_surface(filled(form, named(name, language, slot, None)), rng)
        return Question(text, language, "outside", (), split, form, term)

    def _of_unknown_fact(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        facts = self._facts(language, split, known=False)
        asked = self._of_fact(facts, language, split, rng)
        if asked is None:
            return None
        return Question(asked.text, language, "outside", (), split, asked.form, asked.source)

    def _nonsense(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        draw = rng.random()
        if draw < 0.35:
            text = _one_of(self.material.off_topic[language, split], rng)
            return Question(vary_surface(text, rng), language, "nonsense", (), split, "", text)
        if draw < 0.7:
            return self._about_invented_word(language, split, rng)
        makers = (nonsense.struck_keys, nonsense.random_letters, nonsense.digits_and_marks)
        text = _one_of(makers, rng)(rng)
        if split_of_text(text) != split or plain_text(text) in self._name_words:
            return None
        return Question(text, language, "nonsense", (), split, "", text)

    def _about_invented_word(
        self, language: Language, split: Split, rng: np.random.Generator
    ) -> Question | None:
        form = self._form(language, "requests", split, rng)
        word = nonsense.invented_word(rng, self._name_words)
        if form is None or split_of_text(word) != split:
            return None
        genders = {"de": "n", "en": "", "zh": "", "ja": ""}
        name = Name(word, genders.get(language, "m"))
        text = filled(form, named(name, language, slot_of(form), None))
        return Question(vary_surface(text, rng), language, "nonsense", (), split, form, word)

    @cached_property
    def _known(self) -> tuple[Target, ...]:
        return self.material.known_targets()

    @cached_property
    def _name_words(self) -> frozenset[str]:
        return frozenset(word for name in self.material.plain_names() for word in name.split())

    def _facts(
        self, language: Language, split: Split, *, known: bool
    ) -> list[tuple[KeyedFact, ...]]:
        """The facts that can be told in a language, those of one target together."""
        facts: dict[str, list[KeyedFact]] = {}
        for item in self.material.facts[split]:
            name = item.target.name
            if language in item.fact.texts and (name in self.material.known) == known:
                facts.setdefault(name, []).append(item)
        return [tuple(items) for items in facts.values()]

    def _form(
        self, language: Language, group: FormGroup, split: Split, rng: np.random.Generator
    ) -> str | None:
        forms = self.material.forms[language, group, split]
        return _one_of(forms, rng) if forms else None

    def _beside(
        self, form: str, language: Language, side: Side | None, rng: np.random.Generator
    ) -> str | None:
        """At times the side stands beside the name: ``kidney on the patient's left``."""
        at_end = language in ("zh", "ja") or _ENDS_WITH_SLOT.search(form) is not None
        if side is None or not at_end or rng.random() >= SIDE_BESIDE_SHARE:
            return None
        return _one_of(self.words.forms[language].beside[side], rng)

    def _target_and_name(
        self, kind: Kind, tongue: Tongue, rng: np.random.Generator
    ) -> tuple[Target, Name] | None:
        """A known target that has such names, each as likely as any other, and one of the names."""
        named_so = [(t, names) for t in self._known if (names := _names_of(kind, t, tongue))]
        if not named_so:
            return None
        target, names = _one_of(named_so, rng)
        return target, _one_of(names, rng)


def _names_of(kind: Kind, target: Target, tongue: Tongue) -> tuple[Name, ...]:
    if kind == "latin" or tongue == "la":
        return target.names.get("la", ()) if kind == "latin" else ()
    if kind == "lay":
        return tuple(target.lay.get(tongue, ()))
    if kind == "abbreviation":
        own = target.abbreviations.get(tongue, ())
        return tuple(name for name in own if name.text not in target.ambiguous)
    names = target.names.get(tongue, ())
    return tuple(names[:1] if kind == "name" else names[1:])


def _side(target: Target, rng: np.random.Generator) -> Side | None:
    if not target.paired or rng.random() < SIDE_OPEN_SHARE:
        return None
    return SIDES[int(rng.integers(2))]


def _keyboard(language: Language, rng: np.random.Generator) -> Keyboard:
    return "qwertz" if rng.random() < (0.9 if language == "de" else 0.1) else "qwerty"


def _one_of(items: Sequence[_T], rng: np.random.Generator) -> _T:
    return items[int(rng.integers(len(items)))]
