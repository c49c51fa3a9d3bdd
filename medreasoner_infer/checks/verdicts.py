# SPDX-License-Identifier: Apache-2.0
"""Each kind of statement, tested: whether it holds, and what was measured.

The limits are in ``docs/checked_reasoning.md``. They are wide: a statement that does not hold is
wrong, not imprecise. Of what is measured near a limit nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Final

from medreasoner_infer.checks.measures import BodyOffset, PatientAxis, Scene
from medreasoner_infer.checks.neighbours import neighbour_verdict
from medreasoner_infer.checks.statements import Statement
from medreasoner_infer.checks_record import StatementCheck, StatementKind, Verdict
from medreasoner_infer.types import EarlierTarget

Found = tuple[Verdict, str]

MIDLINE_SHARE: Final = 0.02
"""Nearer to the middle than this share of the body's width no side can be told."""
MIDDLE_SHARE: Final = 0.25
"""Of the body's width or depth on either side: what is nearer is in the middle half."""
ON_MIDLINE_SHARE: Final = 0.1
"""Likewise of what is said to lie on the midline."""
BRIGHTER_GREY, ALIKE_GREY, NEAR_GREY = 5.0, 20.0, 3.0
"""Displayed grey levels by which bright and dark differ from the surroundings at least, grey at
most; nearer to these than the last nothing is said."""
ROUND_AT_MOST, OVAL, ELONGATED_FROM = 1.5, (1.1, 2.2), 1.6
FILLED_FROM, IRREGULAR_AT_MOST, NEAR_FILLED = 0.4, 0.65, 0.08
SMALL_AT_MOST, LARGE_FROM = 0.08, 0.03
"""Shares of the body's area on the slice."""
NEAR_RATIO: Final = 0.1
"""Share of the limit of a ratio; nearer to it nothing is said, since no mask is so exact."""

_SIDES: Mapping[str, tuple[PatientAxis, int]] = {
    "left": ("L", 1), "right": ("L", -1), "back": ("P", 1), "front": ("P", -1),
    "head": ("S", 1), "foot": ("S", -1),
}  # fmt: skip
_WAYS: Mapping[PatientAxis, tuple[str, str, str]] = {
    "L": ("right of", "left of", "the midline of the body"),
    "P": ("in front of", "behind", "the middle of the body"),
    "S": ("below", "above", "the middle of the body"),
}


def verdict_of(
    statement: Statement,
    scene: Scene | None,
    known: Sequence[EarlierTarget] = (),
) -> StatementCheck:
    """A statement, tested.

    Args:
        statement: of a reasoning.
        scene: the mask that the reasoning led to; ``None`` without one.
        known: targets of other answers about the image, by which relations can be tested.
    """
    if statement.subject:
        found: Found = "cannot be checked", f"said of the {statement.subject}, not of the target"
    elif scene is None:
        found = "cannot be checked", "there is no mask to measure"
    elif statement.other:
        found = neighbour_verdict(statement, scene, known)
    else:
        found = _TESTS[statement.kind](statement, scene)
    verdict, measured = found
    return StatementCheck(
        statement.kind, statement.start, statement.end, statement.claim, verdict, measured
    )


def _place(statement: Statement, scene: Scene) -> Found:
    if statement.frame == "image":
        return _image_place(statement, scene)
    found = [_patient_place(value, scene) for value in statement.values]
    measured = "; ".join(dict.fromkeys(said for _, said in found))
    return _all_of([verdict for verdict, _ in found]), measured


def _compared(value: float, least: float, most: float, near: float) -> Verdict:
    """Whether a value lies between two limits; nothing is said within ``near`` of either."""
    if min(abs(value - least), abs(value - most)) < near:
        return "cannot be checked"
    return _holds(least <= value <= most)


def _told(verdict: Verdict, said: str) -> Found:
    """What was measured, and that it is too near to a limit where nothing follows of it."""
    return verdict, f"{said}, too near to tell" if verdict == "cannot be checked" else said


def _all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Of parts that are claimed together."""
    if "does not hold" in verdicts:
        return "does not hold"
    return "cannot be checked" if "cannot be checked" in verdicts else "holds"


def _patient_place(value: str, scene: Scene) -> Found:
    axis, sign = _SIDES.get(value, ("L", 0))
    measured = scene.body_offset(axis)
    if isinstance(measured, str):
        return "cannot be checked", measured
    said, share = _offset_in_words(measured, axis, scene.unit), measured.offset / measured.width
    if not sign:
        return _holds(
            abs(share) <= (ON_MIDLINE_SHARE if value == "midline" else MIDDLE_SHARE)
        ), said
    if abs(share) < MIDLINE_SHARE:
        return "cannot be checked", f"{said}, too near to tell a side"
    return _holds(share * sign > 0), said


def _offset_in_words(measured: BodyOffset, axis: PatientAxis, unit: str) -> str:
    low, high, middle = _WAYS[axis]
    way = high if measured.offset > 0 else low
    return f"centre {abs(measured.offset):.0f} {unit} {way} {middle}"


def _image_place(statement: Statement, scene: Scene) -> Found:
    x, y = scene.box_centre_share
    said = f"centre at {100 * x:.0f} % of the image's width and {100 * y:.0f} % of its height"
    tests: Mapping[str, bool] = {
        "left": x < 0.5, "right": x > 0.5, "upper": y < 0.5, "lower": y > 0.5,
    }  # fmt: skip
    others = [value for value in statement.values if value not in tests]
    vertical = {"upper", "lower"} & set(statement.values)
    horizontal = {"left", "right"} & set(statement.values)
    middles = ([] if vertical else [y]) + ([] if horizontal else [x])
    is_middle = not others or all(abs(share - 0.5) <= MIDDLE_SHARE for share in middles)
    holds = all(tests[value] for value in statement.values if value in tests)
    return _holds(holds and is_middle), said


def _brightness(statement: Statement, scene: Scene) -> Found:
    measured = scene.brightness
    if measured is None:
        return "cannot be checked", "the mask has no surroundings on this slice"
    said = f"grey {measured.grey_inside:.0f} inside, {measured.grey_around:.0f} around as displayed"
    if scene.shown.volume.modality == "CT" and not scene.shown.volume.is_picture:
        inside, around = measured.value_inside, measured.value_around
        said = f"mean {inside:.0f} HU inside, {around:.0f} HU around; {said}"
    least, most = {
        "bright": (BRIGHTER_GREY, inf),
        "dark": (-inf, -BRIGHTER_GREY),
        "grey": (-ALIKE_GREY, ALIKE_GREY),
    }[statement.values[0]]
    return _told(_compared(measured.difference, least, most, NEAR_GREY), said)


def _shape(statement: Statement, scene: Scene) -> Found:
    form = scene.form
    said = (
        f"box {form.box_aspect:.1f} times as long as wide, {100 * form.filled:.0f} % of it filled"
    )
    shape = statement.values[0]
    if shape == "irregular":
        return _told(_compared(form.filled, -inf, IRREGULAR_AT_MOST, NEAR_FILLED), said)
    if shape == "elongated":
        longest = max(form.box_aspect, form.axis_ratio)
        return _told(_ratio(longest, ELONGATED_FROM, inf), said)
    is_full = _compared(form.filled, FILLED_FROM, inf, NEAR_FILLED)
    limits = (-inf, ROUND_AT_MOST) if shape == "round" else OVAL
    return _told(_all_of([is_full, _ratio(form.box_aspect, *limits)]), said)


def _size(statement: Statement, scene: Scene) -> Found:
    if statement.values[0] == "largest":
        return "cannot be checked", "that needs the masks of all others"
    share = scene.share_of_body
    limits = (-inf, SMALL_AT_MOST) if statement.values[0] == "small" else (LARGE_FROM, inf)
    return _told(_ratio(share, *limits), f"{100 * share:.1f} % of the body's area on this slice")


def _ratio(value: float, least: float, most: float) -> Verdict:
    """As :func:`_compared`, near by a share of the limit that is the nearer one."""
    limit = least if abs(value - least) < abs(value - most) else most
    return _compared(value, least, most, NEAR_RATIO * limit)


def _holds(holds: bool) -> Verdict:
    return "holds" if holds else "does not hold"


_TESTS: Mapping[StatementKind, Callable[[Statement, Scene], Found]] = {
    "side": _place,
    "position": _place,
    "brightness": _brightness,
    "shape": _shape,
    "size": _size,
}
