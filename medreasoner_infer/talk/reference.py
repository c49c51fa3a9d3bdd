# SPDX-License-Identifier: Apache-2.0
"""What a question refers to, read from its words alone.

A question is taken for a follow-up only where every word of it is known to be one of a follow-up,
a name of the vocabulary, or a filler; whatever says more is left as it stands.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

from medreasoner_infer.language import LANGUAGES, Language, Side
from medreasoner_infer.language.follow_up_words import (
    Place,
    Quantity,
    Sign,
    bare_signs,
    follow_up_words,
    signs_of,
)
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Phrases,
    Single,
    Token,
    is_unspaced,
    plain_tokens,
    tokens_of,
)
from medreasoner_infer.language.vocabulary import Where
from medreasoner_infer.language.words import all_names

LONGEST_FOLLOW_UP_TOKENS = 24
"""Words, or characters where there are no spaces; whoever writes more says more."""
LONGEST_PART_TOKENS = 6

Referent = Literal["same", "named", "side", "other", "neighbour", "part"]
Way = Literal["next", "previous"] | Where


@dataclass(frozen=True)
class Step:
    """To another slice: how many, and which way."""

    count: int
    way: Way


@dataclass(frozen=True)
class Reference:
    """What a question is about.

    Attributes:
        to: what was found; a target that it names; what was found on the side ``side``; or on the
            other side; what lies ``place`` from it; or the part of it that ``part`` names.
        quantity: what is to be measured, if anything.
        step: to another slice, counted from that of the earlier answer.
        here: on the slice that is shown.
        named: the one target that is named, and the patient's side if it is told.
        language: in which it was read.
    """

    to: Referent
    quantity: Quantity | None = None
    step: Step | None = None
    here: bool = False
    place: Place | None = None
    part: str = ""
    side: Side | None = None
    named: tuple[str, Side | None] | None = None
    language: Language = "en"

    @property
    def needs_earlier(self) -> bool:
        """Whether it says nothing without an earlier answer."""
        return self.to != "named"


@lru_cache(maxsize=64)
def read_reference(text: str) -> Reference | None:
    """What a question refers to; ``None`` for one that stands by itself.

    A question for sizes that names its target (``How large is the spleen?``) stands by itself, too,
    and is read since a model cannot answer it.
    """
    composed = unicodedata.normalize("NFC", text)
    tokens = tokens_of(composed)
    if not tokens or len(tokens) > LONGEST_FOLLOW_UP_TOKENS:
        return None
    for language in _likely(tokens):
        read = _Signs.of(tokens, language)
        found = None if read is None else read.reference()
        if found is not None:
            return found
    parts = (_part(composed, tokens, language) for language in _likely(tokens))
    return next((part for part in parts if part is not None), None)


def refers_to_earlier(text: str) -> bool:
    """Whether a question says nothing without an earlier answer."""
    found = read_reference(text)
    return found is not None and found.needs_earlier


def _likely(tokens: Sequence[Token]) -> list[Language]:
    """The languages in which it says something of a follow-up."""
    unspaced = any(is_unspaced(token.plain) for token in tokens)
    plain = tuple(token.plain for token in tokens)
    return [
        language
        for language in LANGUAGES
        if (language in UNSPACED) == unspaced
        and any(bare_signs(language).longest_at(plain, at) for at in range(len(plain)))
    ]


@dataclass(frozen=True)
class _Signs:
    """The signs of a text that holds nothing else, and the targets that it names."""

    language: Language
    signs: tuple[tuple[Sign, ...], ...]
    named: tuple[Single, ...]

    @classmethod
    def of(cls, tokens: Sequence[Token], language: Language) -> _Signs | None:
        """Phrases before names, the longest first; ``None`` if a word is neither."""
        plain = tuple(token.plain for token in tokens)
        phrases, names = signs_of(language), all_names(language)
        signs: list[tuple[Sign, ...]] = []
        named: list[Single] = []
        at = 0
        while at < len(plain):
            phrase, name = phrases.longest_at(plain, at), names.longest_at(plain, at)
            if len(name) > len(phrase):
                singles = names.meanings[name].singles
                if len(singles) != 1:
                    return None
                named += singles
            elif phrase:
                signs.append(phrases.meanings[phrase])
            elif plain[at].isdecimal():
                signs.append((Sign("numbers", int(plain[at])),))
            elif plain[at].isalnum():
                return None
            at += max(len(name), len(phrase), 1)
        return cls(language, tuple(signs), tuple(named))

    def reference(self) -> Reference | None:
        """What the signs say together; ``None`` where that is nothing, or not certain."""
        target = self._target()
        if target is None:
            return None
        quantity = self._quantity()
        step = self._step()
        here = self._has("here")
        said = (quantity, step, here or None, None if target.to in ("same", "named") else True)
        if all(value is None for value in said) or (target.to == "named" and quantity is None):
            return None
        named = (self.named[0].name, self.named[0].side) if self.named else None
        return Reference(
            target.to, quantity, step, here, target.place, "", target.side, named, self.language
        )

    def _target(self) -> Reference | None:
        if len(self.named) > 1:
            return None
        places = set(self._values("where")) if not self._steps else set()
        if self.named:
            if places or self._has("it"):
                return None
            return Reference("other" if self._is_other else "named")
        if len(places) > 1:
            return None
        if places:
            return Reference("neighbour", place=cast("Place", places.pop()))
        if self._is_other:
            return None if self._steps and not self._has("on_other_side") else Reference("other")
        sides = set(self._values("sides")) if not self._steps else set()
        if len(sides) > 1:
            return None
        if sides:
            return Reference("side", side=cast("Side", sides.pop()))
        return Reference("same")

    @property
    def _is_other(self) -> bool:
        return self._has("other") or self._has("on_other_side")

    @property
    def _steps(self) -> bool:
        return self._has("slice") and bool(self._ways)

    @property
    def _ways(self) -> list[Way]:
        ways: list[Way] = [kind for kind in ("next", "previous") if self._has(kind)]
        told = [*self._values("towards"), *self._values("where")]
        return ways or [cast("Way", way) for way in told if way != "beside"]

    def _step(self) -> Step | None:
        if not self._steps:
            return None
        numbers = [int(number) for number in self._values("numbers")]
        return Step(max(numbers, default=1), self._ways[0])

    def _quantity(self) -> Quantity | None:
        found = dict.fromkeys(self._values("quantity"))
        specific = [quantity for quantity in found if quantity != "size"]
        if not found:
            return None
        return cast("Quantity", specific[0] if len(specific) == 1 else "size")

    def _has(self, kind: str) -> bool:
        return any(sign.kind == kind for alternatives in self.signs for sign in alternatives)

    def _values(self, kind: str) -> Iterator[str | int]:
        for alternatives in self.signs:
            for sign in alternatives:
                if sign.kind == kind and sign.value is not None:
                    yield sign.value


def _part(text: str, tokens: Sequence[Token], language: Language) -> Reference | None:
    """``Show me its left lobe``, ``the left lobe of it``: the words between are the part."""
    plain = tuple(token.plain for token in tokens)
    words = follow_up_words(language)
    heads = Phrases(dict.fromkeys(map(plain_tokens, words.its)))
    fillers = signs_of(language)
    at = 0
    while at < len(plain):
        its = heads.longest_at(plain, at)
        if its:
            rest = tokens[at + len(its) :]
            return _named_part(text, rest, language)
        at += len(fillers.longest_at(plain, at)) or len(plain)
    for tail in map(plain_tokens, words.of_it):
        if len(plain) > len(tail) and plain[-len(tail) :] == tail:
            return _named_part(text, _behind_fillers(tokens[: -len(tail)], language), language)
    return None


def _behind_fillers(tokens: Sequence[Token], language: Language) -> Sequence[Token]:
    plain, phrases, at = tuple(token.plain for token in tokens), signs_of(language), 0
    while at < len(plain) and not phrases.meanings.get(phrases.longest_at(plain, at), (1,)):
        at += len(phrases.longest_at(plain, at))
    return tokens[at:]


def _named_part(text: str, tokens: Sequence[Token], language: Language) -> Reference | None:
    if not 1 <= len(tokens) <= LONGEST_PART_TOKENS or _measures(tokens, language):
        return None
    said = text[tokens[0].start : tokens[-1].end]
    return Reference("part", part=said, language=language)


def _measures(tokens: Sequence[Token], language: Language) -> bool:
    """Whether words ask for a size, so that they name no part."""
    plain, phrases = tuple(token.plain for token in tokens), signs_of(language)
    found = (phrases.meanings.get(phrases.longest_at(plain, at), ()) for at in range(len(plain)))
    return any(sign.kind == "quantity" for signs in found for sign in signs)
