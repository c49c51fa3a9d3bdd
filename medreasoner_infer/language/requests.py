# SPDX-License-Identifier: Apache-2.0
"""The one request in a text that tells more, such as the patient's history.

``62-year-old drinker with ascites. Please outline the spleen.`` asks for the spleen, and what the
rest speaks of is not asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain

from medreasoner_infer.language.grammar import Language
from medreasoner_infer.language.leads import lead_words
from medreasoner_infer.language.pieces import Piece, pieces_of
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import (
    UNSPACED,
    Frames,
    Phrases,
    Single,
    Token,
    Tokens,
    plain_tokens,
    tokens_of,
)
from medreasoner_infer.language.words import (
    all_names,
    known_words,
    likely_languages,
    medical_name_words,
    request_frames,
)

MOST_UNKNOWN = 2
"""Words that nothing is known of, beside a name."""
SHORTEST_HISTORY = 10
"""Pieces of a sentence that goes on behind what it asks for; a shorter one describes."""
_POSSESSIVE = frozenset(
    {"s", "of", "von", "vom", "der", "des", "de", "du", "d", "di", "del", "dello", "della", "dell"}
    | {"dei", "do", "da", "dos", "das"}
)
_SENTENCE_ENDS = re.compile(r"[.!?:;](?=\s|$)|[。！？：；\n]|\s[-–—]+\s")
_CLAUSE_ENDS = re.compile(r"[,，、]")


def requested(text: str) -> Single | None:
    """The one thing that a sentence or clause of a longer text asks for.

    Returns:
        ``None`` if none or several are asked for, or if the text is but one clause that holds words
        which no request has and no word that asks.
    """
    sentences = [part for part in _SENTENCE_ENDS.split(text) if tokens_of(part)]
    if not sentences:
        return None
    for language in likely_languages(plain_tokens(text)):
        asked = {*filter(None, (_asked_in(sentence, language) for sentence in sentences))}
        if not asked:
            last = _last_clause(sentences, language)
            asked = {last} if last else set()
        if len({(single.name, single.side) for single in asked}) == 1:
            return asked.pop()
    return None


def _last_clause(sentences: Sequence[str], language: Language) -> Single | None:
    """What the last of several sentences, or of several clauses, names and nothing else."""
    *before, last = [part for part in _CLAUSE_ENDS.split(sentences[-1]) if tokens_of(part)]
    if before and any(map(_holds_name, before, [language] * len(before))):
        return None
    if not before and len(sentences) == 1:
        return None
    return only_named(tokens_of(last), language, frames_with_qualities(language))


def named_beside_unknown(tokens: tuple[Token, ...], language: Language) -> Single | None:
    """The one thing that a text names if its few other words are of nothing that is known.

    ``spinal cord as OAR``; no ``liver sausage``, since what follows a name may belong to it.
    """
    pieces = [*_tolerant(tokens, language)]
    named = [at for at, piece in enumerate(pieces) if piece.kind == "name"]
    other = [piece for piece in pieces if piece.kind == "other"]
    if len(named) != 1 or len(pieces[named[0]].singles) != 1 or len(other) > MOST_UNKNOWN:
        return None
    behind = pieces[named[0] + 1 : named[0] + 2]
    if any(piece.kind == "other" or _belongs(piece) for piece in behind):
        return None
    if any(piece.kind == "other" for piece in pieces[: named[0]]):
        return None
    told = known_words(language) | lead_words(language)
    if any(word in told for piece in other for word in piece.plain):
        return None
    single = pieces[named[0]].singles[0]
    target = vocabulary().targets.get(single.name)
    return None if target is None or (target.paired and single.side is None) else single


def _belongs(piece: Piece) -> bool:
    """Whether a word makes what follows it a part of the name: ``the liver of the snake``."""
    return bool(_POSSESSIVE.intersection(piece.plain))


def _holds_name(text: str, language: Language) -> bool:
    return any(piece.kind == "name" for piece in _tolerant(tokens_of(text), language))


def only_named(tokens: tuple[Token, ...], language: Language, frames: Frames) -> Single | None:
    """The one thing that a text names, if all its other words are those of requests."""
    pieces = pieces_of(tokens, all_names(language), frames) or ()
    named = [piece for piece in pieces if piece.kind == "name"]
    if len(named) > 1:  # an abbreviation may be an article as well: LA
        named = [piece for piece in named if not _is_of_requests(piece, language)]
    if len(named) != 1 or len(named[0].singles) != 1:
        return None
    return named[0].singles[0]


def _is_of_requests(piece: Piece, language: Language) -> bool:
    return all((word,) in request_frames(language).fillers.meanings for word in piece.plain)


def _asked_in(sentence: str, language: Language) -> Single | None:
    """What stands in one run with a word that asks, with no other name behind it."""
    runs: list[list[Piece]] = [[]]
    for piece in _tolerant(tokens_of(sentence), language):
        if piece.kind == "other":
            runs.append([])
        else:
            runs[-1].append(piece)
    asking = [at for at, run in enumerate(runs) if _asks(run, language)]
    if len(asking) != 1:
        return None
    run, rest = _from_last_asking(runs[asking[0]], language), runs[asking[0] + 1 :]
    named = _named_in(run, language)
    if len(named) != 1 or len(named[0].singles) != 1 or _named_in(chain(*rest), language):
        return None
    touches = bool(rest) and run[-1] is named[0]  # the word behind it may belong to it
    of_target = named[0].singles[0].name in vocabulary().targets
    told = _tells(rest, language) or not of_target
    short = bool(rest) and told and sum(map(len, runs)) < SHORTEST_HISTORY
    return None if touches or short else named[0].singles[0]


def _tells(runs: Iterable[Iterable[Piece]], language: Language) -> bool:
    """Whether words of medicine stand behind what is asked for, which may describe it."""
    told = medical_name_words(language) | lead_words(language)
    return any(word in told for run in runs for piece in run for word in piece.plain)


def _from_last_asking(run: Sequence[Piece], language: Language) -> Sequence[Piece]:
    """Of a run with several names what follows the last word that asks before the last name."""
    names = _named_in(run, language)
    if len(names) < 2:
        return run
    last = max(at for at, piece in enumerate(run) if piece is names[-1])
    forms = vocabulary().forms[language]
    said = _words_of((*forms.asking, *forms.polite))
    asking = [at for at in range(last) if _says(run[at : at + 1], said, language)]
    return run[asking[-1] :] if asking else run


def _named_in(run: Iterable[Piece], language: Language) -> list[Piece]:
    names = (piece for piece in run if piece.kind == "name")
    return [piece for piece in names if not _is_of_requests(piece, language)]


def _asks(run: Sequence[Piece], language: Language) -> bool:
    """Whether a run holds a name and a word that asks for one."""
    asking = _words_of(vocabulary().forms[language].asking)
    return bool(_named_in(run, language)) and _says(run, asking, language)


def _says(run: Iterable[Piece], words: frozenset[str], language: Language) -> bool:
    said = [word for piece in run if piece.kind != "name" for word in piece.plain]
    if language in UNSPACED:
        return any(word in "".join(said) for word in words)
    return not words.isdisjoint(said)


@cache
def _words_of(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset("".join(plain_tokens(text)) for text in texts)


@cache
def frames_with_qualities(language: Language) -> Frames:
    """The frames of a language, with words for looks and setting: *enlarged*, *film*."""
    frames, forms = request_frames(language), vocabulary().forms[language]
    said = (*forms.qualities, *forms.context)
    more: dict[Tokens, None] = dict.fromkeys(map(plain_tokens, said))
    return replace(frames, fillers=Phrases({**frames.fillers.meanings, **more}))


def _tolerant(tokens: tuple[Token, ...], language: Language) -> Iterator[Piece]:
    """The pieces of a text, with a piece of its own for each word that is of no request."""
    plain = tuple(token.plain for token in tokens)
    names, frames, at = all_names(language), frames_with_qualities(language), 0
    while at < len(tokens):
        name, filler = names.longest_at(plain, at), frames.fillers.longest_at(plain, at)
        joint = frames.joints.longest_at(plain, at)
        end = at + (len(name or max(joint, filler, key=len)) or 1)
        if name:
            yield Piece("name", tokens[at:end], names.meanings[name])
        elif joint or filler:
            yield Piece("joint" if len(joint) >= len(filler) else "filler", tokens[at:end])
        else:
            yield Piece("other", tokens[at:end])
        at = end
