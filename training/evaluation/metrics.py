# SPDX-License-Identifier: Apache-2.0
"""The measures of an answer, each defined once; what is published otherwise has a name of its own.

==================== ======================================= ==================================
measure              what                                    as published
==================== ======================================= ==================================
``box_iou``          IoU of the boxes, 0...1                 the same
``pdice``            Dice of the discs whose diameters the   ``pdice_as_released``: divided by
                     pairs of key points are, 0...1          the union, so that a perfect answer
                                                             has 2
``dice``             Dice of the masks, 0...1                the same
``surface_dice``     share of both outlines that lie within  not published
                     1 % of the image's longer side
``hausdorff95_px``   95th percentile of the distances of     not published
                     the outlines
==================== ======================================= ==================================

All are of a present target. An answer without a box or key points has 0 in the overlaps, as it has
in the published evaluation, and no distance.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.types import XY, XYXY
from medreasoner_training.rewards import GroundTruth, pdice_as_released
from medreasoner_training.rewards.point_terms import measure_points

if TYPE_CHECKING:
    from torch import Tensor

SURFACE_TOLERANCE = 0.01


@dataclass(frozen=True)
class PromptScores:
    """How well a box and two key points lie; see the module."""

    box_iou: float = 0.0
    pdice: float = 0.0
    pdice_as_released: float = 0.0


@dataclass(frozen=True)
class MaskScores:
    """How well a mask lies; see the module. There is no distance from an empty mask."""

    dice: float = 0.0
    surface_dice: float = 0.0
    hausdorff95_px: float | None = None


def prompt_scores(
    bbox_xyxy_px: XYXY, points_xy_px: tuple[XY, XY], truth: GroundTruth
) -> PromptScores:
    """Measure an answer's box and key points, in the pixels of the truth."""
    return PromptScores(
        float(box_iou(bbox_xyxy_px, truth.bbox_xyxy_px)),
        measure_points(points_xy_px, truth, hard=False).disc_dice,
        pdice_as_released(points_xy_px, truth.points_xy_px),
    )


def mask_scores(mask: NDArray[np.bool_], true_mask: NDArray[np.bool_]) -> MaskScores:
    """Measure a mask, bool (H, W), against a true one that is not empty, by MONAI.

    Raises:
        MissingExtraError: MONAI is not installed.
    """
    if not mask.any():
        return MaskScores()
    metrics, found, true = _monai(), _batched(mask), _batched(true_mask)
    tolerance = [SURFACE_TOLERANCE * max(true_mask.shape)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of its own deprecated arguments
        surface = metrics.compute_surface_dice(found, true, tolerance, include_background=True)
        distance = metrics.compute_hausdorff_distance(
            found, true, include_background=True, percentile=95
        )
    return MaskScores(mask_dice(mask, true_mask), float(surface), float(distance))


def mask_dice(mask: NDArray[np.bool_], true_mask: NDArray[np.bool_]) -> float:
    """Dice of two masks, bool (H, W), of which the second is not empty, by MONAI.

    Raises:
        MissingExtraError: MONAI is not installed.
    """
    metrics = _monai()
    return float(metrics.compute_dice(_batched(mask), _batched(true_mask), include_background=True))


def _monai() -> ModuleType:
    try:
        from monai import metrics
    except ModuleNotFoundError as error:
        raise MissingExtraError("monai", "train") from error
    return metrics


def _batched(mask: NDArray[np.bool_]) -> Tensor:
    """float32 (1, 1, H, W), as MONAI takes masks of one class."""
    import torch

    return torch.from_numpy(mask[None, None].astype(np.float32))
