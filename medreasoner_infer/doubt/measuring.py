# SPDX-License-Identifier: Apache-2.0
"""From an answer to its doubt: the record, and how many readings hold each voxel."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.doubt.calibration import doubt_calibration_of
from medreasoner_infer.doubt.looks import Asked, Look, looks_at
from medreasoner_infer.doubt.overlap import (
    mean_with_answer,
    named_readings,
    pairwise_dice,
    support_of,
)
from medreasoner_infer.doubt.volume import (
    doubtful_slices,
    followed_mask,
    followed_of,
    slice_figures,
    weights_of,
)
from medreasoner_infer.doubt_record import Doubt, DoubtfulSlice
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import SliceMapping, put_values, slice_of_mask


def measure_doubt(
    asked: Asked,
    mask_ijk: NDArray[np.uint8],
    predicted_ious: Mapping[int, float],
    propagated: bool,
    hooks: Hooks,
) -> tuple[Doubt, NDArray[np.uint8]]:
    """Read the slice again, and follow what differs through the volume.

    Args:
        asked: what was asked and answered.
        mask_ijk: the answer's mask (I, J, K), 0 or 1.
        predicted_ious: the segmenter's estimate by slice that it segmented.
        propagated: whether the mask was carried through the volume.
        hooks: the caller's.

    Returns:
        The doubt, and by voxel (I, J, K) how many readings hold it.

    Raises:
        ServiceError: a model cannot answer now.
        CancelledError: the caller cancelled.
    """
    mapping = asked.shown.mapping
    looks = looks_at(asked, slice_of_mask(mask_ijk, mapping), hooks)
    dice = pairwise_dice(looks)
    agreement = round(mean_with_answer(dice), 4)
    iou = predicted_ious.get(mapping.index) if looks[0].mask.any() else None
    calibration = doubt_calibration_of(asked.reasoner.identity, asked.segmenter.identity)
    understood = looks[0].outcome != "not_understood"
    probability = None
    if calibration is not None:
        probability = calibration.probability(agreement, iou, understood=understood)
    readings_ijk = np.zeros(mask_ijk.shape, dtype=np.uint8, order="F")
    followed: list[int] = []
    if propagated:
        followed = followed_of(looks, dice)
        weights = weights_of(looks, dice, followed)
        readings_ijk += mask_ijk * np.uint8(weights[0])
        for at, weight in zip(followed[1:], weights[1:], strict=True):
            mask = followed_mask(looks[at], asked.segmenter, hooks)
            readings_ijk += mask * np.uint8(weight)
    put_values(_counts(looks), mapping, readings_ijk)
    slices: tuple[DoubtfulSlice, ...] = ()
    if propagated:
        slices = _slices(mask_ijk, readings_ijk, len(looks), mapping, predicted_ious)
    doubt = Doubt(
        readings=len(looks),
        agreement=agreement,
        named=named_readings(looks, dice),
        probability=probability,
        support=round(support_of(agreement, iou, understood=understood), 4),
        followed=len(followed),
        doubtful_slices=slices,
    )
    return doubt, readings_ijk


def _counts(looks: tuple[Look, ...]) -> NDArray[np.uint8]:
    """How many readings hold each pixel (H, W)."""
    counts: NDArray[np.uint8] = np.sum([look.mask for look in looks], axis=0, dtype=np.uint8)
    return counts


def _slices(
    mask_ijk: NDArray[np.uint8],
    readings_ijk: NDArray[np.uint8],
    readings: int,
    mapping: SliceMapping,
    predicted_ious: Mapping[int, float],
) -> tuple[DoubtfulSlice, ...]:
    mask, counts = (np.moveaxis(a, mapping.slice_axis, 0) for a in (mask_ijk, readings_ijk))
    distance = px_per_slice(mapping)
    return doubtful_slices(slice_figures(mask, counts, readings, distance, predicted_ious))


def px_per_slice(mapping: SliceMapping) -> float:
    """Distance of two slices in sides of a pixel; infinite where the image tells no scale."""
    if not mapping.spacing_known:
        return math.inf
    x_mm, y_mm = mapping.spacing_xy_mm
    slice_mm = float(np.linalg.norm(mapping.ijk_to_lps[:3, mapping.slice_axis]))
    return slice_mm / math.sqrt(x_mm * y_mm)
