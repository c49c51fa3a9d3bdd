# SPDX-License-Identifier: Apache-2.0
"""What an earlier answer is called, its other side, its parts and its neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from medreasoner_infer.language import SIDES, Neighbour, Side, vocabulary
from medreasoner_infer.language.follow_up_words import Place
from medreasoner_infer.language.recognition import recognised
from medreasoner_infer.language.vocabulary import Where

OPPOSITE: dict[Where, Where] = {
    "above": "below", "below": "above", "in front of": "behind", "behind": "in front of",
    "left of": "right of", "right of": "left of",
}  # fmt: skip
LATERAL: tuple[Where, ...] = ("left of", "right of")
AROUND: tuple[Where, ...] = (*LATERAL, "in front of", "behind")
ANATOMY = frozenset({"abdomen", "chest", "heart", "nerves_and_muscles", "skeleton", "vessels"})
"""Groups of the vocabulary whose targets lie beside each other in a patient."""


@cache
def _all_targets() -> frozenset[str]:
    return frozenset(vocabulary().targets)


def target_named(text: str) -> str | None:
    """The one thing that a name or question is about, in English with the patient's side.

    It may be one that is no target of the vocabulary; ``None`` where it is not certain.
    """
    found = recognised(text, _all_targets())
    return None if found is None or not found.name else found.name


def split_side(target: str) -> tuple[Side | None, str]:
    """The patient's side with which a name begins, and the rest: ``left atrium`` likewise."""
    first, _, rest = target.partition(" ")
    return (first, rest) if first in SIDES and rest else (None, target)


def is_target(name: str) -> bool:
    """Whether the vocabulary has a target of that name, with a side where it is one of a pair."""
    side, rest = split_side(name)
    known = vocabulary().targets
    return name in known or (side is not None and rest in known and known[rest].paired)


def on_side(target: str, side: Side) -> str | None:
    """The same thing on a side of the patient; ``None`` where there is none there."""
    _, rest = split_side(target)
    sided = f"{side} {rest}"
    return sided if is_target(sided) else None


def has_sides(target: str) -> bool:
    """Whether there is one on either side of the patient."""
    return all(on_side(target, side) is not None for side in SIDES)


def other_side(target: str) -> str | None:
    """The same thing on the other side; ``None`` where the name tells no side, or has no other."""
    side, _ = split_side(target)
    if side is None:
        return None
    return on_side(target, "right" if side == "left" else "left")


def part_of(target: str, part: str) -> str | None:
    """The vocabulary's name of a part of a target: of ``left lung`` its ``upper lobe``."""
    side, rest = split_side(target)
    sided = f"{side} " if side else ""
    for text in (f"{sided}{rest} {part}", f"{part} of the {target}", f"{sided}{part}", part):
        found = target_named(text)
        if found is None or found in (target, rest):
            continue
        if is_target(found) and (split_side(found)[0] in (None, side) or side is None):
            return found
    return None


def neighbours_at(target: str, place: Place) -> tuple[str, ...]:
    """What the vocabulary says to lie there; beside: on either side, else in front or behind."""
    if place != "beside":
        return tuple(dict.fromkeys(_at(target, place)))
    for places in (LATERAL, AROUND):
        found = dict.fromkeys(name for where in places for name in _at(target, where))
        if found:
            return tuple(found)
    return ()


def _at(target: str, where: Where) -> Iterator[str]:
    """Those that say so themselves, and those of which the target says the opposite."""
    side, rest = split_side(target)
    if target in vocabulary().targets:
        side, rest = None, target
    for other in vocabulary().targets.values():
        for told in other.neighbours:
            if told.where == where and told.to == rest and told.to_side in (None, side):
                yield from _sided(other.name, told.side)
    of_target = vocabulary().targets.get(rest)
    for told in of_target.neighbours if of_target else ():
        if told.where == OPPOSITE[where] and _holds_for(told, side):
            yield from _sided(told.to, told.to_side)


def _holds_for(told: Neighbour, side: Side | None) -> bool:
    return told.side is None or side is None or told.side == side


def _sided(name: str, side: Side | None) -> Iterator[str]:
    """With its side; of a pair without one, both."""
    target = vocabulary().targets[name]
    sides = (side,) if side is not None else target.sides
    yield from (f"{each} {name}" if each else name for each in sides)
