# SPDX-License-Identifier: Apache-2.0
"""The words of a language: of names, of requests, and of all that is said of targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

from medreasoner_infer.language.grammar import LANGUAGES, SIDES, Language
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Frames,
    Phrases,
    Single,
    Spoken,
    Tokens,
    frames_of,
    is_unspaced,
    plain_tokens,
    spoken_names,
)

_ARTICLES = frozenset({"der", "die", "das", "den", "dem"})
"""Of German, whose adjectives show them where they are left out: *linken Vorhof zeigen*."""
EVERYDAY = "everyday"
"""Group of the terms that are not medical."""
ORGANS, DISEASES = "organs", "diseases"
"""Groups of the terms that are structures of the body, and diseases or symptoms."""


@cache
def all_names(language: Language) -> Phrases[Spoken]:
    """Names and the adjectives that stand for them: ``hepatic``."""
    found = dict(spoken_names(language).meanings)
    for target in vocabulary().targets.values():
        for adjective in target.adjectives.get(language, ()):
            single = Single(target.name, None, adjective, adjective)
            found.setdefault(plain_tokens(adjective), Spoken((single,), "bare"))
            if language == "en" and target.paired:
                for side in SIDES:
                    sided = replace(single, side=side)
                    found.setdefault((side, *plain_tokens(adjective)), Spoken((sided,), "bare"))
    if language == "de":
        for tokens, spoken in [*found.items()]:
            if tokens[0] in _ARTICLES and len(tokens) > 1:
                found.setdefault(tokens[1:], spoken)
    return Phrases(found)


@cache
def names_as_texts(language: Language) -> Mapping[str, Single]:
    """The names of one target each, by their plain text."""
    said = all_names(language).meanings.items()
    return {" ".join(t): spoken.singles[0] for t, spoken in said if len(spoken.singles) == 1}


@cache
def request_frames(language: Language) -> Frames:
    """The frames of a language, with all words of requests that say nothing of a target."""
    forms, frames = vocabulary().forms[language], frames_of(language)
    more = {plain_tokens(text) for text in forms.words}
    ends = {plain_tokens(piece) for form in forms.adjectival for piece in form.split("{adjective}")}
    fillers = {**frames.fillers.meanings, **dict.fromkeys((more | ends) - {()})}
    return replace(frames, fillers=Phrases(fillers))


@cache
def filler_words(language: Language) -> frozenset[str]:
    """Single words of requests."""
    fillers = request_frames(language).fillers.meanings
    return frozenset(tokens[0] for tokens in fillers if len(tokens) == 1)


@cache
def description_words(language: Language) -> frozenset[str]:
    """Words of requests and of the forms of descriptions, which say nothing of a target either."""
    forms = vocabulary().forms[language]
    slots = dict.fromkeys(("first", "second", "fact", "head", "clause"), " ")
    texts = [form.format(**slots) for form in (forms.neighbour, *forms.descriptions)]
    return filler_words(language).union(*map(plain_tokens, texts))


@cache
def little_words(language: Language) -> frozenset[str]:
    """Words of descriptions that say little of what is told, beside those of requests."""
    said = map(plain_tokens, vocabulary().forms[language].little)
    return frozenset(tokens[0] for tokens in said if len(tokens) == 1) | description_words(language)


@cache
def first_alike(language: Language) -> Mapping[str, str]:
    """For a word of a description the first of the group of words that say the same."""
    groups = vocabulary().forms[language].alike
    plain = (["".join(plain_tokens(word)) for word in group] for group in groups)
    return {word: group[0] for group in plain for word in group}


@cache
def name_words(language: Language) -> frozenset[str]:
    """Words of names that no request holds."""
    words = {word for tokens in all_names(language).meanings for word in tokens}
    return frozenset(words) - filler_words(language)


@cache
def medical_name_words(language: Language) -> frozenset[str]:
    """Words of names, but for those of everyday things."""
    words = {word for tokens in _medical_names(language) for word in tokens}
    return frozenset(words) - filler_words(language)


def _medical_names(language: Language) -> Iterator[Tokens]:
    outside = vocabulary().outside
    for tokens, spoken in all_names(language).meanings.items():
        terms = (outside.get(single.name) for single in spoken.singles)
        if not any(term is not None and term.group == EVERYDAY for term in terms):
            yield tokens


def pairs_of(text: str) -> frozenset[str]:
    """Pairs of neighbouring characters, which take the place of words where there are no spaces."""
    return frozenset(text[at : at + 2] for at in range(len(text) - 1))


@cache
def request_pairs(language: Language) -> frozenset[str]:
    """Pairs of characters of requests and of the forms of descriptions."""
    phrases = request_frames(language).fillers.meanings
    texts = ["".join(tokens) for tokens in phrases]
    for form in vocabulary().forms[language].descriptions:
        texts += ["".join(plain_tokens(piece)) for piece in form.split("{fact}")]
    return frozenset().union(*map(pairs_of, texts))


@cache
def known_pairs(language: Language) -> frozenset[str]:
    """Pairs of characters of medical names and of facts."""
    facts = (f for target in vocabulary().targets.values() for f in target.facts)
    texts = ["".join(plain_tokens(fact.texts.get(language, ""))) for fact in facts]
    texts += ["".join(tokens) for tokens in _medical_names(language)]
    return frozenset().union(*map(pairs_of, texts))


@cache
def off_topic(language: Language) -> frozenset[Tokens]:
    """Sentences that are not about medicine at all, as words."""
    sentences = map(plain_tokens, vocabulary().forms[language].off_topic)
    return frozenset(tuple(t for t in tokens if t.isalnum()) for tokens in sentences)


@cache
def known_words(language: Language) -> frozenset[str]:
    """Words of medical names, facts and relations that no request holds."""
    forms, targets = vocabulary().forms[language], vocabulary().targets.values()
    facts = [fact.texts.get(language, "") for target in targets for fact in target.facts]
    texts = [*facts, *forms.where.values(), *forms.descriptions]
    words = {word for text in texts for word in plain_tokens(text)}
    return frozenset(words | medical_name_words(language)) - filler_words(language)


def likely_languages(tokens: Tokens) -> Iterator[Language]:
    """Those of which a text holds most words or one less; of languages without spaces both."""
    words = [token for token in tokens if token.isalnum()]
    if any(map(is_unspaced, words)):
        yield from (language for language in LANGUAGES if language in UNSPACED)
        return
    spaced = [language for language in LANGUAGES if language not in UNSPACED]
    known = {lang: sum(word in all_words(lang) for word in words) for lang in spaced}
    likely = (language for language in spaced if known[language] >= max(known.values()) - 1)
    yield from sorted(likely, key=lambda language: -known[language])


@cache
def all_words(language: Language) -> frozenset[str]:
    """Words of medical names, facts, relations and requests."""
    return known_words(language) | description_words(language) | little_words(language)
