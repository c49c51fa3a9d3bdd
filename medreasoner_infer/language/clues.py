# SPDX-License-Identifier: Apache-2.0
"""Words that tell a target only together, in any order: *pumps* and *blood*.

A clue is words with spaces between, each of which a text must hold. ``make*|produc*`` stands for
words that begin so, ``*stein`` for words that end so, ``in_front`` for words that follow each
other, and ``-lung*`` for a word that the text must not hold. Where there are no spaces a word is a
piece of the text. Of the clues that a text holds the one of most words counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from medreasoner_infer.language.errors import VocabularyError
from medreasoner_infer.language.grammar import Language, Side
from medreasoner_infer.language.plain import plain_text
from medreasoner_infer.language.reading import read_checked, vocabulary
from medreasoner_infer.language.sides import side_told
from medreasoner_infer.language.spoken import UNSPACED, Tokens, plain_tokens
from medreasoner_infer.language.vocabulary import FactKind
from medreasoner_infer.language.words import likely_languages
from medreasoner_infer.once import computed_once

_Written = dict[str, dict[FactKind, list[str]]]
_Pieces = tuple[str, ...]
_NOT = "-"


@dataclass(frozen=True)
class Clued:
    """The target or term that a text asks for.

    Attributes:
        name: in English, without a side.
        kind: of the clue.
        side: the patient's, of a paired target.
        words: of the clue.
    """

    name: str
    kind: FactKind
    side: Side | None
    words: int


@dataclass(frozen=True)
class Clue:
    """What a text must and must not hold to ask for ``target``: of each word one of its pieces."""

    target: str
    kind: FactKind
    text: str
    needed: tuple[_Pieces, ...]
    barred: tuple[_Pieces, ...]


def clued(text: str) -> Clued | None:
    """The target or term of the clue of most words that a text holds, and the patient's side.

    Returns:
        ``None`` if it holds none, or those of most words lead to several.
    """
    tokens = tuple(token for token in plain_tokens(text) if token.isalnum())
    for language in likely_languages(tokens):
        held = [*_held(tokens, language)]
        most = max((len(clue.needed) for clue in held), default=0)
        best = {clue.target: clue for clue in held if len(clue.needed) == most}
        if len(best) == 1:
            ((name, clue),) = best.items()
            target = vocabulary().targets.get(name)
            side = None if target is None else side_told(tokens, target, language)
            return Clued(name, clue.kind, side, most)
    return None


def _held(tokens: Tokens, language: Language) -> Iterator[Clue]:
    said = "".join(tokens) if language in UNSPACED else f" {' '.join(tokens)} "

    def holds(pieces: _Pieces) -> bool:
        return any(piece in said for piece in pieces)

    for clue in _clues(language):
        if all(map(holds, clue.needed)) and not any(map(holds, clue.barred)):
            yield clue


@computed_once
def _clues(language: Language) -> tuple[Clue, ...]:
    """The clues of a language.

    Raises:
        VocabularyError: a clue leads to no target and no term, or needs no word.
    """
    path = Path(str(resources.files(__package__))) / "clues" / f"{language}.yaml"
    found = []
    for name, kinds in read_checked(path, _Written).items():
        if name not in vocabulary().targets and name not in vocabulary().outside:
            raise VocabularyError(f"{path} leads to {name!r}, which is no target and no term.")
        for kind, texts in kinds.items():
            found += [clue_of(name, kind, text, language, path) for text in texts]
    return tuple(found)


def clue_of(name: str, kind: FactKind, text: str, language: Language, path: Path) -> Clue:
    """A clue as its file writes it.

    Raises:
        VocabularyError: it needs no word.
    """
    words = text.split()
    barred = tuple(_pieces(word[1:], language) for word in words if word.startswith(_NOT))
    needed = tuple(_pieces(word, language) for word in words if not word.startswith(_NOT))
    if not needed:
        raise VocabularyError(f"The clue {text!r} of {name} in {path} needs no word.")
    return Clue(name, kind, text, needed, barred)


@cache
def _pieces(word: str, language: Language) -> _Pieces:
    """What finds one of the words with ``|`` between them in a text."""
    if language in UNSPACED:
        return tuple("".join(plain_tokens(part)) for part in word.split("|"))
    return tuple(map(_piece, word.split("|")))


def _piece(word: str) -> str:
    body = plain_text(word.replace("_", " "))
    return ("" if word.startswith("*") else " ") + body + ("" if word.endswith("*") else " ")
