# SPDX-License-Identifier: Apache-2.0
"""What a question asks for, as far as the vocabulary tells, without a model.

Of a question that names one thing nothing is left to be reasoned: ``Kannst du bitte die Lebr
markieren?`` asks for the liver. Nor of one that tells a fact of the vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Literal

from medreasoner_infer.language.grammar import LANGUAGES, Language, Side
from medreasoner_infer.language.lists import questions_of
from medreasoner_infer.language.pieces import Piece, pieces_of
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.recollection import FactIndex, all_facts
from medreasoner_infer.language.relations import placed
from medreasoner_infer.language.spelling import is_near, near_texts
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Single,
    Token,
    Tokens,
    is_unspaced,
    tokens_of,
)
from medreasoner_infer.language.vocabulary import FactKind
from medreasoner_infer.language.words import (
    all_names,
    filler_words,
    known_pairs,
    known_words,
    medical_name_words,
    name_words,
    names_as_texts,
    off_topic,
    pairs_of,
    request_frames,
    request_pairs,
)

LONGEST_QUESTION_TOKENS = 60
"""Words, or characters where there are no spaces; whoever writes more describes."""
LONGEST_NAME_TOKENS, LONGEST_FOREIGN_NAME = 7, 3
LEAST_KNOWN_SHARE = 0.2
"""Of the words of a question that no request holds; with fewer it is about something else."""

Read = Literal["known", "outside", "several", "unknown_words"]


@dataclass(frozen=True)
class Recognition:
    """What a question asks for.

    Attributes:
        read: one known target; one thing that is none; several at once; or nothing but words that
            the vocabulary holds nowhere.
        name: in English, with the patient's side, e.g. ``left kidney``; empty for the last two.
        by: the kind of fact that leads to it; ``None`` where it is called by a name.
    """

    read: Read
    name: str
    by: FactKind | None = None


@lru_cache(maxsize=64)  # an engine asks twice: whether to refuse, and what to ask
def recognised(
    text: str, known: frozenset[str], facts: FactIndex | None = None
) -> Recognition | None:
    """What a question asks for by a name or by a fact.

    Args:
        text: the question, in any of the languages, with typing errors.
        known: the vocabulary's names of the targets that are known, without a side.
        facts: to be recalled in the place of all facts and neighbours of the vocabulary.

    Returns:
        ``None`` wherever that isn't certain, so that the question has to be understood.
    """
    composed = unicodedata.normalize("NFC", text)
    tokens = tokens_of(composed)
    if len(tokens) > LONGEST_QUESTION_TOKENS:
        return None
    if len(questions_of(composed)) > 1:
        return Recognition("several", "")
    named = _named(tokens)
    if named is not None:
        return None if _is_ambiguous(named) else _recognition(named.name, named.side, known)
    by_place = placed(composed) if facts is None else None
    if by_place is not None:
        return _recognition(by_place[0].name, by_place[1], known, "place")
    recalled = (facts or all_facts()).recalled(composed)
    if recalled is not None:
        return _recognition(recalled.target.name, recalled.side, known, recalled.kind)
    return Recognition("unknown_words", "") if _is_strange(tokens) else None


def target_called(text: str) -> str:
    """The one target that a text calls by a name of any language, e.g. ``left kidney``.

    Returns:
        An empty text where it calls none so, or several.
    """
    found = recognised(text, frozenset(vocabulary().targets))
    is_called = found is not None and found.read == "known" and found.by is None
    return found.name if found is not None and is_called else ""


def _is_ambiguous(single: Single) -> bool:
    """Whether another target is called so, too: PV."""
    target = vocabulary().targets.get(single.name)
    return target is not None and single.bare in target.ambiguous


def _recognition(
    name: str, side: Side | None, known: frozenset[str], by: FactKind | None = None
) -> Recognition:
    if name not in known:
        return Recognition("outside", name, by)
    return Recognition("known", f"{side} {name}" if side else name, by)


def _named(tokens: tuple[Token, ...]) -> Single | None:
    """What a text names: exactly, misspelt, or in a sentence of another language."""
    exactly = (_named_exactly(tokens, language) for language in LANGUAGES)
    nearly = (_named_nearly(tokens, language, language) for language in LANGUAGES)
    mixed = (
        _named_nearly(tokens, language, of_names)
        for language in LANGUAGES
        if _may_hold_a_foreign_name(tokens, language)
        for of_names in LANGUAGES
        if of_names != language
    )
    return next((found for found in chain(exactly, nearly, mixed) if found is not None), None)


def _may_hold_a_foreign_name(tokens: tuple[Token, ...], language: Language) -> bool:
    other = [token.plain for token in tokens if not _is_filler(token.plain, language)]
    return len(other) <= LONGEST_FOREIGN_NAME and not known_words(language) & set(other)


def _named_exactly(tokens: tuple[Token, ...], language: Language) -> Single | None:
    pieces = pieces_of(tokens, all_names(language), request_frames(language)) or ()
    named = [piece for piece in pieces if piece.kind == "name"]
    if len(named) > 1:  # an abbreviation may be an article as well: LA
        named = [piece for piece in named if not _is_of_requests(piece, language)]
    if len(named) != 1 or len(named[0].singles) != 1:
        return None
    return named[0].singles[0]


def _is_of_requests(piece: Piece, language: Language) -> bool:
    return all((word,) in request_frames(language).fillers.meanings for word in piece.plain)


def _named_nearly(
    tokens: tuple[Token, ...], language: Language, of_names: Language
) -> Single | None:
    """The name that all words which are no request's are, but for errors of typing."""
    other = [at for at, token in enumerate(tokens) if not _is_filler(token.plain, language)]
    if UNSPACED & {language, of_names} or not other:
        return None
    best: dict[tuple[str, Side | None], tuple[float, Single]] = {}
    for window in _windows(tokens, other[0], other[-1] + 1):
        for errors, single in _near_names(tuple(t.plain for t in window), of_names):
            rated = errors - 0.1 * len(window)
            key = (single.name, single.side)
            if key not in best or rated < best[key][0]:
                best[key] = (rated, single)
    ranked = sorted(best.values(), key=lambda pair: pair[0])
    if not ranked or (len(ranked) > 1 and ranked[0][0] == ranked[1][0]):
        return None
    return ranked[0][1]


def _windows(tokens: Sequence[Token], first: int, last: int) -> Iterator[Sequence[Token]]:
    """All pieces that hold the tokens from ``first`` to before ``last``."""
    for start in range(first, -1, -1):
        for end in range(last, len(tokens) + 1):
            if end - start <= LONGEST_NAME_TOKENS:
                yield tokens[start:end]


def _near_names(said: Tokens, language: Language) -> Iterator[tuple[int, Single]]:
    names = names_as_texts(language)
    whole = " ".join(said)
    if whole in names:
        yield 0, names[whole]
    for text, errors in near_texts(whole, names.keys()):
        if _keeps_what_is_right(said, tuple(text.split()), language):
            yield errors, names[text]


def _keeps_what_is_right(said: Tokens, name: Tokens, language: Language) -> bool:
    """Whether no word that is one already was taken for another: a mask is no mass."""
    right = name_words(language) | filler_words(language)
    return not any(word in right and word not in name for word in said)


def _is_filler(word: str, language: Language) -> bool:
    fillers = filler_words(language)
    return word in fillers or (word not in known_words(language) and is_near(word, fillers))


def _is_strange(tokens: tuple[Token, ...]) -> bool:
    """Whether a question is about nothing that the vocabulary holds."""
    words = tuple(token.plain for token in tokens if token.plain[0].isalnum())
    if any(words in off_topic(language) for language in LANGUAGES):
        return True
    if any(map(is_unspaced, words)):
        unspaced = (language for language in LANGUAGES if language in UNSPACED)
        return all(_is_strange_unspaced(words, language) for language in unspaced)
    spaced = [language for language in LANGUAGES if language not in UNSPACED]
    left = {lang: [word for word in words if not _is_filler(word, lang)] for lang in spaced}
    fewest = min(len(strange) for strange in left.values())
    likely = [language for language in spaced if len(left[language]) == fewest]
    return not any(_knows(left[language], language) for language in likely)


def _is_strange_unspaced(words: Tokens, language: Language) -> bool:
    foreign = [word for word in words if not is_unspaced(word)]
    if any(_knows(foreign, other) for other in LANGUAGES if other not in UNSPACED):
        return False
    pairs = pairs_of("".join(filter(is_unspaced, words))) - request_pairs(language)
    known = len(pairs & known_pairs(language))
    return known <= LEAST_KNOWN_SHARE * len(pairs)


def _knows(words: Sequence[str], language: Language) -> bool:
    if any(is_near(word, medical_name_words(other)) for word in words for other in LANGUAGES):
        return True
    known = sum(word in known_words(language) for word in words)
    return known > LEAST_KNOWN_SHARE * len(words)
