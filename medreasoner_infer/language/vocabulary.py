# SPDX-License-Identifier: Apache-2.0
"""The clinical vocabulary: targets with all that is said of them, and what no target is.

A side is always the patient's. ``reading.py`` fills these records from the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from medreasoner_infer.language.grammar import Language, Name, Side, Tongue

FactKind = Literal["function", "appearance", "symptom", "sign", "disease", "procedure", "place"]
LED_BY: Mapping[FactKind, str] = {
    "function": "its function",
    "appearance": "its appearance",
    "place": "its place",
    "symptom": "a symptom",
    "sign": "a sign",
    "disease": "a disease",
    "procedure": "a procedure",
}
"""What in a question leads to its target, where it is no name."""


def led_by_sentence(kind: FactKind | None) -> str:
    """How a trace tells what in a question led to its target; empty where that is its name."""
    return f" It is asked for by {LED_BY[kind]}." if kind else ""


Where = Literal["right of", "left of", "above", "below", "in front of", "behind"]


@dataclass(frozen=True)
class Fact:
    """Something that is true of one target and leads to it without naming it.

    Attributes:
        kind: what the fact speaks of.
        texts: by language, a noun phrase: ``the sac that stores bile``. In English head and clause
            are kept apart by ``|``, so that both ``the sac that …`` and ``which sac …?`` are made:
            ``sac | stores bile``. German heads are neuter or feminine, so that nominative and
            accusative are the same.
        side: of a paired target, where the fact is true of one side only.
    """

    kind: FactKind
    texts: Mapping[Language, str]
    side: Side | None = None


@dataclass(frozen=True)
class Neighbour:
    """Where a target lies from another one: ``where`` is ``right of`` (the patient's) and so on.

    Attributes:
        where: relation of this target to the other.
        to: name of the other target.
        to_side: side of the other target, if it is paired.
        side: side of this target for which the relation holds, if it is paired.
    """

    where: Where
    to: str
    to_side: Side | None = None
    side: Side | None = None


@dataclass(frozen=True)
class Target:
    """A structure or finding that can be marked on an image.

    Attributes:
        name: the English name by which the rest of the software knows it.
        group: name of the file that it stands in.
        paired: there is one on either side; the sides are targets of their own.
        code: its name in the table of coded concepts, which owns the codes; ``None`` if not there.
        names: by language, the usual name first, then synonyms; ``la`` is Latin.
        lay: by language, words of patients.
        abbreviations: by language.
        adjectives: by language, e.g. ``hepatic``.
        both: by language, how both sides are named at once.
        facts: what is true of it.
        neighbours: where it lies.
        ambiguous: those of its names that another target has, too.
    """

    name: str
    group: str
    paired: bool
    code: str | None
    names: Mapping[Tongue, tuple[Name, ...]]
    lay: Mapping[Language, tuple[Name, ...]]
    abbreviations: Mapping[Language, tuple[Name, ...]]
    adjectives: Mapping[Language, tuple[str, ...]]
    both: Mapping[Language, tuple[Name, ...]]
    facts: tuple[Fact, ...]
    neighbours: tuple[Neighbour, ...]
    ambiguous: frozenset[str]

    def expressions(self, language: Language) -> Iterator[Name]:
        """All that it is called in a language; not Latin and no adjectives."""
        for table in (self.names, self.lay, self.abbreviations):
            yield from table.get(language, ())

    @property
    def sides(self) -> tuple[Side | None, ...]:
        """The targets that it stands for: left and right, or itself."""
        return ("left", "right") if self.paired else (None,)


@dataclass(frozen=True)
class Outside:
    """A term that is none of the targets: a disease, a device, another organ, an everyday thing."""

    name: str
    group: str
    names: Mapping[Language, Name]


@dataclass(frozen=True)
class Forms:
    """How questions are put in one language; slots are in braces.

    Attributes:
        requests: with ``{bare}``, ``{nom}``, ``{acc}`` or ``{of}``: a name is asked for.
        adjectival: with ``{adjective}``.
        descriptions: with ``{fact}``, or in English ``{head}`` and ``{clause}``.
        several: with ``{list}``.
        list_comma: between the items of a list.
        list_last: before its last item.
        joints: words and marks that users put between items.
        pair: words before a plural that name both sides, with the marks of grammar.
        around: words before and behind a list, beside those of ``requests`` and ``several``.
        where_also: by relation, other words for it, with ``{name}``.
        left_out: with ``{name}``: all else is asked for: *everything except …*
        near: with ``{name}``: something beside it is asked for.
        pronouns: words for what was found before: *behind it*.
        lacking: words behind which stands what something has not: *without*.
        what: words before a name, or anywhere in languages without spaces, by which it tells of
            something else: *what lies behind …*
        things: words of everyday life, of dishes above all, which make another thing of a name.
        companions: words beside a name that make no other thing of it: *volume*, *after*.
        words: words of requests that say nothing of what is asked for.
        on_side: by side, with ``{fact}``: a fact that is true of both sides, of one of them.
        beside: by side, with ``{name}``: the side stands apart from the name.
        where: by relation, with the slot for the other target.
        neighbour: a fact of two relations ``{first}`` and ``{second}``.
        off_topic: questions that are not about medicine at all.
        little: words that say little of what a description tells, beside those of requests.
        kinds: words that tell which kind of thing is meant, although they stand in ``little``: a
            chamber is no *organ*.
        asking: words of requests that ask to be shown something, such as *outline*.
        polite: words of requests that begin what is asked for: *please*.
        asides: other words that may stand around what leads to a target: *what explains …*
        qualities: words for how something looks or is, such as *enlarged*.
        shorthand: what abbreviations stand for that tell a side too, for short questions: ``lk``.
        context: words of what is shown and for whom, such as *film*, *planning* and *years*.
        alike: groups of words that say the same in descriptions: *makes* and *secretes*.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    requests: tuple[str, ...]
    descriptions: tuple[str, ...]
    several: tuple[str, ...]
    list_comma: str
    list_last: str
    on_side: Mapping[Side, str]
    beside: Mapping[Side, tuple[str, ...]]
    where: Mapping[Where, str]
    neighbour: str
    off_topic: tuple[str, ...]
    joints: tuple[str, ...]
    around: tuple[str, ...]
    words: tuple[str, ...]
    where_also: Mapping[Where, tuple[str, ...]]
    left_out: tuple[str, ...]
    near: tuple[str, ...]
    pronouns: tuple[str, ...]
    lacking: tuple[str, ...]
    what: tuple[str, ...]
    things: tuple[str, ...]
    little: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    asking: tuple[str, ...] = ()
    qualities: tuple[str, ...] = ()
    asides: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    shorthand: Mapping[str, str] = field(default_factory=dict)
    polite: tuple[str, ...] = ()
    alike: tuple[tuple[str, ...], ...] = ()
    pair: tuple[str, ...] = ()
    adjectival: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """All targets and outside terms by name, and the forms of each language."""

    targets: Mapping[str, Target]
    outside: Mapping[str, Outside]
    forms: Mapping[Language, Forms]
