# SPDX-License-Identifier: Apache-2.0
"""Names of targets with and without the patient's side, and the words of the sides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from medreasoner_infer.errors import InputError
from medreasoner_infer.language.grammar import GENDERS, SIDES, SLOTS, Language, Name, Side, phrase
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import Tokens, plain_tokens
from medreasoner_infer.language.vocabulary import Target


def unsided(target: str) -> str:
    """The vocabulary's name of a target that may begin with the patient's side.

    Raises:
        InputError: the vocabulary does not hold it.
    """
    first, _, rest = target.partition(" ")
    known = vocabulary().targets
    if target in known:
        return target
    if first in SIDES and rest in known and known[rest].paired:
        return rest
    raise InputError(
        f"The target {target!r} is not in the clinical vocabulary; expected a name such as liver, "
        "left kidney or aorta."
    )


@cache
def side_words(language: Language) -> Mapping[Side, frozenset[str]]:
    """The words, or characters where there are no spaces, by which a language tells each side."""
    said = {side: frozenset(_said_of(side, language)) for side in SIDES}
    return {side: said[side] - said[other] for side, other in zip(SIDES, SIDES[::-1], strict=True)}


def side_told(tokens: Tokens, target: Target, language: Language) -> Side | None:
    """The one side of the patient that a text tells of a paired target; else ``None``."""
    if not target.paired:
        return None
    told = [side for side in SIDES if side_words(language)[side].intersection(tokens)]
    return told[0] if len(told) == 1 else None


def _said_of(side: Side, language: Language) -> set[str]:
    forms = vocabulary().forms[language]
    texts = [form.format(fact="", name="") for form in (forms.on_side[side], *forms.beside[side])]
    for gender in GENDERS.get(language, ("",)):
        texts += [phrase(Name("", gender), language, slot, side) for slot in SLOTS]
    return {word for text in texts for word in plain_tokens(text)}
