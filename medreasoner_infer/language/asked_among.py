# SPDX-License-Identifier: Apache-2.0
"""Targets that a text mentions among whatever other words.

``Donor work-up, LEFT KIDNEY volume required``: nothing tells how the words hang together, but only
one target is named, and no other structure. What names a target as the place of something else, as
``the organ behind the stomach``, is left to those who read descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

from medreasoner_infer.language.apart import set_apart
from medreasoner_infer.language.grammar import Language, Side
from medreasoner_infer.language.mentions import Mention, is_said, languages_of, mentions_in
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.requests import frames_with_qualities
from medreasoner_infer.language.sides import side_words
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Single,
    Token,
    Tokens,
    plain_tokens,
    tokens_of,
)
from medreasoner_infer.language.strange import is_filler, tells_kind
from medreasoner_infer.language.words import DISEASES, EVERYDAY, ORGANS, all_names, known_words

_MEDICAL = frozenset({ORGANS, DISEASES, "devices_and_procedures"})
FINDINGS = "findings"
"""Group of the targets that lie in an organ and may be named with it."""
MOST_WORDS_OF_A_LIST = 4
"""Between two of its items."""
MOST_TOKENS_TO_SIDE = 3
"""From a name to the word that tells its side."""
_CLAUSE_ENDS = re.compile(r"[.,:;?!()，。：；？！、–—]|\s-\s")
_HEAD_NOUNS = frozenset("炎癌瘤病症酶功科弁瓣膜門门管動动静神經経囊嚢石硬移衰腺点痛発间間盘盤試")
"""Characters that make another word of the name before them: 胃炎."""
_OF = {"zh": "的", "ja": "の"}
"""Behind a name: what follows is a part of it, or something there."""
_OF_WORDS = frozenset({"of", "du", "de", "del", "della", "dello", "dell", "do", "da"})
_ENDINGS = ("ed", "ing", "ly")
"""Of English words that belong to no noun before them."""
_SIDE_LETTERS: Mapping[Side, frozenset[str]] = {
    "left": frozenset({"l", "lt"}),
    "right": frozenset({"r", "rt"}),
}


def target_mentioned(text: str) -> Single | None:
    """The one target that a text mentions; ``None`` if none or several may be meant."""
    tokens = tokens_of(text)
    read: set[int] = set()
    for language in languages_of(tuple(token.plain for token in tokens)):
        found = mentions_in(text, tokens, language)
        # A *rate* is no spleen where English has read a heart rate.
        found = [each for each in found if read.isdisjoint(range(each.start, each.end))]
        if any(each.group == EVERYDAY for each in found):
            return None
        asked = _one_asked(text, tokens, found, language)
        if asked is not None or any(each.target and each.exact for each in found):
            return asked
        read.update(at for each in found if each.exact for at in range(each.start, each.end))
    return None


def other_mentioned(text: str) -> str:
    """The term that a text begins with, if it is no target and no target is mentioned."""
    tokens = tokens_of(text)
    plain = tuple(token.plain for token in tokens)
    for language in languages_of(plain):
        found = [each for each in mentions_in(text, tokens, language) if each.group in _MEDICAL]
        first = next(iter(found), None)
        if first is None or any(each.target for each in found):
            continue
        by_itself = language in UNSPACED or first.group != ORGANS
        behind = plain[first.end :] if by_itself else ()
        is_alone = all(is_said(word, language) for word in (*plain[: first.start], *behind))
        if is_alone and not _describes(tokens, first, language):
            return first.singles[0].name
    return ""


def targets_listed(text: str) -> tuple[Single, ...]:
    """The targets that a text mentions next to each other; empty unless it mentions no others."""
    tokens = tokens_of(text)
    plain = tuple(token.plain for token in tokens)
    for language in languages_of(plain):
        found = [each for each in mentions_in(text, tokens, language) if each.group != DISEASES]
        singles = {(s.name, s.side): s for each in found for s in each.singles}
        if min(len(found), len(singles)) < 2 or not all(each.target for each in found):
            continue
        if set_apart(text) is None and _is_list(text, tokens, found, language):
            return tuple(singles.values())
    return ()


def speaks_of_things(plain: Tokens, language: Language) -> bool:
    """Whether a text is about something of everyday life, such as a dish."""
    return any(_says(plain, plain_tokens(words)) for words in vocabulary().forms[language].things)


def _one_asked(
    text: str, tokens: tuple[Token, ...], found: Sequence[Mention], language: Language
) -> Single | None:
    """The target of which the mentions are, or the first one, if it stands for itself."""
    named = [each for each in found if each.target]
    if not named or not all(len(each.singles) == 1 for each in named):
        return None
    first = named[0]
    before = [each for each in found if each.start < first.start]
    if any(each.group == ORGANS for each in before):
        return None
    if any(not _clause_ends(text, tokens, each.end, first.start) for each in before):
        return None
    meant = _meant([each.singles[0] for each in named])
    if meant is None or _describes(tokens, first, language):
        return None
    if any(_is_part_of(tokens, each, language) for each in named):
        return None
    plain = tuple(token.plain for token in tokens)
    if _is_described(plain[: first.start], language):
        return None
    meant = _with_side(meant, first, tokens, text, language)
    stands = all(_stands_alone(tokens, each, text, language) for each in named)
    return meant if stands else None


def _meant(singles: Sequence[Single]) -> Single | None:
    """The one target of several mentions: with the side, and the finding rather than its organ."""
    names = {single.name for single in singles}
    findings = [s for s in singles if vocabulary().targets[s.name].group == FINDINGS]
    if len(names) > 1 and len({single.name for single in findings}) == 1:
        return findings[0]
    sides = {single.side for single in singles if single.side}
    if len(names) > 1 or len(sides) > 1:
        return None
    return next((single for single in singles if single.side), singles[0])


def _with_side(
    single: Single, mention: Mention, tokens: tuple[Token, ...], text: str, language: Language
) -> Single | None:
    """With the side that is told right beside it; ``None`` if both are told.

    In *left hemiparesis, the kidneys are small* the side is another thing's.
    """
    letters = _SIDE_LETTERS if language == "en" else {}
    words = {s: said | letters.get(s, frozenset()) for s, said in side_words(language).items()}
    told = {side: [n for n, t in enumerate(tokens) if t.plain in words[side]] for side in words}
    if all(told.values()):
        return None
    is_open = vocabulary().targets[single.name].paired and single.side is None
    near = [
        side
        for side, places in told.items()
        if any(_is_beside(at, mention, tokens, text) for at in places)
    ]
    return replace(single, side=near[0]) if is_open and near else single


def _is_beside(at: int, mention: Mention, tokens: tuple[Token, ...], text: str) -> bool:
    first, last = (mention.end - 1, at) if at >= mention.end else (at, mention.start)
    between = text[tokens[first].end : tokens[last].start]
    return last - first <= MOST_TOKENS_TO_SIDE and not re.search(r"[.:;?!。：；？！]", between)


def _describes(tokens: tuple[Token, ...], first: Mention, language: Language) -> bool:
    """Whether the name tells where or what something else is: *the organ behind the stomach*."""
    seen = tokens if language in UNSPACED else tokens[: first.start]
    plain = tuple(token.plain for token in seen)
    if tells_kind(plain, language):
        return True
    forms = vocabulary().forms[language]
    every = tuple(token.plain for token in tokens)
    if any(_says(every, plain_tokens(words)) for words in forms.pronouns):
        return True
    what = [plain_tokens(word) for word in forms.what]
    if language in UNSPACED:
        return any("".join(word) in "".join(plain) for word in what)
    return any(_says(plain, words) for words in what)


def _says(plain: Tokens, words: Tokens) -> bool:
    return any(plain[at : at + len(words)] == words for at in range(len(plain)))


def _is_part_of(tokens: tuple[Token, ...], mention: Mention, language: Language) -> bool:
    """Whether a part of what is named is asked for, or something of it: *the tip of the spleen*."""
    plain = tuple(token.plain for token in tokens)
    if language in UNSPACED:
        rest = plain[mention.end + 1 :]
        is_of = plain[mention.end : mention.end + 1] == (_OF[language],)
        return is_of and bool(all_names(language).longest_at(rest, 0))
    before = plain[: mention.start]
    inner = plain[mention.start : mention.start + 1]
    at = next((n for n in (1, 2) if _OF_WORDS.intersection(before[-n:][:1])), 0)
    if not at and not _OF_WORDS.intersection(inner):
        return False
    owner = before[: len(before) - at][-1:]
    return any(_tells(word, language) for word in owner)


def _tells(word: str, language: Language) -> bool:
    """Whether a word is of medicine and may be what is asked for itself."""
    is_open = word in _companions(language) or word.endswith(_ENDINGS)
    return word in known_words(language) and not is_said(word, language) and not is_open


def _is_described(before: Tokens, language: Language) -> bool:
    """Whether words of no request stand before a name: *irregular hypoechoic breast mass*."""
    if language in UNSPACED or len(before) < 2:
        return False
    return all(_tells(word, language) for word in before[-2:])


def _stands_alone(
    tokens: tuple[Token, ...], mention: Mention, text: str, language: Language
) -> bool:
    """Whether no word behind a name may make another of it: ``liver sausage``, 胃炎."""
    if mention.end == len(tokens):
        return True
    behind = tokens[mention.end]
    if language in UNSPACED:
        single = mention.end - mention.start == 1 and mention.start > 0
        joined = single and tokens[mention.start - 1].end == tokens[mention.start].start
        apart = not joined or is_said(tokens[mention.start - 1].plain, language)
        return behind.plain not in _HEAD_NOUNS and apart
    if language != "en" or _CLAUSE_ENDS.search(text[tokens[mention.end - 1].end : behind.start]):
        return True
    word = behind.plain
    return (
        not word.isalpha()
        or is_filler(word, language)
        or is_said(word, language)
        or word.endswith(_ENDINGS)
        or word in _companions(language)
    )


@cache
def _companions(language: Language) -> frozenset[str]:
    return frozenset("".join(plain_tokens(w)) for w in vocabulary().forms[language].companions)


def _clause_ends(text: str, tokens: tuple[Token, ...], end: int, start: int) -> bool:
    between = text[tokens[end - 1].end : tokens[start].start]
    return _CLAUSE_ENDS.search(between) is not None


def _is_list(
    text: str, tokens: tuple[Token, ...], found: Sequence[Mention], language: Language
) -> bool:
    if _describes(tokens, found[0], language):
        return False
    if not all(_stands_alone(tokens, each, text, language) for each in found):
        return False
    return all(
        _is_joined(text, tokens, first, second, language)
        and not _share_words(tokens, first, second, language)
        for first, second in pairwise(found)
    )


def _share_words(
    tokens: tuple[Token, ...], first: Mention, second: Mention, language: Language
) -> bool:
    """Whether a word of the second name may be meant for the first: ``lung and breast cancer``."""
    plain, names = tuple(token.plain for token in tokens), all_names(language).meanings
    one, other = plain[first.start : first.end], plain[second.start : second.end]
    return any(
        one[at:] + other[n:] in names for at in range(len(one)) for n in range(1, len(other))
    )


def _is_joined(
    text: str, tokens: tuple[Token, ...], first: Mention, second: Mention, language: Language
) -> bool:
    between = tuple(token.plain for token in tokens[first.end : second.start])
    if re.search(r"[.?!。？！]", text[tokens[first.end - 1].end : tokens[second.start].start]):
        return False
    joints = frames_with_qualities(language).joints
    is_joined = any(joints.longest_at(between, at) for at in range(len(between)))
    asking = {"".join(plain_tokens(word)) for word in vocabulary().forms[language].asking}
    words = [word for word in between if word[0].isalnum()]
    return is_joined and len(words) <= MOST_WORDS_OF_A_LIST and asking.isdisjoint(words)
