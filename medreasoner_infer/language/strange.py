# SPDX-License-Identifier: Apache-2.0
"""Questions about nothing that is known: other terms of medicine, other things, or nothing."""

from __future__ import annotations

from collections import Counter
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
from medreasoner_infer.language.vocabulary import Outside
from medreasoner_infer.language.words import (
    DISEASES,
    EVERYDAY,
    ORGANS,
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
MOST_TERMS_OF_A_WORD = 3
"""Outside terms that share a word; one of more is general: *muscle*, *syndrome*."""
_MEDICAL = frozenset({ORGANS, DISEASES, "words"})
_MEDICAL_ENDINGS = (
    "itis",
    "ectomy",
    "oscopy",
    "ostomy",
    "plasty",
    "algia",
    "opathy",
    "sarcoma",
    "ektomie",
    "oskopie",
    "plastik",
    "algie",
    "opathie",
    "sarkom",
    "ectomie",
    "oscopie",
    "plastie",
    "sarcome",
    "ectomia",
    "oscopia",
    "plastia",
    "opatia",
)
"""Of words of medicine in languages with spaces; those of targets stand in the tables."""
LEAST_WORDS = 2
"""That say something; one that is no name and leads to nothing describes nothing."""
SHORTEST_NEARLY_KNOWN = 6
"""Letters of a word that may be a misspelt word of medicine."""


_NO_ANSWERS = frozenset({EVERYDAY})
_NO_ORGANS = frozenset({"devices_and_procedures"})


def named_elsewhere(tokens: Sequence[Token], known: frozenset[str]) -> str | None:
    """The term that a text names beside words of requests, if none of its terms is known."""
    plain = tuple(token.plain for token in tokens)
    for language in likely_languages(plain):
        names = [*_names_in(plain, language)]
        if names and None not in names and known.isdisjoint(names):
            return names[0]
    return None


def names_a_structure(tokens: Sequence[Token], but: str) -> bool:
    """Whether a text names a structure of the body that is none of the targets, and not ``but``."""
    return any(term.group == ORGANS and term.name != but for term in _terms_in(tokens))


def other_term_of(tokens: Sequence[Token], known: frozenset[str]) -> str | None:
    """The first term that a text names among whatever words, if it holds no word of a target.

    ``nerve that is trapped in carpal tunnel syndrome`` asks for nothing that is known.
    """
    plain = tuple(token.plain for token in tokens)
    languages = (*likely_languages(plain),)
    if any(tells_kind(plain, language) for language in languages):
        return None
    if any(_speaks_of_targets(plain, language, known) for language in languages):
        return None
    found = next((t.name for t in _terms_in(tokens) if t.group != EVERYDAY), None)
    words = (word for word in plain for language in languages if _is_of_terms(word, language))
    return found or next(words, None)


def _is_of_terms(word: str, language: Language) -> bool:
    """Whether a word is of names that are no target's, or ends as words of medicine do."""
    if language in UNSPACED or len(word) < SHORTEST_NEARLY_KNOWN:
        return False
    if word in general_words(language) or word in lead_words(language):
        return False
    return word in _words_of_terms(language) or word.endswith(_MEDICAL_ENDINGS)


@cache
def _words_of_terms(language: Language) -> frozenset[str]:
    """Words of few terms each, which are medical and tell that one of these is meant."""
    counts: Counter[str] = Counter()
    for term in vocabulary().outside.values():
        if term.group in _MEDICAL and language in term.names:
            counts.update({*plain_tokens(term.names[language].spelt)})
    return frozenset(word for word, n in counts.items() if n <= MOST_TERMS_OF_A_WORD)


def tells_kind(tokens: Tokens, language: Language) -> bool:
    """Whether a text says what kind of thing is meant, so that its terms but lead to that."""
    kinds = vocabulary().forms[language].kinds
    said = "".join(tokens) if language in UNSPACED else tokens
    return any("".join(plain_tokens(kind)) in said for kind in kinds)


def _terms_in(tokens: Sequence[Token]) -> Iterator[Outside]:
    plain = tuple(token.plain for token in tokens)
    for language in likely_languages(plain):
        names, at = all_names(language), 0
        while at < len(plain):
            name = names.longest_at(plain, at)
            for single in names.meanings[name].singles if name else ():
                term = vocabulary().outside.get(single.name)
                if term is not None and not (language not in UNSPACED and len(name[0]) < 3):
                    yield term
            at += len(name) or 1


def _speaks_of_targets(tokens: Tokens, language: Language, known: frozenset[str]) -> bool:
    """Whether a text holds a word of a known target's names or of what leads to one."""
    if language in UNSPACED:
        said = "".join(tokens)
        return any(text in said for text in _texts_of_targets(language, known))
    words = _words_of_targets(language, known)
    return any(token in words for token in tokens)


@cache
def _words_of_targets(language: Language, known: frozenset[str]) -> frozenset[str]:
    said = (word for name in _names_of_targets(language, known) for word in name)
    return (frozenset(said) | lead_words(language)) - general_words(language)


@cache
def _texts_of_targets(language: Language, known: frozenset[str]) -> frozenset[str]:
    return frozenset("".join(said) for said in _names_of_targets(language, known))


def _names_of_targets(language: Language, known: frozenset[str]) -> Iterator[Tokens]:
    for said, spoken in all_names(language).meanings.items():
        if any(single.name in known for single in spoken.singles):
            yield said


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
    no_answers = _NO_ANSWERS | (_NO_ORGANS if tells_kind(tokens, language) else frozenset())
    while at < len(tokens):
        name = names.longest_at(tokens, at)
        term = other_term_in(tokens, at) if language == "en" else ()
        filler = max(frames.fillers.longest_at(tokens, at), frames.joints.longest_at(tokens, at))
        if filler and len(filler) >= len(name):
            name = ()
        if len(term) > len(name or filler):
            yield " ".join(term)
        elif name:
            singles = names.meanings[name].singles
            yield from (_term_of(single, no_answers) for single in singles)
        elif not filler and tokens[at] not in asides:
            yield None
        at += max(map(len, (name or filler, term))) or 1


def _term_of(single: Single, no_answers: frozenset[str]) -> str | None:
    """Its name, unless it is of a group that answers nothing."""
    outside = vocabulary().outside.get(single.name)
    return None if outside is not None and outside.group in no_answers else single.name


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
    if tells_kind(words, language):
        return not left and sides.isdisjoint(words)
    if not any(_is_medical(word, language) for word in left):
        return sides.isdisjoint(words)
    if len(left) < LEAST_WORDS:
        return sides.isdisjoint(words) and not any(_is_near_medicine(w, language) for w in left)
    return sum(_is_known(word, language) for word in left) <= LEAST_KNOWN_SHARE * len(left)


def _is_medical(word: str, language: Language) -> bool:
    """Whether a word is of a medical name or leads to a target, with an error of typing maybe."""
    return _spelt_medicine(language).have(word) or _is_near_medicine(word, language)


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
