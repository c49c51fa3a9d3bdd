# SPDX-License-Identifier: Apache-2.0
"""A text as the names that it holds and what stands around them, read by the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medreasoner_infer.language.grammar import Slot
from medreasoner_infer.language.spoken import Frames, Phrases, Single, Spoken, Token, Tokens


@dataclass(frozen=True)
class Piece:
    """Tokens of a text: a name, what joins names, what stands around them, or another word."""

    kind: Literal["name", "joint", "filler", "other"]
    tokens: tuple[Token, ...]
    spoken: Spoken | None = None

    @property
    def plain(self) -> Tokens:
        """The tokens to be compared."""
        return tuple(token.plain for token in self.tokens)

    @property
    def singles(self) -> tuple[Single, ...]:
        """The targets that it names."""
        return self.spoken.singles if self.spoken else ()

    @property
    def slot(self) -> Slot | None:
        """How a name stands in the sentence."""
        return self.spoken.slot if self.spoken else None


def pieces_of(
    tokens: tuple[Token, ...], names: Phrases[Spoken], frames: Frames
) -> list[Piece] | None:
    """The text as pieces: names before all else, the longest first; ``None`` if a word is none."""
    plain = tuple(token.plain for token in tokens)
    found: list[Piece] = []
    at = 0
    while at < len(plain):
        name = names.longest_at(plain, at)
        joint, filler = frames.joints.longest_at(plain, at), frames.fillers.longest_at(plain, at)
        end = at + len(name or max(joint, filler, key=len))
        if end == at:
            return None
        if name:
            found.append(Piece("name", tokens[at:end], names.meanings[name]))
        else:
            kind: Literal["joint", "filler"] = "joint" if len(joint) >= len(filler) else "filler"
            found.append(Piece(kind, tokens[at:end]))
        at = end
    return found
