# SPDX-License-Identifier: Apache-2.0
"""Questions about nothing that is known: other terms of medicine, other things, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from medreasoner_infer.language.dicom_terms import is_structure, other_term_in
from medreasoner_infer.language.grammar import LANGUAGES, Language
from medreasoner_infer.language.leads import general_words, lead_words
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.requests import frames_with_qualities
from medreasoner_infer.language.sides import side_words
from medreasoner_infer.language.spelling import Spellings
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Single,
    Token,
    Tokens,
    is_unspaced,
    plain_tokens,
)
from medreasoner_infer.language.words import (
    EVERYDAY,
    all_names,
    filler_words,
    known_pairs,
    known_words,
    likely_languages,
    medical_name_words,
    off_topic,
    pairs_of,
    request_pairs,
)

LEAST_KNOWN_SHARE = 0.34
"""Of the words of a question that no request holds; with fewer it is about something else."""
LEAST_KNOWN_PAIRS = 0.2
"""The same of pairs of characters, of which any text shares some."""
LEAST_WORDS = 2
"""That say something; one that is no name and leads to nothing describes nothing."""
SHORTEST_NEARLY_KNOWN = 6
"""Letters of a word that may be a misspelt word of medicine."""


_NO_ANSWERS = frozenset({EVERYDAY, "devices_and_procedures"})


def named_elsewhere(tokens: Sequence[Token], known: frozenset[str]) -> str | None:
    """The term that a text names beside words of requests, if none of its terms is known."""
    plain = tuple(token.plain for token in tokens)
    for language in likely_languages(plain):
        names = [*_names_in(plain, language)]
        if names and None not in names and known.isdisjoint(names):
            return names[0]
    return None


def structure_alone(tokens: Sequence[Token]) -> str | None:
    """The structure that an English text names and says nothing else of, if it is no target's name.

    Where facts tell of it, as of the veins of an organ, it is not what they are about.
    """
    plain = tuple(token.plain for token in tokens if token.plain[0].isalnum())
    if "en" not in likely_languages(plain):
        return None
    said = [at for at, word in enumerate(plain) if not is_filler(word, "en")]
    name = plain[said[0] : said[-1] + 1] if said else ()
    sides = frozenset().union(*side_words("en").values())
    while name and not is_structure(name):
        name = name[1:] if name[0] in sides else ()
    return " ".join(name) or None


def _names_in(tokens: Tokens, language: Language) -> Iterator[str | None]:
    """The names of a text, in English, and ``None`` for each word that is no request's."""
    names, frames, asides, at = (
        all_names(language), frames_with_qualities(language), _asides(language), 0
    )  # fmt: skip
    while at < len(tokens):
        name = names.longest_at(tokens, at)
        term = other_term_in(tokens, at) if language == "en" else ()
        filler = max(frames.fillers.longest_at(tokens, at), frames.joints.longest_at(tokens, at))
        if filler and len(filler) >= len(name):
            name = ()
        if len(term) > len(name or filler):
            yield " ".join(term)
        elif name:
            yield from map(_term_of, names.meanings[name].singles)
        elif not filler and tokens[at] not in asides:
            yield None
        at += max(map(len, (name or filler, term))) or 1


def _term_of(single: Single) -> str | None:
    """Its name, if it is a structure, a disease or a word of medicine; no device or thing."""
    outside = vocabulary().outside.get(single.name)
    return None if outside is not None and outside.group in _NO_ANSWERS else single.name


@cache
def _asides(language: Language) -> frozenset[str]:
    words = map(plain_tokens, vocabulary().forms[language].asides)
    return frozenset(word for said in words for word in said)


def is_strange(tokens: Sequence[Token]) -> bool:
    """Whether a question is about nothing that the vocabulary holds."""
    words = tuple(token.plain for token in tokens if token.plain[0].isalnum())
    if any(words in off_topic(language) for language in LANGUAGES):
        return True
    if any(map(is_unspaced, words)):
        unspaced = (language for language in LANGUAGES if language in UNSPACED)
        return all(_is_strange_unspaced(words, language) for language in unspaced)
    return all(_is_strange(words, language) for language in likely_languages(words))


def _is_strange(words: Tokens, language: Language) -> bool:
    sides = frozenset().union(*side_words(language).values())
    left = [word for word in words if not _is_general(word, language)]
    if len(left) < LEAST_WORDS:
        return sides.isdisjoint(words) and not any(_is_near_medicine(w, language) for w in left)
    return sum(_is_known(word, language) for word in left) <= LEAST_KNOWN_SHARE * len(left)


def _is_general(word: str, language: Language) -> bool:
    return word.isdigit() or word in general_words(language) or is_filler(word, language)


def is_filler(word: str, language: Language) -> bool:
    """Whether it is a word of requests, with an error of typing maybe."""
    if word in filler_words(language):
        return True
    return word not in known_words(language) and _spelt_fillers(language).hold(word)


def _is_known(word: str, language: Language) -> bool:
    if word in known_words(language) or any(_spelt_medicine(lang).have(word) for lang in LANGUAGES):
        return True
    return _is_near_medicine(word, language)


def _is_near_medicine(word: str, language: Language) -> bool:
    return len(word) >= SHORTEST_NEARLY_KNOWN and _spelt_medicine(language).hold(word)


def _is_strange_unspaced(words: Tokens, language: Language) -> bool:
    foreign = [word for word in words if not is_unspaced(word)]
    if any(_is_known(word, other) for word in foreign for other in LANGUAGES):
        return False
    pairs = pairs_of("".join(filter(is_unspaced, words))) - request_pairs(language)
    known = len(pairs & known_pairs(language))
    return known <= LEAST_KNOWN_PAIRS * len(pairs)


@cache
def _spelt_fillers(language: Language) -> Spellings:
    return Spellings(filler_words(language))


@cache
def _spelt_medicine(language: Language) -> Spellings:
    return Spellings(medical_name_words(language) | lead_words(language))
