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
from medreasoner_infer.language.leads import lead_words
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import UNSPACED, Tokens, plain_tokens
from medreasoner_infer.language.vocabulary import Fact, FactKind, Target
from medreasoner_infer.language.words import (
    first_alike,
    likely_languages,
    little_words,
    medical_name_words,
    pairs_of,
)
from medreasoner_infer.once import computed_once

LEAST_SIMILARITY = 0.55
LEAST_LEAD = 0.15
"""Of the best target before the next one, as similarity."""
UNTOLD_WEIGHT, UNTOLD_NAME_WEIGHT = 4.0, 8.0
"""Of a word that no fact holds: a figure tells little either way, the name of something speaks
against all facts."""
LEAST_SHARED_PAIRS = 3
"""Of characters, where there are no spaces; fewer may stand in anything."""
_STEM_LETTERS, _STEM_MARK = 5, "…"
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
        for language in likely_languages(tokens):
            told, rest = _told_side(tokens, language)
            features, kinds = _features(rest, language), _kinds(rest, language)
            near = self._index[language].near(features, kinds)
            if not near:
                continue
            if len(near) > 1:
                return None
            ((target, fact),) = near
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
        self._facts, self._language = told, language
        plain = [plain_tokens(fact.texts[language]) for _, fact in told]
        found = [_features(tokens, language) for tokens in plain]
        self._frequency = Counter(feature for features in found for feature in features)
        self._holders: dict[str, list[int]] = defaultdict(list)
        self._said_of: dict[str, set[str]] = defaultdict(set)
        for number, features in enumerate(found):
            self._said_of[told[number][0].name] |= features | _kinds(plain[number], language)
            for feature in features:
                self._holders[feature].append(number)
        self._norms = [self._norm(features) for features in found]

    def near(
        self, features: frozenset[str], kinds: frozenset[str] = frozenset()
    ) -> list[tuple[Target, Fact]]:
        """The fact that shares most with a text, if it is near; others' that are hardly less so.

        Args:
            features: of the text.
            kinds: what kinds of things it asks for; of other kinds none is meant.
        """
        similar = self._similar(features)
        ranked = [(value, at) for value, at in similar if kinds <= self._said_of[self._name(at)]]
        if not ranked or ranked[0][0] < LEAST_SIMILARITY:
            return []
        similarity, best = ranked[0]
        shared = frozenset(f for f in features if best in self._holders.get(f, ()))
        if not self._is_enough(shared, kinds):
            return []
        close = [at for value, at in ranked if similarity - value < LEAST_LEAD]
        others = (self._facts[at] for at in close if self._name(at) != self._name(best))
        return [self._facts[best], *others]

    def _is_enough(self, shared: frozenset[str], kinds: frozenset[str]) -> bool:
        """Whether what a text shares with a fact is more than the one word of a term."""
        if self._language in UNSPACED:
            return len(shared) >= LEAST_SHARED_PAIRS
        words = {f for f in shared if not f.endswith(_STEM_MARK)}
        stems = {f.rstrip(_STEM_MARK) for f in shared - words}
        alone = {stem for stem in stems if not any(word.startswith(stem) for word in words)}
        return bool(kinds) or len(words) + len(alone) > 1

    def _similar(self, features: frozenset[str]) -> list[tuple[float, int]]:
        """Similarity and number of each fact that shares a feature, the most similar first."""
        shared: dict[int, float] = defaultdict(float)
        for feature in features:
            for number in self._holders.get(feature, ()):
                shared[number] += self._weight(feature) ** 2
        norm = self._norm(features)
        rated = ((weight / (norm * self._norms[at]), at) for at, weight in shared.items())
        return sorted(rated, reverse=True)

    def _name(self, number: int) -> str:
        return self._facts[number][0].name

    def _norm(self, features: Iterable[str]) -> float:
        return math.sqrt(sum(self._weight(feature) ** 2 for feature in features)) or 1.0

    def _weight(self, feature: str) -> float:
        if feature in self._frequency or self._language in UNSPACED:
            return math.log((len(self._facts) + 1) / (self._frequency[feature] + 0.5))
        names = medical_name_words(self._language) | lead_words(self._language)
        return UNTOLD_NAME_WEIGHT if feature in names else UNTOLD_WEIGHT


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
    stems = {f"{word[:_STEM_LETTERS]}{_STEM_MARK}" for word in rest if len(word) > _STEM_LETTERS}
    return frozenset({alike[word] for word in words - rest} | rest | stems)


def _kinds(tokens: Tokens, language: Language) -> frozenset[str]:
    """The words of a text that tell which kind of thing is meant, such as *organ*."""
    said = "".join(tokens) if language in UNSPACED else tokens
    return frozenset(kind for kind in _kind_words(language) if kind in said)


@cache
def _kind_words(language: Language) -> frozenset[str]:
    return frozenset("".join(plain_tokens(word)) for word in vocabulary().forms[language].kinds)


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
