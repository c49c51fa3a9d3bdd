# SPDX-License-Identifier: Apache-2.0
"""What must hold for every row, and for the rows of a data set together.

A fault is a sentence that stands for itself in a table of counts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_infer.language import Language, Side, plain_text
from medreasoner_infer.types import XY, XYXY
from medreasoner_training.dataset.sides import told_sides
from medreasoner_training.dataset.targets import NamedTarget, names_target
from medreasoner_training.licences import is_non_commercial
from medreasoner_training.samples import TRAIN

EMPTY_QUESTION = "the question is empty"
NAMES_TARGET = "an implicit question names its target"
NAMES_NOTHING = "an explicit question does not name its target"
WRONG_SIDE = "the question speaks of the other side of the patient"
MASK_ON_OTHER_SIDE = "the mask lies on the other side of the patient than its label says"
POINT_OUTSIDE = "a key point lies outside the mask"
BOX_NOT_TIGHT = "the box is not tight around the mask"
NO_MASK = "the target is present but has no mask"
MASK_OF_ABSENT = "the target is absent but its mask is not empty"
NO_CATEGORY = "the target has no name"
NO_LICENCE = "the licence is missing"
NO_SPLIT = "the split is missing"
TRAINS_UNLICENSED = "a row that may not be trained on says that it may, or is in the training split"
DUPLICATE = "the question was asked about this image before"
CONTRADICTION = "the same question about this image has another answer"
PATIENT_IN_TWO_SPLITS = "the patient is in two splits"
IMAGE_IN_TWO_SPLITS = "the image is in two splits"
UNREADABLE = "the row's pictures or ground truth cannot be read"

EDGE_TOLERANCE_PX = 1.0
"""Some data sets count the last pixel in a box and others the edge behind it."""


@dataclass(frozen=True, eq=False)
class Checkable:
    """A row as far as it is checked; pixels are those of its image.

    Attributes:
        question: in words.
        kind: ``implicit``, ``explicit`` or empty where that is unknown.
        language: code, or empty.
        named: the target.
        bbox_xyxy_px: edge based; ``None`` where the target is absent.
        points_xy_px: the key points; empty likewise.
        mask: bool (H, W); ``None`` where there is none.
        mirrored: whether the patient's left is on the right of the image; ``None`` if unknown.
        licence: of the row; empty where it is not told.
        split: likewise.
        may_train: likewise; ``None``.
    """

    question: str
    kind: str
    language: str
    named: NamedTarget
    bbox_xyxy_px: XYXY | None
    points_xy_px: tuple[XY, ...]
    mask: NDArray[np.bool_] | None
    mirrored: bool | None
    licence: str
    split: str
    may_train: bool | None


@dataclass(frozen=True)
class Carried:
    """What the rows of a data set are expected to tell, as some of them do."""

    licence: bool = True
    split: bool = True


def faults_of(row: Checkable, carried: Carried) -> list[str]:
    """All that is wrong with a row by itself."""
    return [*_of_question(row), *_of_mask(row), *_of_terms(row, carried)]


def _of_question(row: Checkable) -> Iterator[str]:
    if not plain_text(row.question):
        yield EMPTY_QUESTION
        return
    if not plain_text(row.named.label):
        yield NO_CATEGORY
        return
    named = names_target(row.question, row.named)
    if row.kind == "implicit" and named:
        yield NAMES_TARGET
    if row.kind == "explicit" and not named:
        yield NAMES_NOTHING
    language = cast(Language, row.language if row.language in get_args(Language) else "en")
    told = told_sides(row.question, language)
    if row.named.side is not None and told and row.named.side not in told:
        yield WRONG_SIDE


def _of_mask(row: Checkable) -> Iterator[str]:
    filled = row.mask is not None and bool(row.mask.any())
    if row.bbox_xyxy_px is None:
        if filled:
            yield MASK_OF_ABSENT
        return
    if row.mask is None or not filled:
        yield NO_MASK
        return
    if not all(_is_inside(point, row.mask) for point in row.points_xy_px):
        yield POINT_OUTSIDE
    tight = bbox_from_mask(row.mask)
    assert tight is not None  # nosec B101 # the mask is filled
    edges = zip(row.bbox_xyxy_px, tight, strict=True)
    if any(abs(told - true) > EDGE_TOLERANCE_PX for told, true in edges):
        yield BOX_NOT_TIGHT
    lies_on = _side_of(row.mask, row.mirrored)
    if None not in (lies_on, row.named.side) and lies_on != row.named.side:
        yield MASK_ON_OTHER_SIDE


def _of_terms(row: Checkable, carried: Carried) -> Iterator[str]:
    if carried.licence and not row.licence.strip():
        yield NO_LICENCE
    if carried.split and not row.split.strip():
        yield NO_SPLIT
    forbidden = row.may_train is False or is_non_commercial(row.licence)
    if forbidden and (row.may_train or row.split == TRAIN):
        yield TRAINS_UNLICENSED


def _is_inside(point: XY, mask: NDArray[np.bool_]) -> bool:
    column, row = math.floor(point[0]), math.floor(point[1])
    height, width = mask.shape
    return 0 <= row < height and 0 <= column < width and bool(mask[row, column])


def _side_of(mask: NDArray[np.bool_], mirrored: bool | None) -> Side | None:
    """The patient's side on which a mask lies; ``None`` if unknown, or if it crosses the middle."""
    if mirrored is None:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    middle = mask.shape[1] / 2
    if columns[0] < middle <= columns[-1] and abs(columns.mean() - middle) < mask.shape[1] / 8:
        return None
    on_left_of_image = bool(columns.mean() < middle)
    return "right" if on_left_of_image == mirrored else "left"


@dataclass
class TogetherChecks:
    """What the rows of a data set must not do together; add them in their order.

    The first of several equal ones is right, of contradicting ones and of split ones too.
    """

    _asked: dict[tuple[str, str], str] = field(default_factory=dict)
    _split_of_patient: dict[str, str] = field(default_factory=dict)
    _split_of_image: dict[str, str] = field(default_factory=dict)

    def add(
        self, picture: bytes, question: str, target: bytes, patient: str, split: str
    ) -> str | None:
        """Take note of a row, and tell what is wrong with it beside the earlier ones.

        Args:
            picture: the image, encoded or its pixels, as for all rows.
            question: in words.
            target: what the answer is, likewise; equal for absent targets.
            patient: pseudonym; empty where nobody told it.
            split: of the row.
        """
        image, answer = (hashlib.sha256(content).hexdigest() for content in (picture, target))
        if self._split_of_image.get(image, split) != split:
            return IMAGE_IN_TWO_SPLITS
        if patient and self._split_of_patient.get(patient, split) != split:
            return PATIENT_IN_TWO_SPLITS
        earlier = self._asked.get((image, plain_text(question)))
        if earlier is not None:
            return DUPLICATE if earlier == answer else CONTRADICTION
        self._asked[image, plain_text(question)] = answer
        self._split_of_image[image] = split
        if patient:
            self._split_of_patient[patient] = split
        return None
