# SPDX-License-Identifier: Apache-2.0
"""The completion that an image demands: what is seen of a target in words, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from medreasoner_infer.answer import format_answer
from medreasoner_infer.language import FactKind, led_by_sentence

from ..phantom.anatomy import Label
from ..queries import known_targets
from .targets import GroundTruth

PRESENCE_WORDS = (" a", " which")
"""First word after the name's comma of a reasoning: of a visible and of an absent target."""

UNKNOWN_PICTURE = "This is no picture of a kind that this model knows."
"""Reasoning of an answer that is not understood, like those of ``reasoners.known_targets``."""

FINDINGS = frozenset(
    {Label.LIVER_LESION, Label.KIDNEY_CYST, Label.LUNG_TUMOUR, Label.PLEURAL_EFFUSION}
)
"""Findings; a reasoning names an organ as the neighbour, never a finding."""


def position_in_words(x: float, y: float, size_px: int) -> str:
    """Which ninth of the image a point lies in, e.g. ``"upper left"`` or ``"centre"``."""
    row = ("upper", "middle", "lower")[min(2, int(3 * y / size_px))]
    column = ("left", "centre", "right")[min(2, int(3 * x / size_px))]
    if row == "middle":
        return "centre" if column == "centre" else f"middle {column}"
    return f"{row} {column}"


def _shape(truth: GroundTruth) -> str:
    x0, y0, x1, y1 = truth.bbox_xyxy_px
    width, height = x1 - x0, y1 - y0
    if truth.mask.sum() < 0.5 * width * height:
        return "irregular"
    aspect = max(width, height) / min(width, height)
    return "round" if aspect < 1.25 else "oval" if aspect < 1.9 else "elongated"


def _brightness(grey: np.ndarray, truth: GroundTruth) -> str:
    x0, y0, x1, y1 = truth.bbox_xyxy_px
    around = np.s_[max(0, y0 - 4) : y1 + 4, max(0, x0 - 4) : x1 + 4]
    mask, values = truth.mask[around], grey[around]
    ring = ndimage.binary_dilation(mask, iterations=4) & ~mask
    difference = float(values[mask].mean() - values[ring].mean()) if ring.any() else 0.0
    return "bright" if difference > 15 else "dark" if difference < -15 else "grey"


def patient_place_in_words(x: float, y: float, size_px: int) -> str:
    """The same ninth of an axial slice in the patient's directions: ``"at the patient's back"``."""
    row = ("front", "", "back")[min(2, int(3 * y / size_px))]
    column = ("right", "", "left")[min(2, int(3 * x / size_px))]
    where = f"{row} {column}".strip()
    return f"at the patient's {where}" if where else "in the patient's middle"


Relations = tuple[str, str, str, str]
IN_THE_IMAGE: Relations = ("right of", "left of", "below", "above")
OF_THE_PATIENT: Relations = ("left of", "right of", "behind", "in front of")
"""Where something lies that is to the right, the left, below and above on an axial slice as
displayed, whose left is the patient's right and whose top the front."""


def _relation(centre: tuple[float, float], other: tuple[float, float], relations: Relations) -> str:
    dx, dy = centre[0] - other[0], centre[1] - other[1]
    if abs(dx) > abs(dy):
        return relations[0] if dx > 0 else relations[1]
    return relations[2] if dy > 0 else relations[3]


def _centre(bbox: tuple[int, int, int, int]) -> tuple[float, float]:
    return (bbox[0] + bbox[2]) / 2, (bbox[1] + bbox[3]) / 2


def _neighbour(truths: Mapping[Label, GroundTruth], label: Label, relations: Relations) -> str:
    x, y = _centre(truths[label].bbox_xyxy_px)
    organs = [other for other in truths if other != label and other not in FINDINGS]
    if not organs:
        return ""
    centres = {other: _centre(truths[other].bbox_xyxy_px) for other in organs}
    nearest = min(organs, key=lambda other: np.hypot(x - centres[other][0], y - centres[other][1]))
    return f", {_relation((x, y), centres[nearest], relations)} the {known_targets()[nearest].name}"


def present_reasoning(grey: np.ndarray, truths: Mapping[Label, GroundTruth], label: Label) -> str:
    """What is seen of a target: brightness against its surroundings, shape, place, neighbour.

    Left and right are those of the image, not of the patient; place and relation are those of the
    boxes' centres. The shipped weights write so.

    Args:
        grey: uint8 of shape (S, S).
        truths: the visible targets of this image.
        label: which of them is asked for.
    """
    truth = truths[label]
    where = position_in_words(*_centre(truth.bbox_xyxy_px), len(grey))
    return (
        f"{stated(known_targets()[label].name)} {seen(grey, truth)} in the {where} of the "
        f"image{_neighbour(truths, label, IN_THE_IMAGE)}."
    )


def torso_reasoning(
    grey: np.ndarray,
    truths: Mapping[Label, GroundTruth],
    label: Label,
    led_by: FactKind | None,
    name: str,
) -> str:
    """The same of an axial slice with the patient's sides, and what in the question led to it.

    Args:
        grey: uint8 of shape (S, S).
        truths: the visible targets of this image.
        label: which of them is asked for.
        led_by: the kind of fact that leads to it; ``None`` where it is called by a name.
        name: of the target.
    """
    truth = truths[label]
    where = patient_place_in_words(*_centre(truth.bbox_xyxy_px), len(grey))
    return (
        f"{stated(name)} {seen(grey, truth)} {where}{_neighbour(truths, label, OF_THE_PATIENT)}."
        f"{led_by_sentence(led_by)}"
    )


def picture_reasoning(
    grey: np.ndarray, truth: GroundTruth, led_by: FactKind | None, name: str
) -> str:
    """What is seen of a target of a picture whose directions are not the patient's."""
    where = position_in_words(*_centre(truth.bbox_xyxy_px), len(grey))
    text = f"{stated(name)} {seen(grey, truth)} in the {where} of the image."
    return text + led_by_sentence(led_by)


def stated(name: str) -> str:
    """The beginning of a reasoning, which the question alone decides."""
    return f"The question points to the {name},"


def seen(grey: np.ndarray, truth: GroundTruth) -> str:
    """``a bright oval region``."""
    return f"a {_brightness(grey, truth)} {_shape(truth)} region"


def absent_reasoning(
    truths: Mapping[Label, GroundTruth],
    label: Label | None,
    led_by: FactKind | None = None,
    name: str = "",
) -> str:
    """Why the answer is null, and the largest target that the slice shows instead."""
    text = stated(name or ("" if label is None else known_targets()[label].name))
    text = f"{text} which is not visible on this slice"
    if truths:
        largest = max(truths, key=lambda other: int(truths[other].mask.sum()))
        text = f"{text} of the {known_targets()[largest].name}"
    return f"{text}.{led_by_sentence(led_by)}"


def answer_text(reasoning: str, truth: GroundTruth | None) -> str:
    """The completion: reasoning and compact JSON, or ``null`` for an absent target."""
    if truth is None:
        return format_answer(reasoning, None, None)
    return compact(format_answer(reasoning, truth.bbox_xyxy_px, truth.points_xy_px))


def refusal_text(reasoning: str) -> str:
    """The completion of a question that is not understood."""
    return format_answer(reasoning, None, None, outcome="not_understood")


def compact(completion: str) -> str:
    """A completion whose JSON holds no spaces, as the embedded reasoner writes it."""
    thought, tag, body = completion.rpartition("<answer>")
    return thought + tag + body.replace(" ", "")
