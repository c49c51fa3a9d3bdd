# SPDX-License-Identifier: Apache-2.0
"""A request for several targets at once, taken apart into one question for each.

A reading by the vocabulary, without a model: what isn't certainly a list stays one question.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from medreasoner_infer.language.asked_among import targets_listed
from medreasoner_infer.language.grammar import LANGUAGES, Language
from medreasoner_infer.language.pieces import Piece, pieces_of
from medreasoner_infer.language.plain import simplified
from medreasoner_infer.language.reading import vocabulary
from medreasoner_infer.language.spoken import (
    Tokens,
    frames_of,
    signs_of_lists,
    spoken_names,
    tokens_of,
)


def questions_of(text: str) -> tuple[str, ...]:
    """The questions that a text makes: one for each target of a list, each target once.

    ``Segment the liver and both kidneys`` makes ``Segment the liver``, ``Segment the left kidney``
    and so on. Where the sentence speaks of several things (``Where are …``), the names alone are
    the questions.

    Returns:
        ``(text,)`` wherever it isn't certain that the text is a list of two or more things that the
        vocabulary knows, one of them a target at least: with words that no request has, with a word
        that may belong to two names (``lung and breast cancer``), with errors of typing.
    """
    composed = unicodedata.normalize("NFC", text)
    texts = dict.fromkeys((composed, simplified(composed)))
    return next((found for found in map(_taken_apart, texts) if found), (text,))


def _taken_apart(composed: str) -> tuple[str, ...]:
    tokens = tokens_of(composed)
    words = {token.plain for token in tokens}
    for language in LANGUAGES:
        if words.isdisjoint(signs_of_lists(language)):
            continue
        pieces = pieces_of(tokens, spoken_names(language), frames_of(language))
        if pieces is not None and _is_list(pieces, language):
            return _questions(composed, pieces, language)
    return tuple(single.bare for single in targets_listed(composed))


def _is_list(pieces: Sequence[Piece], language: Language) -> bool:
    named = [piece for piece in pieces if piece.kind == "name"]
    asked = {(single.name, single.side) for piece in named for single in piece.singles}
    return (
        len(asked) > 1
        and any(name in vocabulary().targets for name, _ in asked)
        and _stand_well(pieces, language)
        and not _may_share_words(pieces, language)
    )


def _stand_well(pieces: Sequence[Piece], language: Language) -> bool:
    """Whether names are joined, and what stands around them is whole where it touches them."""
    frames = frames_of(language)
    head, *between, tail = _runs(pieces)
    return (
        all(run and run[0].kind == "joint" for run in between)
        and all(not said or said[-1] in frames.heads for said in map(_fillers, [head, *between]))
        and all(said in frames.tails for said in _fillers(tail)[:1])
    )


def _runs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """What stands before the first name, between each two, and behind the last."""
    runs: list[list[Piece]] = [[]]
    for piece in pieces:
        if piece.kind == "name":
            runs.append([])
        else:
            runs[-1].append(piece)
    return runs


def _fillers(run: Sequence[Piece]) -> list[Tokens]:
    return [piece.plain for piece in run if piece.kind == "filler"]


def _may_share_words(pieces: Sequence[Piece], language: Language) -> bool:
    """Whether a word of one name may be meant for its neighbour: ``lung and breast cancer``."""
    named = [piece for piece in pieces if piece.kind == "name"]
    neighbours = zip(named, named[1:], _runs(pieces)[1:], strict=False)
    return any(_would_share(*neighbouring, language) for neighbouring in neighbours)


def _would_share(first: Piece, second: Piece, between: Sequence[Piece], language: Language) -> bool:
    names = spoken_names(language).meanings
    one, other = first.plain, second.plain
    whole = [(one[:n] + other, second) for n in range(1, len(one)) if one[n:] in names]
    if _has_word(between) and second.slot == "bare":
        whole += [(one + other[n:], first) for n in range(1, len(other)) if other[:n] in names]
    return any(
        single.side is None and single.name != alone.singles[0].name
        for tokens, alone in whole
        if tokens in names
        for single in names[tokens].singles
    )


def _has_word(between: Sequence[Piece]) -> bool:
    """Whether names are joined by a word; what they share stands behind the last of them."""
    return any(piece.plain[0].isalnum() for piece in between)


def _questions(text: str, pieces: Sequence[Piece], language: Language) -> tuple[str, ...]:
    head, *_, tail = _runs(pieces)
    for_one = frames_of(language).single
    asks_one = all(said in for_one for said in _fillers([*head, *tail]))
    named = [(piece, *_span(text, piece)) for piece in pieces if piece.kind == "name"]
    start, end = named[0][1], named[-1][2]
    asked: dict[tuple[str, str | None], str] = {}
    for piece, first, last in named:
        for single in piece.singles:
            said = text[first:last] if len(piece.singles) == 1 else single.text
            question = f"{text[:start]}{said}{text[end:]}" if asks_one else single.bare
            asked.setdefault((single.name, single.side), question)
    return tuple(asked.values())


def _span(text: str, piece: Piece) -> tuple[int, int]:
    """Where a name begins and ends, with the bracket that it closes."""
    start, end = piece.tokens[0].start, piece.tokens[-1].end
    opened = "(" in text[start:end] or "（" in text[start:end]
    return start, end + (opened and text[end : end + 1] in (")", "）"))
