# SPDX-License-Identifier: Apache-2.0
"""Questions that ask for known targets."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.language import SIDES, Language, Side, Slot, Target, Tongue, plain_text

from .drawing import Drawer, draw_side, one_of
from .question import Kind, Question, Split
from .typing_errors import Keyboard, misspelt
from .wording import filled, listed, named, sided_name, slot_of, vary_surface

BOTH_SHARE, ADJECTIVE_SHARE = 0.25, 0.15


def ask_by_name(
    drawer: Drawer, kind: Kind, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    """By a name of that kind; a synonym may be an adjective."""
    if kind == "synonym" and rng.random() < ADJECTIVE_SHARE:
        return _adjectival(drawer, language, split, rng)
    tongue: Tongue = "la" if kind == "latin" else language
    form = drawer.form(language, "requests", split, rng)
    pick = drawer.target_and_name(kind, tongue, rng)
    if pick is None or form is None:
        return None
    target, name = pick
    slot, side = slot_of(form), draw_side(target, rng)
    if not name.fits(slot):
        return None
    beside = None if tongue == "la" else drawer.beside(form, language, side, rng)
    text = filled(form, named(name, tongue, slot, side, beside))
    targets = (sided_name(target.name, side),)
    return Question(vary_surface(text, rng), language, kind, targets, split, form)


def ask_by_fact(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    """By what is true of a target, without its name."""
    return drawer.of_fact(drawer.facts(language, split, known=True), language, split, rng)


def ask_misspelt(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    """By a name with an error of typing, in languages that are typed letter by letter."""
    kind: Kind = ("name", "synonym", "lay")[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]
    form = drawer.form(language, "requests", split, rng)
    pick = drawer.target_and_name(kind, language, rng)
    if pick is None or form is None:
        return None
    target, name = pick
    slot, side = slot_of(form), draw_side(target, rng)
    if not name.fits(slot):
        return None
    phrase = named(name, language, slot, side)
    wrong = misspelt(phrase, rng, _keyboard(language, rng))
    if wrong == phrase or _is_other_word(drawer, phrase, wrong):
        return None
    text = vary_surface(filled(form, wrong), rng)
    targets = (sided_name(target.name, side),)
    return Question(text, language, "misspelt", targets, split, form)


def ask_for_several(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    """For two to four targets at once."""
    form = drawer.form(language, "several", split, rng)
    if form is None:
        return None
    picks = rng.permutation(len(drawer.known))[: int(rng.integers(2, 5))]
    bare = rng.random() < 0.5
    words: list[str] = []
    targets: list[str] = []
    for target in (drawer.known[int(i)] for i in picks):
        item, asked = _list_item(drawer, target, language, bare, rng)
        words.append(item)
        targets += asked
    text = form.format(list=listed(words, language, drawer.words.forms[language]))
    text = vary_surface(text, rng)
    return Question(text, language, "several", tuple(targets), split, form)


def _adjectival(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    items = [(t, word) for t in drawer.known for word in t.adjectives.get(language, ())]
    form = drawer.form(language, "adjectival", split, rng)
    if not items or form is None:
        return None
    target, word = one_of(items, rng)
    side = draw_side(target, rng)
    text = vary_surface(form.format(adjective=sided_name(word, side)), rng)
    targets = (sided_name(target.name, side),)
    return Question(text, language, "synonym", targets, split, form)


def _is_other_word(drawer: Drawer, right: str, wrong: str) -> bool:
    """Whether the error has made another word of the vocabulary, as ``ileum`` of ``ilium``."""
    new = set(plain_text(wrong).split()) - set(plain_text(right).split())
    return bool(new & drawer.name_words)


def _list_item(
    drawer: Drawer, target: Target, language: Language, bare: bool, rng: np.random.Generator
) -> tuple[str, list[str]]:
    """One item of a list and what it asks for; ``both kidneys`` asks for two targets."""
    both = target.both.get(language, ())
    if both and rng.random() < BOTH_SHARE:
        words = named(one_of(both, rng), language, "bare", None)
        return words, [sided_name(target.name, side) for side in reversed(SIDES)]
    side: Side | None = SIDES[int(rng.integers(2))] if target.paired else None
    slot: Slot = "bare" if bare else "acc"
    words = named(target.names[language][0], language, slot, side)
    return words, [sided_name(target.name, side)]


def _keyboard(language: Language, rng: np.random.Generator) -> Keyboard:
    return "qwertz" if rng.random() < (0.9 if language == "de" else 0.1) else "qwerty"
