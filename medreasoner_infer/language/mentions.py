# SPDX-License-Identifier: Apache-2.0
"""The names that a text holds among whatever other words, exact or misspelt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from medreasoner_infer.language.apart import set_apart
from medreasoner_infer.language.grammar import Language
from medreasoner_infer.language.near_names import near_names
from medreasoner_infer.language.plain import has_kana
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.relations import relations_in
from medreasoner_infer.language.requests import frames_with_qualities
from medreasoner_infer.language.spelling import is_slip
from medreasoner_infer.language.spoken import UNSPACED, Single, Token, Tokens, plain_tokens
from medreasoner_infer.language.words import all_names, known_words, likely_languages

SHORTEST_ABBREVIATION = 2
LONGEST_MISSPELT_TOKENS = 4
_PROJECTION = "pa"
"""Of a radiograph, more often than the pulmonary artery."""


@dataclass(frozen=True)
class Mention:
    """A name in a text, or what may be meant for one: tokens from ``start`` to before ``end``."""

    singles: tuple[Single, ...]
    start: int
    end: int
    exact: bool = True

    @property
    def target(self) -> bool:
        """Whether it is a target's."""
        return all(single.name in vocabulary().targets for single in self.singles)

    @property
    def group(self) -> str:
        """Group of what is named."""
        name = self.singles[0].name
        known, outside = vocabulary().targets.get(name), vocabulary().outside.get(name)
        return known.group if known else outside.group if outside else ""


def languages_of(plain: Tokens) -> Iterator[Language]:
    """Those that a text may be of; with kana it is Japanese."""
    if any(map(has_kana, plain)):
        yield "ja"
    else:
        yield from likely_languages(plain)


def mentions_in(text: str, tokens: tuple[Token, ...], language: Language) -> list[Mention]:
    """The names in a text that do not only tell where something else is, and misspelt ones."""
    apart = set_apart(text)
    asked = set(apart.rest) if apart is not None else set(tokens)
    plain = tuple(token.plain for token in tokens)
    for relation in relations_in(plain, language):
        asked -= set(tokens[relation.start : relation.end])
    exact = [
        mention
        for mention in _exact(text, tokens, language)
        if all(token in asked for token in tokens[mention.start : mention.end])
    ]
    whole = [m for m in exact if sum(map(len, plain[m.start : m.end])) > SHORTEST_ABBREVIATION]
    if language not in UNSPACED and any(mention.target for mention in whole):
        exact = whole
    if language in UNSPACED:
        return exact
    slip = _misspelt(tokens, exact, language)
    if slip is None:
        return exact
    within = range(slip.start, slip.end)
    kept = [m for m in exact if m.start not in within and m.end - 1 not in within]
    return sorted([*kept, slip], key=lambda each: each.start)


def _exact(text: str, tokens: tuple[Token, ...], language: Language) -> Iterator[Mention]:
    plain, names, at = tuple(token.plain for token in tokens), all_names(language), 0
    while at < len(plain):
        name, said = names.longest_at(plain, at), names
        if not name and language in UNSPACED and plain[at].isascii():  # IVC
            said = all_names("en")
            name = said.longest_at(plain[: at + 1], at)
        end = at + len(name)
        if name and _is_name(text, tokens[at:end], language):
            yield Mention(said.meanings[name].singles, at, end)
        at = end if name else at + 1


def _is_name(text: str, tokens: tuple[Token, ...], language: Language) -> bool:
    """Whether words are a name here: no adjective, no word of requests, abbreviations as such."""
    plain = tuple(token.plain for token in tokens)
    word = text[tokens[0].start : tokens[-1].end]
    if len(tokens) == 1 and word.isascii() and len(word) <= SHORTEST_ABBREVIATION + 1:
        is_short = len(word) < SHORTEST_ABBREVIATION or plain[0] == _PROJECTION
        return word.isupper() and not is_short and not text.isupper()
    return plain not in _adjectives(language) and not all(is_said(w, language) for w in plain)


@cache
def _adjectives(language: Language) -> frozenset[Tokens]:
    return frozenset(
        plain_tokens(adjective)
        for target in vocabulary().targets.values()
        for adjective in target.adjectives.get(language, ())
    )


def _misspelt(
    tokens: tuple[Token, ...], exact: Sequence[Mention], language: Language
) -> Mention | None:
    """The name that some words nearly are, an exact one and a word beside it maybe."""
    plain = tuple(token.plain for token in tokens)
    named = {at for mention in exact for at in range(mention.start, mention.end)}
    unknown = [
        at not in named and word.isalpha() and not _is_right(word, language)
        for at, word in enumerate(plain)
    ]
    has_target = any(mention.target for mention in exact)
    best: dict[tuple[str, str | None], tuple[float, Mention]] = {}
    for start in range(len(plain)):
        for end in range(start + 1, min(len(plain), start + LONGEST_MISSPELT_TOKENS) + 1):
            longer = any(start <= m.start and m.end <= end for m in exact if m.target)
            if not any(unknown[start:end]) or (has_target and not longer):
                continue
            for rated, single in _slips(plain[start:end], language):
                key = (single.name, single.side)
                if key not in best or rated < best[key][0]:
                    best[key] = (rated, Mention((single,), start, end, exact=False))
    ranked = sorted(best.values(), key=lambda pair: pair[0])
    alone = ranked and (len(ranked) == 1 or ranked[0][0] < ranked[1][0])
    return ranked[0][1] if alone else None


def _slips(said: Tokens, language: Language) -> Iterator[tuple[float, Single]]:
    """Names that words are but for a slip, with errors and fewer for longer names."""
    for errors, text, single in near_names(said, language):
        words = text.split()
        if len(words) == len(said) and all(map(is_slip, said, words)):
            yield errors - 0.1 * len(said), single


def _is_right(word: str, language: Language) -> bool:
    return word in known_words(language) or is_said(word, language)


def is_said(word: str, language: Language) -> bool:
    """Whether it is a word of requests, looks or the setting, or joins names."""
    frames = frames_with_qualities(language)
    return any((word,) in phrases.meanings for phrases in (frames.fillers, frames.joints))
