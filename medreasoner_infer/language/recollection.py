# SPDX-License-Identifier: Apache-2.0
"""Descriptions that say what the vocabulary says of a target, in almost the same words."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from medreasoner_infer.language.grammar import LANGUAGES, SIDES, Language, Side
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import UNSPACED, Tokens, plain_tokens
from medreasoner_infer.language.vocabulary import Fact, FactKind, Target
from medreasoner_infer.language.words import first_alike, little_words, pairs_of
from medreasoner_infer.once import computed_once

LEAST_SIMILARITY = 0.55
LEAST_LEAD = 0.15
"""Of the best target before the next one, as similarity."""
FREQUENT = 6
"""Facts that hold a word which tells kinds of things apart, such as *vein* and *artery*; a target
of which no fact says such a word is not meant."""
LEAST_SHARED_PAIRS = 3
"""Of characters, where there are no spaces; fewer may stand in anything."""
_STEM_LETTERS = 5
_IS_GRAMMAR = re.compile("[ぁ-ゖ]+").fullmatch
"""Hiragana alone: endings and particles."""


@dataclass(frozen=True)
class Recollection:
    """A target whose fact a text tells; ``side`` is the patient's, if fact or text tell it."""

    target: Target
    side: Side | None
    kind: FactKind


class FactIndex:
    """Facts to be found by the words of a text.

    The similarity is the cosine of both texts' words, each weighed by the logarithm of its inverse
    document frequency (Sparck Jones, 1972); of languages without spaces, of pairs of characters.

    Args:
        facts: pairs of a target and a fact that is true of it.
    """

    def __init__(self, facts: Iterable[tuple[Target, Fact]]) -> None:
        self._facts = tuple(facts)

    def recalled(self, text: str) -> Recollection | None:
        """The target of which the text tells a fact; ``None`` where that isn't certain."""
        tokens = plain_tokens(text)
        for language in LANGUAGES:
            told, rest = _told_side(tokens, language)
            found = self._index[language].nearest(_features(rest, language))
            if found is None:
                continue
            target, fact = found
            side = fact.side or told
            if target.paired and side is None and _speaks_of_sides(tokens, language):
                return None
            return Recollection(target, side if target.paired else None, fact.kind)
        return None

    @cached_property
    def _index(self) -> Mapping[Language, _LanguageIndex]:
        return {language: _LanguageIndex(self._facts, language) for language in LANGUAGES}


@computed_once
def all_facts() -> FactIndex:
    """Those of the vocabulary that comes with the package."""
    targets = vocabulary().targets.values()
    return FactIndex((target, fact) for target in targets for fact in target.facts)


class _LanguageIndex:
    """Facts of one language by their features."""

    def __init__(self, facts: Iterable[tuple[Target, Fact]], language: Language) -> None:
        told = [(target, fact) for target, fact in facts if language in fact.texts]
        self._facts = told
        self._least_shared = LEAST_SHARED_PAIRS if language in UNSPACED else 1
        found = [_features(plain_tokens(fact.texts[language]), language) for _, fact in told]
        self._frequency = Counter(feature for features in found for feature in features)
        self._holders: dict[str, list[int]] = defaultdict(list)
        self._said_of: dict[str, set[str]] = defaultdict(set)
        for number, features in enumerate(found):
            self._said_of[told[number][0].name] |= features
            for feature in features:
                self._holders[feature].append(number)
        self._norms = [self._norm(features) for features in found]

    def nearest(self, features: frozenset[str]) -> tuple[Target, Fact] | None:
        """The fact that shares most with a text, if it is near and leads before other targets'."""
        shared: dict[int, float] = defaultdict(float)
        for feature in features:
            for number in self._holders.get(feature, ()):
                shared[number] += self._weight(feature) ** 2
        norm = self._norm(features)
        ranked = sorted(
            ((weight / (norm * self._norms[number]), number) for number, weight in shared.items()),
            reverse=True,
        )
        if not ranked or ranked[0][0] < LEAST_SIMILARITY:
            return None
        similarity, best = ranked[0]
        target, fact = self._facts[best]
        if sum(best in self._holders.get(f, ()) for f in features) < self._least_shared:
            return None
        said = self._said_of[target.name]
        if any(self._frequency[f] >= FREQUENT and f not in said for f in features):
            return None
        others = (value for value, number in ranked if self._facts[number][0] is not target)
        if similarity - next(others, 0.0) < LEAST_LEAD:
            return None
        return target, fact

    def _norm(self, features: Iterable[str]) -> float:
        return math.sqrt(sum(self._weight(feature) ** 2 for feature in features)) or 1.0

    def _weight(self, feature: str) -> float:
        return math.log((len(self._facts) + 1) / (self._frequency.get(feature, 0) + 0.5))


def _features(tokens: Tokens, language: Language) -> frozenset[str]:
    """Words and their first letters; pairs of characters where there are no spaces.

    Of words that say the same the first stands for all.
    """
    letters = [token for token in tokens if token.isalnum()]
    if language in UNSPACED:
        return _features_unspaced("".join(letters), language)
    alike = first_alike(language)
    words = set(letters) - little_words(language)
    rest = {word for word in words if word not in alike}
    stems = {f"{word[:_STEM_LETTERS]}…" for word in rest if len(word) > _STEM_LETTERS}
    return frozenset({alike[word] for word in words - rest} | rest | stems)


def _features_unspaced(text: str, language: Language) -> frozenset[str]:
    said, alike = _phrases_to_replace(language), first_alike(language)
    merged = said.sub(lambda found: alike.get(found[0], " "), text)
    pairs = frozenset().union(*map(pairs_of, merged.split()))
    return frozenset(pair for pair in pairs if not _IS_GRAMMAR(pair))


@cache
def _phrases_to_replace(language: Language) -> re.Pattern[str]:
    """Those of a language without spaces that say little or have others alike."""
    little = {"".join(plain_tokens(text)) for text in vocabulary().forms[language].little}
    phrases = sorted(little - {""} | first_alike(language).keys(), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, phrases)))


def _told_side(tokens: Tokens, language: Language) -> tuple[Side | None, Tokens]:
    """The side that a text sets beside a fact, in the words of the language's form; the rest."""
    words = _words(tokens)
    for side in SIDES:
        form = vocabulary().forms[language].on_side[side]
        for said in filter(None, map(_words, map(plain_tokens, form.split("{fact}")))):
            for at in range(len(words) - len(said) + 1):
                if words[at : at + len(said)] == said:
                    return side, words[:at] + words[at + len(said) :]
    return None, words


def _words(tokens: Tokens) -> Tokens:
    return tuple(token for token in tokens if token.isalnum())


def _speaks_of_sides(tokens: Tokens, language: Language) -> bool:
    return any(word in tokens for word in _side_words(language))


@cache
def _side_words(language: Language) -> frozenset[str]:
    """Words that the forms of the two sides do not share."""
    left, right = (frozenset(_form_words(language, side)) for side in SIDES)
    return left ^ right


def _form_words(language: Language, side: Side) -> Iterator[str]:
    forms = vocabulary().forms[language]
    for form in (forms.on_side[side], *forms.beside[side]):
        yield from plain_tokens(form.format(fact="", name=""))
