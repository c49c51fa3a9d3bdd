# SPDX-License-Identifier: Apache-2.0
"""From a row to pixels and truth, on the slice that a reader would be shown."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import (
    Volume,
    choose_window,
    default_plane,
    load_volume,
    slice_count,
    slice_mapping,
    slice_values,
)
from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.language.kinds import modality_called
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_training.evaluation.errors import EvaluationDataError
from medreasoner_training.evaluation.rows import Encoded, EvaluationRow
from medreasoner_training.rewards import GroundTruth, GroundTruthError, read_ground_truth
from medreasoner_training.rewards.ground_truth import require_area

_GREY_LEVELS_ABOVE = 127


@dataclass(frozen=True, eq=False)
class Case:
    """A row with its pixels.

    Attributes:
        row: what was read.
        shown: the image, its pixels as *slice px*, and the square that the reasoner reads.
        mask: bool (H, W) in slice px; ``None`` where the row has none.
        truth: box and key points in slice px; ``None`` where the target is absent.
    """

    row: EvaluationRow
    shown: DisplayedSlice
    mask: NDArray[np.bool_] | None
    truth: GroundTruth | None

    @property
    def modality(self) -> str:
        """The code of DICOM that the data set's words come to; empty where they tell none."""
        return modality_called(self.row.modality)


def load_case(row: EvaluationRow, model_size: int) -> Case:
    """Open a row's pictures.

    Args:
        row: of any reader.
        model_size: side of the square that the reasoner reads, in reasoner px.

    Raises:
        EvaluationDataError: a picture cannot be read, has several slices or another size than its
            image, a mask is no mask, or the ground truth is malformed.
    """
    image = _volume(row.image, row.id, "image")
    plane = default_plane(image)
    shown = DisplayedSlice.of(image, plane, 0, choose_window(image), model_size=model_size)
    mask = None if row.mask is None else _mask(row, shown)
    try:
        truth = _truth(row, mask, shown)
    except GroundTruthError as error:
        raise EvaluationDataError(f"Row {row.id!r}: {error}") from error
    return Case(row, shown, mask if truth is not None else None, truth)


def _volume(picture: Encoded, row_id: str, what: str) -> Volume:
    try:
        volume = load_volume(picture) if isinstance(picture, Path) else _from_bytes(picture)
    except UnreadableImageError as error:
        raise EvaluationDataError(f"The {what} of row {row_id!r}: {error}") from error
    if slice_count(volume, default_plane(volume)) != 1:
        raise EvaluationDataError(
            f"The {what} of row {row_id!r} has several slices; expected a picture of one slice."
        )
    return volume


def _from_bytes(content: bytes) -> Volume:
    """As from a file, which alone is opened by the library's checks; none stays on the disk."""
    with tempfile.TemporaryDirectory(prefix="medreasoner-") as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        return load_volume(path)


def _mask(row: EvaluationRow, shown: DisplayedSlice) -> NDArray[np.bool_] | None:
    """The mask, bool (H, W); ``None`` where it is empty.

    Grey levels between black and white, of a mask that was resized or saved as JPEG, are cut in
    the middle.
    """
    assert row.mask is not None  # nosec B101 # for the type checker
    volume = _volume(row.mask, row.id, "mask")
    mapping = slice_mapping(volume, default_plane(volume), 0)
    values = slice_values(volume, mapping)
    if values.ndim == 3:
        values = values.max(axis=2)
    if values.shape != shown.mapping.shape_hw:
        raise EvaluationDataError(
            f"The mask of row {row.id!r} has {values.shape[1]} x {values.shape[0]} pixels, its "
            f"image {shown.mapping.shape_hw[1]} x {shown.mapping.shape_hw[0]}; expected the same."
        )
    levels = np.unique(values)
    if len(levels) > 2 and levels[-1] <= _GREY_LEVELS_ABOVE:
        raise EvaluationDataError(
            f"The mask of row {row.id!r} holds {len(levels)} values like a label map; expected 0 "
            "outside the target and one other value inside. Save a mask for each target."
        )
    mask = np.asarray(values > (_GREY_LEVELS_ABOVE if len(levels) > 2 else 0))
    return mask if mask.any() else None


def _truth(
    row: EvaluationRow, mask: NDArray[np.bool_] | None, shown: DisplayedSlice
) -> GroundTruth | None:
    """What the row tells, else what its mask does: tight box, centres of two inscribed discs."""
    if row.ground_truth is not None:
        truth = read_ground_truth(row.ground_truth)
        if truth is not None:
            require_area(truth)
        return truth
    if mask is None:
        return None
    box, points = bbox_from_mask(mask), key_points_from_mask(mask, shown.mapping.spacing_xy_mm)
    return None if box is None or points is None else GroundTruth(box, points)
