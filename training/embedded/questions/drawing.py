# SPDX-License-Identifier: Apache-2.0
"""Draws forms, names and facts of a split; what all kinds of questions share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar

import numpy as np

from medreasoner_infer.language import SIDES, Fact, Language, Name, Side, Target, Tongue

from .loosening import loosened, with_words_dropped
from .material import FormGroup, KeyedFact, Material
from .question import Kind, Question, Split
from .wording import described, sided_name, vary_surface

SIDE_OPEN_SHARE, SIDE_BESIDE_SHARE = 0.1, 0.2
_ENDS_WITH_SLOT = re.compile(r"}\W*$")
_T = TypeVar("_T")


class Drawer:
    """Draws from divided material; what it has nothing of is ``None`` or empty.

    Args:
        material: the divided vocabulary.
        about: the only known target to ask for; all by default.
        loose_share: of the forms whose words are varied, see :mod:`.loosening`.
    """

    def __init__(
        self, material: Material, about: str | None = None, loose_share: float = 0.0
    ) -> None:
        self.material = material
        self.words = material.words
        self._about = about
        self._loose_share = loose_share
        self._names: dict[tuple[Kind, Tongue], list[tuple[Target, tuple[Name, ...]]]] = {}
        self._facts: dict[tuple[Language, Split, bool], list[tuple[KeyedFact, ...]]] = {}

    @cached_property
    def known(self) -> tuple[Target, ...]:
        """The targets that the model is taught."""
        known = self.material.known_targets()
        return tuple(t for t in known if self._about in (None, t.name))

    @property
    def is_loose(self) -> bool:
        """Whether forms are varied, as for training."""
        return self._loose_share > 0

    @property
    def name_words(self) -> frozenset[str]:
        """The normalised words of all names, known and outside."""
        return self.material.name_words

    def form(
        self, language: Language, group: FormGroup, split: Split, rng: np.random.Generator
    ) -> str | None:
        """A form of the language's group that the split may use."""
        forms = self.material.forms[language, group, split]
        if not forms:
            return None
        form = one_of(forms, rng)
        if rng.random() < self._loose_share:
            form = loosened(form, self.material.filler(language, split), language, rng)
        return form

    def target_and_name(
        self, kind: Kind, tongue: Tongue, rng: np.random.Generator
    ) -> tuple[Target, Name] | None:
        """A known target that has such names, each as likely as any other, and one of the names."""
        if (kind, tongue) not in self._names:
            named_so = [(t, names_of(kind, t, tongue)) for t in self.known]
            self._names[kind, tongue] = [(t, names) for t, names in named_so if names]
        if not self._names[kind, tongue]:
            return None
        target, names = one_of(self._names[kind, tongue], rng)
        return target, one_of(names, rng)

    def beside(
        self, form: str, language: Language, side: Side | None, rng: np.random.Generator
    ) -> str | None:
        """At times the side stands beside the name: ``kidney on the patient's left``."""
        at_end = language in ("zh", "ja") or _ENDS_WITH_SLOT.search(form) is not None
        if side is None or not at_end or rng.random() >= SIDE_BESIDE_SHARE:
            return None
        return one_of(self.words.forms[language].beside[side], rng)

    def facts(
        self, language: Language, split: Split, *, known: bool
    ) -> list[tuple[KeyedFact, ...]]:
        """The facts that can be told in a language, those of one target together."""
        if (language, split, known) in self._facts:
            return self._facts[language, split, known]
        facts: dict[str, list[KeyedFact]] = {}
        for item in self.material.facts[split]:
            name = item.target.name
            if self._about not in (None, name):
                continue
            if language in item.fact.texts and (name in self.material.known) == known:
                facts.setdefault(name, []).append(item)
        found = [tuple(items) for items in facts.values()]
        self._facts[language, split, known] = found
        return found

    def of_fact(
        self,
        facts: Sequence[Sequence[KeyedFact]],
        language: Language,
        split: Split,
        rng: np.random.Generator,
    ) -> Question | None:
        """A question that tells one of ``facts``, which stand together by target."""
        form = self.form(language, "descriptions", split, rng)
        if not facts or form is None:
            return None
        item = one_of(one_of(facts, rng), rng)
        side = item.fact.side or draw_side(item.target, rng)
        told = self._told_side(item.fact, side, language, rng)
        text = described(form, item.fact, language, told)
        if rng.random() < self._loose_share:
            text = with_words_dropped(text, language, rng)
        text = vary_surface(text, rng)
        targets = (sided_name(item.target.name, side),)
        return Question(text, language, "implicit", targets, split, form, item.key)

    def _told_side(
        self, fact: Fact, side: Side | None, language: Language, rng: np.random.Generator
    ) -> str | None:
        """The form that adds the side; a fact of one side need not tell it."""
        if side is None or (fact.side and rng.random() < 0.7):
            return None
        return self.words.forms[language].on_side[side]


def names_of(kind: Kind, target: Target, tongue: Tongue) -> tuple[Name, ...]:
    """The names of one kind; of abbreviations only those that are not ambiguous."""
    if kind == "latin" or tongue == "la":
        return target.names.get("la", ()) if kind == "latin" else ()
    if kind == "lay":
        return tuple(target.lay.get(tongue, ()))
    if kind == "abbreviation":
        own = target.abbreviations.get(tongue, ())
        return tuple(name for name in own if name.text not in target.ambiguous)
    names = target.names.get(tongue, ())
    return tuple(names[:1] if kind == "name" else names[1:])


def draw_side(target: Target, rng: np.random.Generator) -> Side | None:
    """A side of a paired target; at times the question leaves it open."""
    if not target.paired or rng.random() < SIDE_OPEN_SHARE:
        return None
    return SIDES[int(rng.integers(2))]


def one_of(items: Sequence[_T], rng: np.random.Generator) -> _T:
    """One of them, each as likely as any other."""
    return items[int(rng.integers(len(items)))]
