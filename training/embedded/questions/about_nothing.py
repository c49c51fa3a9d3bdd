# SPDX-License-Identifier: Apache-2.0
"""Questions that no known target answers."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.language import Language, Name, plain_text

from . import nonsense
from .drawing import Drawer, one_of
from .question import Question, Split
from .splits import split_of_text
from .wording import filled, named, slot_of, vary_surface

UNKNOWN_FACT_SHARE = 0.15
NEAR_MISS_SHARE = 0.75
"""Of the invented words in training."""


def ask_outside(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    """For something medical that is no known target, by its name or by a fact about it."""
    if rng.random() < UNKNOWN_FACT_SHARE:
        return _of_unknown_fact(drawer, language, split, rng)
    terms = drawer.material.outside[language, split]
    form = drawer.form(language, "requests", split, rng)
    if not terms or form is None:
        return None
    term, name = one_of(terms, rng)
    slot = slot_of(form)
    if not name.fits(slot):
        return None
    text = vary_surface(filled(form, named(name, language, slot, None)), rng)
    return Question(text, language, "outside", (), split, form, term)


def ask_nonsense(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    """For something that is not medical, for an invented word, or for nothing at all."""
    draw = rng.random()
    if draw < 0.35:
        text = one_of(drawer.material.off_topic[language, split], rng)
        return Question(vary_surface(text, rng), language, "nonsense", (), split, "", text)
    if draw < 0.7:
        return _about_invented_word(drawer, language, split, rng)
    makers = (nonsense.struck_keys, nonsense.random_letters, nonsense.digits_and_marks)
    text = one_of(makers, rng)(rng)
    if split_of_text(text) != split or plain_text(text) in drawer.name_words:
        return None
    return Question(text, language, "nonsense", (), split, "", text)


def _of_unknown_fact(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    facts = drawer.facts(language, split, known=False)
    asked = drawer.of_fact(facts, language, split, rng)
    if asked is None:
        return None
    return Question(asked.text, language, "outside", (), split, asked.form, asked.source)


def _about_invented_word(
    drawer: Drawer, language: Language, split: Split, rng: np.random.Generator
) -> Question | None:
    form = drawer.form(language, "requests", split, rng)
    if drawer.is_loose and rng.random() < NEAR_MISS_SHARE:
        word = nonsense.near_miss(rng, drawer.material.names_in(language))
    else:
        word = nonsense.invented_word(rng, drawer.name_words)
    if form is None or split_of_text(word) != split:
        return None
    genders = {"de": "n", "en": "", "zh": "", "ja": ""}
    name = Name(word, genders.get(language, "m"))
    text = filled(form, named(name, language, slot_of(form), None))
    return Question(vary_surface(text, rng), language, "nonsense", (), split, form, word)
