# SPDX-License-Identifier: Apache-2.0
"""All that one language can call a target or an outside term, as tokens to find in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import chain, product
from typing import Generic, TypeVar

from medreasoner_infer.language.grammar import (
    SIDES,
    SLOTS,
    Language,
    Name,
    Side,
    Slot,
    Tongue,
    phrase,
)
from medreasoner_infer.language.plain import plain_text
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.vocabulary import Forms, Target
from medreasoner_infer.once import computed_once

Tokens = tuple[str, ...]
UNSPACED: frozenset[Tongue] = frozenset({"zh", "ja"})
_UNSPACED_LETTER = "\u3005\u3006\u3040-\u30fa\u30fc-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(f"[{_UNSPACED_LETTER}]|[^\\W_{_UNSPACED_LETTER}]+|[,，、;；&＆+＋/／・]")
_ENGLISH_PLURALS = (
    (r"([^aeiou])y$", r"\1ies"), (r"is$", "es"), (r"(s|x|ch|sh)$", r"\1es"), (r"$", "s"),
)  # fmt: skip
_SLOT = re.compile(r"{\w+}")


@dataclass(frozen=True)
class Token:
    """A word, a character of a language without spaces, or a mark that may join a list.

    Attributes:
        plain: as :func:`plain_text` writes it; a mark as it is, in its narrow form.
        start: of its first character in the text.
        end: behind its last character.
    """

    plain: str
    start: int
    end: int


def is_unspaced(word: str) -> bool:
    """Whether a token is a character of a language without spaces."""
    return re.match(f"[{_UNSPACED_LETTER}]", word) is not None


def tokens_of(text: str) -> tuple[Token, ...]:
    """The tokens of a text in composed form (NFC); other marks are dropped."""
    return tuple(
        Token(word, *match.span()) for match in _TOKEN.finditer(text) for word in _plain(match[0])
    )


def plain_tokens(text: str) -> Tokens:
    """Those of a name or form, to be compared."""
    return tuple(chain.from_iterable(map(_plain, _TOKEN.findall(text))))


_NARROW = str.maketrans("，；＆＋／", ",;&+/")


@lru_cache(maxsize=1 << 14)  # a language's names share most of their words
def _plain(piece: str) -> Tokens:
    plain = plain_text(piece) or piece.translate(_NARROW)
    return tuple(plain.split()) or (plain,)


_T = TypeVar("_T")


class Phrases(Generic[_T]):
    """What phrases mean, found by their tokens."""

    def __init__(self, meanings: Mapping[Tokens, _T]) -> None:
        self.meanings = meanings
        self._lengths = sorted({len(tokens) for tokens in meanings if tokens}, reverse=True)

    def longest_at(self, tokens: Tokens, at: int) -> Tokens:
        """The longest phrase that begins there; empty if none does."""
        pieces = (tokens[at : at + length] for length in self._lengths)
        return next((piece for piece in pieces if piece in self.meanings), ())


@dataclass(frozen=True)
class Single:
    """One target that is asked for.

    Attributes:
        name: the English name of the target or outside term.
        side: the patient's, if it is told.
        bare: what it is called, without article.
        text: as it stands in a sentence in the place of the words that name it.
    """

    name: str
    side: Side | None
    bare: str
    text: str


@dataclass(frozen=True)
class Spoken:
    """What words name: one target, or both of a pair; ``slot`` is how they stand in a sentence."""

    singles: tuple[Single, ...]
    slot: Slot


@computed_once
def spoken_names(language: Language) -> Phrases[Spoken]:
    """All names of a language, with articles and sides; of two that are equal the first.

    Latin terms stand in sentences of all languages.
    """
    forms = vocabulary().forms[language]
    found: dict[Tokens, Spoken] = {}
    for target in vocabulary().targets.values():
        for tongue, name in _called(target, language):
            _add(found, _said(target.name, name, tongue, target.sides))
            if target.paired and tongue == language:
                _add(found, _said_beside(target.name, name, language, forms))
        if target.paired:
            _add_both(found, target, language, forms)
    for term in vocabulary().outside.values():
        if language in term.names:
            for name in _singular_and_plural(term.names[language], language):
                _add(found, _said(term.name, name, language, SIDES))
    return Phrases(found)


def _singular_and_plural(name: Name, language: Language) -> tuple[Name, ...]:
    """English forms a plural by rule; what was one already gets a form that nobody says."""
    return (name, replace(name, text=_english_plural(name.text))) if language == "en" else (name,)


def _english_plural(text: str) -> str:
    """``hepatic veins``, ``ovaries``, ``testes``."""
    rules = (rule for rule in _ENGLISH_PLURALS if re.search(rule[0], text))
    return re.sub(*next(rules), text, count=1)


def _called(target: Target, language: Language) -> Iterator[tuple[Tongue, Name]]:
    yield from ((language, name) for name in target.expressions(language))
    yield from (("la", name) for name in target.names.get("la", ()))


def _add(found: dict[Tokens, Spoken], said: Iterable[tuple[Single, Slot]]) -> None:
    for single, slot in said:
        found.setdefault(plain_tokens(single.text), Spoken((single,), slot))


def _said(
    term: str, name: Name, tongue: Tongue, sides: Iterable[Side | None]
) -> Iterator[tuple[Single, Slot]]:
    for side in dict.fromkeys((None, *sides)):
        bare = phrase(name, tongue, "bare", side)
        for slot in SLOTS:
            yield Single(term, side, bare, phrase(name, tongue, slot, side)), slot


def _said_beside(
    term: str, name: Name, language: Language, forms: Forms
) -> Iterator[tuple[Single, Slot]]:
    """The side stands apart from the name: ``kidney on the left``."""
    for side, slot in product(SIDES, SLOTS):
        for form in forms.beside[side]:
            bare, said = (form.format(name=phrase(name, language, s)) for s in ("bare", slot))
            yield Single(term, side, bare, said), slot


def _add_both(
    found: dict[Tokens, Spoken], target: Target, language: Language, forms: Forms
) -> None:
    first = target.names[language][0]
    plurals = [*_plurals(target, language, forms)]
    for slot in SLOTS:
        singles = tuple(
            Single(
                target.name,
                side,
                phrase(first, language, "bare", side),
                phrase(first, language, slot, side),
            )
            for side in SIDES
        )
        both = Spoken(singles, slot)
        for name in (*target.both.get(language, ()), *plurals):
            found.setdefault(plain_tokens(phrase(name, language, slot)), both)
        for name in (*target.expressions(language), *plurals):
            for tokens in _two_sides(name, language, slot, forms):
                found.setdefault(tokens, both)


def _plurals(target: Target, language: Language, forms: Forms) -> Iterator[Name]:
    """``kidneys`` of ``both kidneys``."""
    gender = target.names[language][0].gender.rstrip("heps")
    for name, pair in product(target.both.get(language, ()), forms.pair):
        if name.text.startswith(f"{pair} "):
            plural = {"": "", "de": "p"}.get(language if gender else "", f"{gender}p")
            yield Name(name.text.removeprefix(f"{pair} "), plural)


def _two_sides(name: Name, language: Language, slot: Slot, forms: Forms) -> Iterator[Tokens]:
    """``left and right kidney``: what the sides differ in is said of one name."""
    joint = () if language in UNSPACED else plain_tokens(forms.list_last)
    sided = [[phrase(name, language, slot, side)] for side in SIDES]
    if language in UNSPACED:
        for side, texts in zip(SIDES, sided, strict=True):
            texts += [form.format(name=name.text) for form in forms.beside[side]]
    for pair in zip(*sided, strict=True):
        left, right = map(plain_tokens, pair)
        front, back = _common(left, right), _common(left[::-1], right[::-1])
        back = min(back, len(left) - front, len(right) - front)
        tail = left[len(left) - back :]
        parts = left[front : len(left) - back], right[front : len(right) - back]
        for one, other in (parts, parts[::-1]):
            yield (*left[:front], *one, *joint, *other, *tail)


def _common(first: Tokens, second: Tokens) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    shorter = min(len(first), len(second))
    return next((at for at, (one, other) in pairs if one != other), shorter)


@dataclass(frozen=True)
class Frames:
    """What stands around names in requests, as tokens.

    Attributes:
        joints: between the items of a list.
        fillers: heads, tails and, in languages that have spaces, their single words.
        heads: whole beginnings of requests up to the name.
        tails: whole ends of requests from the name.
        single: fillers of requests for one target.
    """

    joints: Phrases[None]
    fillers: Phrases[None]
    heads: frozenset[Tokens]
    tails: frozenset[Tokens]
    single: frozenset[Tokens]


@cache
def frames_of(language: Language) -> Frames:
    """The frames of a language, read from its forms."""
    forms = vocabulary().forms[language]
    heads_of_one, tails_of_one = _ends(forms.requests)
    heads_of_list, tails_of_list = _ends(forms.several)
    around = set(map(plain_tokens, forms.around))
    heads, tails = heads_of_one | heads_of_list | around, tails_of_one | tails_of_list | around
    joints = map(plain_tokens, (forms.list_comma, forms.list_last, *forms.joints))
    return Frames(
        Phrases(dict.fromkeys(joints)),
        Phrases(dict.fromkeys(_with_words(heads | tails, language))),
        frozenset(heads),
        frozenset(tails),
        frozenset(_with_words(heads_of_one | tails_of_one, language)),
    )


@cache
def signs_of_lists(language: Language) -> frozenset[str]:
    """Tokens of which each list has one; quickly asked, before all names of a language are."""
    both = (name for t in vocabulary().targets.values() for name in t.both.get(language, ()))
    phrases = [phrase(name, language, slot) for name in both for slot in SLOTS]
    joints = frames_of(language).joints.meanings
    return frozenset(word for tokens in (*joints, *map(plain_tokens, phrases)) for word in tokens)


def _with_words(phrases: set[Tokens], language: Language) -> set[Tokens]:
    if language in UNSPACED:
        return phrases
    return phrases | {(word,) for tokens in phrases for word in tokens}


def _ends(forms: tuple[str, ...]) -> tuple[set[Tokens], set[Tokens]]:
    cut = [_SLOT.split(form, maxsplit=1) for form in forms]
    heads, tails = ({plain_tokens(parts[at]) for parts in cut} - {()} for at in (0, -1))
    return heads, tails
