# SPDX-License-Identifier: Apache-2.0
"""The words of a language: of names, of requests, and of all that is said of targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from medreasoner_infer.language.grammar import Language
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import (
    Frames,
    Phrases,
    Single,
    Spoken,
    frames_of,
    plain_tokens,
    spoken_names,
)


@cache
def all_names(language: Language) -> Phrases[Spoken]:
    """Names and the adjectives that stand for them: ``hepatic``."""
    found = dict(spoken_names(language).meanings)
    for target in vocabulary().targets.values():
        for adjective in target.adjectives.get(language, ()):
            single = Single(target.name, None, adjective, adjective)
            found.setdefault(plain_tokens(adjective), Spoken((single,), "bare"))
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
    fillers = frames.fillers.meanings | dict.fromkeys((more | ends) - {()})
    return replace(frames, fillers=Phrases(fillers))


@cache
def filler_words(language: Language) -> frozenset[str]:
    """Single words of requests."""
    fillers = request_frames(language).fillers.meanings
    return frozenset(tokens[0] for tokens in fillers if len(tokens) == 1)


@cache
def name_words(language: Language) -> frozenset[str]:
    """Words of names that no request holds."""
    words = {word for tokens in all_names(language).meanings for word in tokens}
    return frozenset(words) - filler_words(language)


@cache
def known_words(language: Language) -> frozenset[str]:
    """Words of names, facts and relations that no request holds."""
    forms, targets = vocabulary().forms[language], vocabulary().targets.values()
    facts = [fact.texts.get(language, "") for target in targets for fact in target.facts]
    texts = [*facts, *forms.where.values(), *forms.descriptions]
    words = {word for text in texts for word in plain_tokens(text)}
    return frozenset(words | name_words(language)) - filler_words(language)
