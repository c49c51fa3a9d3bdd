# SPDX-License-Identifier: Apache-2.0
"""What a reasoner should answer for a target of a labelled image, in words and numbers.

All positions are *model px*: pixels of the letterboxed square, edge based.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask

from ..phantom.anatomy import PARTS, Label
from .queries import known_targets

MIN_AREA_PX = 40
"""Smaller sections are neither asked for nor called absent."""


PRESENCE_WORDS = (" a", " which")
"""First word after the name's comma of a reasoning: of a visible and of an absent target."""

LESIONS = frozenset(
    {Label.LIVER_LESION, Label.KIDNEY_CYST, Label.LUNG_TUMOUR, Label.PLEURAL_EFFUSION}
)
"""Findings; a reasoning names an organ as the neighbour, never a finding."""


@dataclass(frozen=True)
class GroundTruth:
    """Box and key points of one target (integers, model px) and its mask, bool (S, S)."""

    label: Label
    mask: np.ndarray
    bbox_xyxy_px: tuple[int, int, int, int]
    points_xy_px: tuple[tuple[int, int], tuple[int, int]]


def target_mask(labels: np.ndarray, label: Label) -> np.ndarray:
    """Mask of a target in a label map; a lesion belongs to its organ."""
    mask = labels == label
    for part in PARTS.get(label, ()):
        mask |= labels == part
    return mask


def key_points_px(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """The two key points of a non-empty mask as the pixels that hold them, left one first.

    Left to right rather than larger disc first: the order then does not depend on small changes of
    the outline.
    """
    left, right = sorted((int(x), int(y)) for x, y in key_points_from_mask(mask))
    return left, right


def _integer_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (int(edge) for edge in bbox_from_mask(mask))
    return x0, y0, x1, y1


def ground_truth(labels: np.ndarray, label: Label) -> GroundTruth | None:
    """Box and key points of a target; ``None`` where its section is too small to ask for."""
    mask = target_mask(labels, label)
    if int(mask.sum()) < MIN_AREA_PX:
        return None
    return GroundTruth(label, mask, _integer_box(mask), key_points_px(mask))


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


def _brightness(grey: np.ndarray, mask: np.ndarray) -> str:
    ring = ndimage.binary_dilation(mask, iterations=4) & ~mask
    difference = float(grey[mask].mean()) - float(grey[ring].mean()) if ring.any() else 0.0
    return "bright" if difference > 15 else "dark" if difference < -15 else "grey"


def _relation(centre: tuple[float, float], other: tuple[float, float]) -> str:
    dx, dy = centre[0] - other[0], centre[1] - other[1]
    if abs(dx) > abs(dy):
        return "right of" if dx > 0 else "left of"
    return "below" if dy > 0 else "above"


def _centre(bbox: tuple[int, int, int, int]) -> tuple[float, float]:
    return (bbox[0] + bbox[2]) / 2, (bbox[1] + bbox[3]) / 2


def _neighbour(labels: np.ndarray, truth: GroundTruth) -> str:
    x, y = _centre(truth.bbox_xyxy_px)
    best, phrase = np.inf, ""
    for label in np.unique(labels):
        if label in (Label.BACKGROUND, truth.label, *LESIONS):
            continue
        mask = labels == label
        if mask.sum() < MIN_AREA_PX:
            continue
        other = _centre(_integer_box(mask))
        gap = np.hypot(x - other[0], y - other[1])
        if gap < best:
            best = gap
            phrase = f", {_relation((x, y), other)} the {known_targets()[Label(label)].name}"
    return phrase


def present_reasoning(grey: np.ndarray, labels: np.ndarray, truth: GroundTruth) -> str:
    """What is seen of a target: brightness against its surroundings, shape, place, neighbour.

    Left and right are those of the image, not of the patient; place and relation are those of the
    boxes' centres.
    """
    where = position_in_words(*_centre(truth.bbox_xyxy_px), len(grey))
    return (
        f"The question points to the {known_targets()[truth.label].name}, a "
        f"{_brightness(grey, truth.mask)} {_shape(truth)} region in the {where} of the image"
        f"{_neighbour(labels, truth)}."
    )


def absent_reasoning(labels: np.ndarray, label: Label) -> str:
    """Why the answer is null: what the slice shows instead."""
    sizes = np.bincount(labels.ravel(), minlength=len(Label))
    shown = [other for other in np.argsort(-sizes) if other and sizes[other] >= MIN_AREA_PX][:1]
    name = known_targets()[label].name
    text = f"The question points to the {name}, which is not visible on this slice"
    return text + (f" of the {known_targets()[Label(shown[0])].name}." if shown else ".")


def answer_text(reasoning: str, truth: GroundTruth | None) -> str:
    """The completion: reasoning and compact JSON, or ``null`` for an absent target."""
    if truth is None:
        return f"<think>{reasoning}</think><answer>null</answer>"
    box = ",".join(map(str, truth.bbox_xyxy_px))
    first, second = (f"[{x},{y}]" for x, y in truth.points_xy_px)
    return (
        f"<think>{reasoning}</think>"
        f'<answer>{{"bbox":[{box}],"points_1":{first},"points_2":{second}}}</answer>'
    )
