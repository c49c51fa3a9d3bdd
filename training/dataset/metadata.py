# SPDX-License-Identifier: Apache-2.0
"""The first stage: what image, mask and label tell, before anything is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_training.dataset.opening import open_case
from medreasoner_training.dataset.pairs import LabelledImage, Pair
from medreasoner_training.dataset.sides import is_mirrored
from medreasoner_training.dataset.targets import NamedTarget, named_target, super_category
from medreasoner_training.embedded.phantom.anatomy import Label
from medreasoner_training.embedded.reasoner import reasonings
from medreasoner_training.embedded.reasoner.targets import GroundTruth as SeenTruth
from medreasoner_training.evaluation.errors import EvaluationDataError
from medreasoner_training.evaluation.readers.labelled import plain_name
from medreasoner_training.evaluation.rows import EvaluationRow
from medreasoner_training.samples.geometry import Truth, truth_on_square

EMPTY_MASK = "the mask is empty"
UNREADABLE = "image or mask cannot be read, or they do not fit each other"


@dataclass(frozen=True, eq=False)
class Pixels:
    """Displayed pixels, uint8 (H, W) or (H, W, 3), and a mask on them, bool (H, W)."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Metadata:
    """What is known of a pair; pixels are those of the image.

    Attributes:
        label: as the folder names it.
        named: what it means in the vocabulary.
        super_category: of the label.
        modality: in the folder's words.
        mirrored: whether the patient's left is on the right of the image; ``None`` if unknown.
        truth: box and key points, whole px.
        size_wh_px: of the image.
        area_share: of the mask on the image.
        place: ninth of the image in which the mask's box has its centre: ``upper left``.
        seen: brightness and shape in words: ``a bright oval region``.
        neighbour: nearest other label of the image and where the mask lies from it, or empty.
        at_percent: first key point, from the left and from the top, in percent of the image.
        is_alone: no other label of the image has the same name, so that the name tells it.
    """

    label: str
    named: NamedTarget
    super_category: str
    modality: str
    mirrored: bool | None
    truth: Truth
    size_wh_px: tuple[int, int]
    area_share: float
    place: str
    seen: str
    neighbour: str
    at_percent: tuple[int, int]
    is_alone: bool


def read_pixels(image: LabelledImage, pair: Pair) -> Pixels | str:
    """The image as displayed with the pair's mask, or why there is none."""
    row = EvaluationRow(id=pair.label, question="", image=image.path, mask=pair.mask)
    try:
        case = open_case(row)
    except EvaluationDataError:
        return UNREADABLE
    if case.mask is None:
        return EMPTY_MASK
    return Pixels(case.shown.image.pixels, case.mask)


def described_pairs(
    image: LabelledImage, pixels: Mapping[str, Pixels]
) -> list[tuple[Pair, Metadata]]:
    """The metadata of the pairs of an image.

    Args:
        image: with its pairs.
        pixels: by label, of the pairs that could be read.
    """
    truths = {label: truth_on_square(each.mask) for label, each in pixels.items()}
    found = {label: truth for label, truth in truths.items() if truth is not None}
    return [
        (pair, _metadata(image, pair, pixels[pair.label], found))
        for pair in image.pairs
        if pair.label in found
    ]


def _metadata(
    image: LabelledImage, pair: Pair, pixels: Pixels, truths: Mapping[str, Truth]
) -> Metadata:
    truth, named = truths[pair.label], named_target(pair.name)
    height, width = pixels.mask.shape
    x, y = _centre(truth)
    first_x, first_y = truth.points_xy_px[0]
    return Metadata(
        label=pair.label,
        named=named,
        super_category=super_category(pair.super_category, named),
        modality=image.modality,
        mirrored=is_mirrored(image.projection, image.modality),
        truth=truth,
        size_wh_px=(width, height),
        area_share=float(pixels.mask.mean()),
        place=reasonings.position_in_words(x / width, y / height, 1),
        seen=_seen(pixels, truth),
        neighbour=_neighbour(pair, truths),
        at_percent=(round(100 * first_x / width), round(100 * first_y / height)),
        is_alone=sum(other.name == pair.name for other in image.pairs) == 1,
    )


def _seen(pixels: Pixels, truth: Truth) -> str:
    grey = pixels.image if pixels.image.ndim == 2 else pixels.image.mean(axis=2)
    # The label plays no part in how bright and of what shape something is.
    shown = SeenTruth(Label.LIVER, pixels.mask, truth.bbox_xyxy_px, truth.points_xy_px)
    return reasonings.seen(grey.astype(np.uint8), shown)


def _centre(truth: Truth) -> tuple[float, float]:
    x1, y1, x2, y2 = truth.bbox_xyxy_px
    return (x1 + x2) / 2, (y1 + y2) / 2


def _neighbour(pair: Pair, truths: Mapping[str, Truth]) -> str:
    """``right of the liver``, in the image's directions; of labels of another meaning only."""
    x, y = _centre(truths[pair.label])
    own = named_target(pair.name).name
    others: Sequence[tuple[float, str, float, float]] = sorted(
        (np.hypot(x - ox, y - oy), label, x - ox, y - oy)
        for label, truth in truths.items()
        if _plain(label) != own
        for ox, oy in (_centre(truth),)
    )
    if not others:
        return ""
    _, label, dx, dy = others[0]
    right, left, below, above = reasonings.IN_THE_IMAGE
    across = abs(dx) > abs(dy)
    where = (right if dx > 0 else left) if across else (below if dy > 0 else above)
    return f"{where} the {_plain(label)}"


def _plain(label: str) -> str:
    return named_target(plain_name(label)).name
