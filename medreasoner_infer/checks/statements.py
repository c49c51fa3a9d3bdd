# SPDX-License-Identifier: Apache-2.0
"""What a reasoning says of the image: statements with their place in the text.

English is read well, the other languages as far as ``words.yaml`` and the vocabulary reach. What is
said of another structure than the target is told apart, and what is denied is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from medreasoner_infer.checks.wording import Claim, Frame, wording
from medreasoner_infer.checks_record import StatementKind
from medreasoner_infer.language import LANGUAGES, Language, vocabulary
from medreasoner_infer.language.recognition import target_called
from medreasoner_infer.language.relations import Relation, relations_in
from medreasoner_infer.language.spoken import (
    Single,
    Token,
    Tokens,
    spoken_names,
    tokens_of,
)
from medreasoner_infer.language.words import filler_words

_SENTENCE_END = re.compile(r"[.!?;。！？；\n]+(?=\s|$)|[。！？；]")
IMAGE_RELATIONS = frozenset({"left of", "right of", "above", "below"})
"""Those that may be told in the directions of the picture."""
_NEGATED_WITHIN = 3
_ARTICLES_AT_MOST = 2


@dataclass(frozen=True)
class Statement:
    """One statement about the image.

    Attributes:
        kind: what it speaks of.
        start: of its first character in the text.
        end: behind its last character.
        values: what it claims, e.g. ``("upper", "left")`` or ``("left of",)``.
        frame: whose directions these are.
        other: the structure that a relation leads to, with its side; empty without a relation.
        subject: another structure than the target, of which this is said; empty otherwise.
    """

    kind: StatementKind
    start: int
    end: int
    values: tuple[str, ...]
    frame: Frame = "bare"
    other: str = ""
    subject: str = ""

    @property
    def claim(self) -> str:
        """What it says, in English and always in the same words."""
        said = " ".join(self.values)
        if self.other:
            owner = "in the image " if self.frame == "image" and said in IMAGE_RELATIONS else ""
            return f"{owner}{said} the {self.other}"
        if self.kind == "side":
            return f"the patient's {said}"
        if self.kind == "position":
            return f"{said} of the image" if self.frame == "image" else f"the patient's {said}"
        return said


def statements_in(text: str, query: str = "") -> tuple[Statement, ...]:
    """The statements of a reasoning, in the order of the text; they do not overlap.

    Args:
        text: the reasoning; places are counted in its code points.
        query: what was asked, which tells what a sentence without a name speaks of.
    """
    tokens = tokens_of(text)
    if not tokens:
        return ()
    language = _language_of(tokens)
    return tuple(_Reading(text, tokens, language, target_called(query)).statements())


def _language_of(tokens: tuple[Token, ...]) -> Language:
    """Of which the text has most phrases; the first of several."""
    plain = tuple(token.plain for token in tokens)

    def found(language: Language) -> int:
        claims = wording(language).claims
        return sum(len(claims.longest_at(plain, at)) for at in range(len(plain)))

    return max(LANGUAGES, key=found)


@dataclass(frozen=True)
class _Reading:
    """A text in one language."""

    text: str
    tokens: tuple[Token, ...]
    language: Language
    asked: str

    @cached_property
    def plain(self) -> Tokens:
        return tuple(token.plain for token in self.tokens)

    def statements(self) -> Iterator[Statement]:
        """In the order of the text."""
        target = self.asked
        for first, last in self._sentences():
            subject = ""
            relations = {r.start: r for r in relations_in(self.plain[first:last], self.language)}
            is_of_image = self._speaks_of_image(first, last)
            at = first
            while at < last:
                end, statement, named = self._read_at(at, first, relations)
                if named:
                    target = target or named
                    subject = "" if _is_same(named, target) else named
                if statement is not None and not self._is_denied(at, first):
                    frame: Frame = statement.frame
                    if frame == "bare":
                        frame = "image" if is_of_image else "patient"
                    yield _settled(replace(statement, frame=frame, subject=subject))
                at = max(end, at + 1)

    def _read_at(
        self, at: int, first: int, relations: Mapping[int, Relation]
    ) -> tuple[int, Statement | None, str]:
        """What begins at a token: the token behind it, a statement, and a structure's name."""
        relation = relations.get(at - first)
        if relation is not None:
            end = first + relation.end
            claim = Claim("neighbour", (relation.where,), self._frame_of(at, end))
            return end, self._statement(claim, at, end, _named(relation.of)), ""
        words = wording(self.language)
        related = words.relations.longest_at(self.plain, at)
        if related:
            name_end, single = self._name_behind(at + len(related))
            if single is not None:
                claim = words.relations.meanings[related]
                return name_end, self._statement(claim, at, name_end, _named(single)), ""
        name_end, single = self._name_at(at)
        phrase = words.claims.longest_at(self.plain, at)
        if single is not None and name_end - at >= len(phrase):
            sided = None
            if single.side is not None:
                sided = self._statement(Claim("side", (single.side,), "patient"), at, name_end)
            return name_end, sided, _named(single)
        end = at + len(phrase)
        if phrase and not self._begins_a_name_beyond(at + 1, end):
            return end, self._statement(words.claims.meanings[phrase], at, end), ""
        return at + 1, None, ""

    def _statement(self, claim: Claim, at: int, end: int, other: str = "") -> Statement:
        start, stop = self.tokens[at].start, self.tokens[end - 1].end
        return Statement(claim.kind, start, stop, claim.values, claim.frame, other)

    def _name_at(self, at: int) -> tuple[int, Single | None]:
        return _name_at(self.plain, at, self.language)

    def _begins_a_name_beyond(self, start: int, end: int) -> bool:
        """Whether a name from within ends behind ``end``: ``points to the left kidney``."""
        return any(self._name_at(at)[0] > end for at in range(start, end))

    def _name_behind(self, at: int) -> tuple[int, Single | None]:
        """The name at a token, or behind the articles that stand there."""
        for start in range(at, at + _ARTICLES_AT_MOST + 1):
            end, single = self._name_at(start)
            if single is not None:
                return end, single
            if not {*self.plain[start : start + 1]} & filler_words(self.language):
                break
        return at, None

    def _frame_of(self, at: int, end: int) -> Frame:
        """Of a relation that names the patient: ``to the patient's left of the liver``."""
        bare = {"left", "right"} & set(self.plain[at:end])
        return "patient" if bare and "patient" in self.plain[at:end] else "bare"

    def _speaks_of_image(self, first: int, last: int) -> bool:
        words, sentence = wording(self.language), self.plain[first:last]
        places = range(len(sentence))
        if any(words.of_image.longest_at(sentence, at) for at in places):
            return True
        phrases = (words.claims.longest_at(sentence, at) for at in places)
        return any(words.claims.meanings[p].frame == "image" for p in phrases if p)

    def _is_denied(self, at: int, first: int) -> bool:
        negations = wording(self.language).negations
        before = range(max(first, at - _NEGATED_WITHIN), at)
        return any(negations.longest_at(self.plain, place) for place in before)

    def _sentences(self) -> Iterator[tuple[int, int]]:
        """Ranges of tokens."""
        ends = [match.end() for match in _SENTENCE_END.finditer(self.text)]
        for start, end in pairwise([0, *ends, len(self.text) + 1]):
            within = [at for at, token in enumerate(self.tokens) if start <= token.start < end]
            if within:
                yield within[0], within[-1] + 1


def _settled(statement: Statement) -> Statement:
    """A bare side in a sentence about the picture is a place in it."""
    if statement.kind == "side" and statement.frame == "image":
        return replace(statement, kind="position")
    return statement


def _name_at(plain: Tokens, at: int, language: Language) -> tuple[int, Single | None]:
    """The token behind a name that begins at one, and what it names.

    Of the terms that are no targets many are everyday words; they count as none.
    """
    names = spoken_names(language)
    name = names.longest_at(plain, at)
    spoken = names.meanings.get(name)
    if spoken is None or len(spoken.singles) != 1:
        return at, None
    single = spoken.singles[0]
    return (at + len(name), single) if single.name in vocabulary().targets else (at, None)


def _named(single: Single) -> str:
    return f"{single.side} {single.name}" if single.side else single.name


def _is_same(name: str, target: str) -> bool:
    """Whether two names are of one structure, whatever is said of its side."""
    plain, other = (text.split() for text in (name, target))
    sides = ({"left", "right"} & set(plain)) | ({"left", "right"} & set(other))
    return [w for w in plain if w not in sides] == [w for w in other if w not in sides]
