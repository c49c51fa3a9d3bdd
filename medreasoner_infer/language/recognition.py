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

from medreasoner_infer.language.apart import set_apart
from medreasoner_infer.language.asked_among import (
    other_mentioned,
    speaks_of_things,
    target_mentioned,
)
from medreasoner_infer.language.clues import Clued, clued
from medreasoner_infer.language.grammar import LANGUAGES, Language, Side
from medreasoner_infer.language.leads import leads_elsewhere, led_to
from medreasoner_infer.language.lists import questions_of
from medreasoner_infer.language.near_names import near_names
from medreasoner_infer.language.plain import simplified
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.recollection import FactIndex, all_facts
from medreasoner_infer.language.relations import placed
from medreasoner_infer.language.requests import (
    frames_with_qualities,
    named_beside_unknown,
    only_named,
    requested,
)
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Single,
    Token,
    spoken_names,
    tokens_of,
)
from medreasoner_infer.language.strange import (
    is_filler,
    is_strange,
    named_elsewhere,
    names_a_structure,
    other_term_of,
    structure_alone,
)
from medreasoner_infer.language.vocabulary import FactKind
from medreasoner_infer.language.words import (
    DISEASES,
    known_words,
    likely_languages,
    request_frames,
)

LONGEST_QUESTION_TOKENS = 60
"""Words, or characters where there are no spaces; whoever writes more describes."""
LONGEST_NAME_TOKENS, LONGEST_FOREIGN_NAME = 7, 3
LONGEST_SHORTHAND = 4
"""Words of a question with such an abbreviation; in a longer one it may stand for anything."""

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
    simple = simplified(composed)
    if simple == composed:
        return _read(composed, known, facts)
    told = _told(composed, known, facts)  # Japanese may have no kana
    if told is not None and told.read != "unknown_words":
        return told
    found = _read(simple, known, facts)
    return found if found is not None and found.read == "known" else _read(composed, known, facts)


def _read(composed: str, known: frozenset[str], facts: FactIndex | None) -> Recognition | None:
    """What a text tells, or else what it names among whatever other words."""
    plain = tuple(token.plain for token in tokens_of(composed))
    if any(speaks_of_things(plain, language) for language in likely_languages(plain)):
        return Recognition("unknown_words", "")
    told = _told(composed, known, facts)
    if facts is not None or (told is not None and told.read in ("known", "several")):
        return told
    target = None if structure_alone(tokens_of(composed)) else target_mentioned(composed)
    if target is not None:
        return _recognition(target.name, target.side, known)
    other = "" if told is not None else other_mentioned(composed)
    if other:
        return Recognition("outside", other)
    apart = set_apart(composed)
    return Recognition("several", "") if told is None and apart and apart.leaves_out else told


def _told(composed: str, known: frozenset[str], facts: FactIndex | None) -> Recognition | None:
    tokens, apart = tokens_of(composed), set_apart(composed)
    if len(questions_of(composed)) > 1 or (apart is not None and apart.is_all):
        return Recognition("several", "")
    is_long = len(tokens) > LONGEST_QUESTION_TOKENS
    named = None if is_long or apart is None else _target_named(apart.rest)
    named = named or (None if is_long else _named(tokens) or _named_briefly(tokens))
    named = named or requested(composed)
    if named is None:
        return None if is_long else _described(composed, tokens, known, facts)
    by_disease = _diseased(named, composed, known) if facts is None else None
    if by_disease is not None or _is_ambiguous(named):
        return by_disease
    return _recognition(named.name, named.side, known)


def _described(
    composed: str, tokens: tuple[Token, ...], known: frozenset[str], facts: FactIndex | None
) -> Recognition | None:
    structure = structure_alone(tokens)
    if structure is not None:
        return Recognition("outside", structure)
    named = _named_beside(tokens)
    if named is not None:
        return None if _is_ambiguous(named) else _recognition(named.name, named.side, known)
    by_place = placed(composed) if facts is None else None
    if by_place is not None:
        return _recognition(by_place[0].name, by_place[1], known, "place")
    recalled = (facts or all_facts()).recalled(composed)
    by_clue = clued(composed) if facts is None else None
    if by_clue is not None and by_clue.words == 1 and _says_more(by_clue.name, composed, tokens):
        return None
    if recalled is not None and by_clue is not None and recalled.target.name != by_clue.name:
        return Recognition("outside", by_clue.name, by_clue.kind) if _is_none(by_clue) else None
    if recalled is not None:
        return _recognition(recalled.target.name, recalled.side, known, recalled.kind)
    if by_clue is not None:
        return _recognition(by_clue.name, by_clue.side, known, by_clue.kind)
    led = led_to(composed) if facts is None else None
    if led is not None:
        return _recognition(led[0].target, led[1], known, led[0].kind)
    elsewhere = named_elsewhere(tokens, known) or other_term_of(tokens, known)
    if elsewhere is not None:
        return Recognition("outside", elsewhere)
    return Recognition("unknown_words", "") if is_strange(tokens) else None


def _is_none(by_clue: Clued) -> bool:
    """Whether a clue of several words leads to what is no target."""
    return by_clue.name in vocabulary().outside and by_clue.words > 1


def _says_more(name: str, composed: str, tokens: tuple[Token, ...]) -> bool:
    """Whether a text that one word leads to ``name`` speaks of other things as well."""
    return names_a_structure(tokens, name) or leads_elsewhere(composed, name)


def _diseased(named: Single, composed: str, known: frozenset[str]) -> Recognition | None:
    """The target that a disease leads to, though the disease has a name of its own, too."""
    term = vocabulary().outside.get(named.name)
    if term is None or term.group != DISEASES:
        return None
    led = led_to(composed)
    if led is not None and led[0].kind == "disease":
        return _recognition(led[0].target, led[1], known, led[0].kind)
    by_clue = clued(composed)
    if by_clue is None or by_clue.kind != "disease" or by_clue.name not in known:
        return None
    return _recognition(by_clue.name, by_clue.side, known, by_clue.kind)


def target_called(text: str) -> str:
    """The one target that a text calls by a name of any language, e.g. ``left kidney``.

    Returns:
        An empty text where it calls none so, or several.
    """
    found = recognised(text, frozenset(vocabulary().targets))
    is_called = found is not None and found.read == "known" and found.by is None
    return found.name if found is not None and is_called else ""


def first_called(text: str) -> str:
    """The first target that an English text calls by a name, e.g. ``left kidney``; else empty."""
    plain, names = tuple(token.plain for token in tokens_of(text)), spoken_names("en")
    phrases = (names.longest_at(plain, at) for at in range(len(plain)))
    singles = (names.meanings[phrase].singles[0] for phrase in phrases if phrase)
    found = next((each for each in singles if each.name in vocabulary().targets), None)
    if found is None:
        return ""
    return f"{found.side} {found.name}" if found.side else found.name


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
    frames = ((lang, request_frames(lang)) for lang in LANGUAGES)
    looser = ((lang, frames_with_qualities(lang)) for lang in LANGUAGES)
    exactly = (only_named(tokens, lang, around) for lang, around in chain(frames, looser))
    nearly = (_named_nearly(tokens, language, language) for language in LANGUAGES)
    mixed = (
        _named_nearly(tokens, language, of_names)
        for language in LANGUAGES
        if _may_hold_a_foreign_name(tokens, language)
        for of_names in LANGUAGES
        if of_names != language
    )
    return next((found for found in chain(exactly, nearly, mixed) if found is not None), None)


def _target_named(tokens: tuple[Token, ...]) -> Single | None:
    """The target that the words of a text name which set nothing apart."""
    single = _named(tokens)
    return single if single is not None and single.name in vocabulary().targets else None


def _named_briefly(tokens: tuple[Token, ...]) -> Single | None:
    """What a short question names by an abbreviation that tells a side, too: LK."""
    shorthand = vocabulary().forms["en"].shorthand
    if len(tokens) > LONGEST_SHORTHAND or not any(token.plain in shorthand for token in tokens):
        return None
    return _named(tokens_of(" ".join(shorthand.get(t.plain, t.plain) for t in tokens)))


def _named_beside(tokens: tuple[Token, ...]) -> Single | None:
    """What a text names beside words that nothing is known of, in its own language."""
    spaced = (lang for lang in likely_languages(tuple(t.plain for t in tokens)))
    found = (named_beside_unknown(tokens, lang) for lang in spaced if lang not in UNSPACED)
    return next((single for single in found if single is not None), None)


def _may_hold_a_foreign_name(tokens: tuple[Token, ...], language: Language) -> bool:
    other = [token.plain for token in tokens if not is_filler(token.plain, language)]
    return len(other) <= LONGEST_FOREIGN_NAME and not known_words(language) & set(other)


def _named_nearly(
    tokens: tuple[Token, ...], language: Language, of_names: Language
) -> Single | None:
    """The name that all words which are no request's are, but for errors of typing."""
    other = [at for at, token in enumerate(tokens) if not is_filler(token.plain, language)]
    if UNSPACED & {language, of_names} or not other:
        return None
    best: dict[tuple[str, Side | None], tuple[float, Single]] = {}
    for window in _windows(tokens, other[0], other[-1] + 1):
        for errors, _, single in near_names(tuple(t.plain for t in window), of_names):
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
