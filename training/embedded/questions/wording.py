# SPDX-License-Identifier: Apache-2.0
"""How names, facts and lists become sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from medreasoner_infer.language import (
    Fact,
    Forms,
    Language,
    Name,
    Neighbour,
    Side,
    Slot,
    Target,
    Tongue,
    phrase,
)

_SLOT = re.compile(r"{(bare|nom|one|acc|dat|of|to)}")
_SPANISH_E = re.compile(r"h?[ií](?!e)", re.IGNORECASE)


def sided_name(target: str, side: Side | None) -> str:
    """``left kidney``, or the name itself."""
    return f"{side} {target}" if side else target


def slot_of(form: str) -> Slot:
    """The slot of a request form."""
    match = _SLOT.search(form)
    if match is None:
        raise ValueError(f"The form {form!r} has no slot for a name.")
    slot: Slot = match[1]  # type: ignore[assignment]
    return slot


def filled(form: str, words: str) -> str:
    """A form with its slot filled."""
    return _SLOT.sub(lambda _: words, form, count=1)


def named(
    name: Name, tongue: Tongue, slot: Slot, side: Side | None, beside: str | None = None
) -> str:
    """A name in a slot; ``beside`` is the form that tells its side apart from it."""
    if beside is None:
        return phrase(name, tongue, slot, side)
    return beside.format(name=phrase(name, tongue, slot))


def described(form: str, fact: Fact, language: Language, on_side: str | None) -> str:
    """A form of descriptions with a fact, of one side of the patient if ``on_side`` is given."""
    text = fact.texts[language]
    if language != "en":
        return form.format(fact=on_side.format(fact=text) if on_side else text)
    head, _, clause = text.partition(" | ")
    clause = on_side.format(fact=clause) if on_side else clause
    return form.format(fact=f"the {head} that {clause}", head=head, clause=clause)


def neighbour_fact(
    pair: tuple[Neighbour, Neighbour],
    targets: Mapping[str, Target],
    forms: Mapping[Language, Forms],
) -> Fact:
    """Where a target lies from two others, in all languages."""
    texts = {}
    for language, form in forms.items():
        first, second = (_relation(item, targets, language, form) for item in pair)
        texts[language] = form.neighbour.format(first=first, second=second)
    return Fact("place", texts, pair[0].side)


def _relation(
    neighbour: Neighbour, targets: Mapping[str, Target], language: Language, forms: Forms
) -> str:
    form = forms.where[neighbour.where]
    name = targets[neighbour.to].names[language][0]
    return filled(form, phrase(name, language, slot_of(form), neighbour.to_side))


def listed(items: Sequence[str], language: Language, forms: Forms) -> str:
    """``liver, spleen and both kidneys``."""
    *front, last = items
    joint = forms.list_last
    if language == "es" and _SPANISH_E.match(last):
        joint = " e "
    return forms.list_comma.join(front) + joint + last


def vary_surface(text: str, rng: np.random.Generator) -> str:
    """Letter case and final mark as hurried writers leave them."""
    draw = rng.random()
    if draw < 0.25:
        text = text.lower()
    elif draw < 0.33:
        text = text.upper()
    if rng.random() < 0.25:
        text = text.strip(" .?!¿。？")
    elif rng.random() < 0.05:
        text = text.rstrip(" .。") + "!"
    return text
