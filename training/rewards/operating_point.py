# SPDX-License-Identifier: Apache-2.0
"""What a right answer without a box is worth: as much as a box of the operating quality.

Let a reasoner hold a target for present with probability p. Beyond the format's credit, which every
outcome keeps, a box earns p B, B being what it is worth where the target is there, and *not
present* earns (1 - p) A. The box is the better answer whenever p > A / (A + B), so A = B puts the
border at 1/2. A is therefore what a box of the *operating IoU* earns, term by term, which holds for
every selection of terms and every weight; of the ways to have that IoU the least rewarded counts:

* the box has the target's size and is moved along the line of its key points,
* it is too large about the target's centre,
* or too small about it,

its key points keeping their places in the box. A better box pays already at a smaller p. A hit
(*base*) is 0 or 1, so that one IoU tells nothing of its mean: the operating IoU is taken for the
share of answers that hit. *Not understood* is worth the same where it is right.
"""

from __future__ import annotations

import math
from functools import cache

from medreasoner_infer.types import XY, XYXY
from medreasoner_training.rewards.box_terms import measure_box
from medreasoner_training.rewards.config import BASE_TERMS
from medreasoner_training.rewards.ground_truth import GroundTruth
from medreasoner_training.rewards.point_terms import measure_points

# Four times as long as wide: the longer a target, the less is left of a box that is moved along it.
_LENGTH_PX = 200.0
_TARGET = GroundTruth((0.0, 0.0, _LENGTH_PX, 50.0), ((50.0, 25.0), (150.0, 25.0)))
_CENTRE = (_LENGTH_PX / 2, 25.0)


@cache
def credit_without_box(term: str, operating_iou: float) -> float:
    """What a term other than the format earns for a right *not present* or *not understood*.

    Args:
        term: of any mode.
        operating_iou: above 0, at most 1; at 1 the credit is that of a perfect box.
    """
    if term in BASE_TERMS:
        return operating_iou
    return min(_terms_of(answer)[term] for answer in operating_answers(operating_iou))


def operating_answers(operating_iou: float) -> tuple[GroundTruth, GroundTruth, GroundTruth]:
    """Box and key points of the moved, the large and the small answer to a long target (px)."""
    shift = _LENGTH_PX * (1 - operating_iou) / (1 + operating_iou)
    side = math.sqrt(operating_iou)
    return _transformed(1.0, shift), _transformed(1 / side, 0.0), _transformed(side, 0.0)


def _transformed(scale: float, shift_px: float) -> GroundTruth:
    def put(x: float, y: float) -> XY:
        cx, cy = _CENTRE
        return cx + scale * (x - cx) + shift_px, cy + scale * (y - cy)

    x1, y1, x2, y2 = _TARGET.bbox_xyxy_px
    box: XYXY = (*put(x1, y1), *put(x2, y2))
    first, second = (put(x, y) for x, y in _TARGET.points_xy_px)
    return GroundTruth(box, (first, second))


def _terms_of(answer: GroundTruth) -> dict[str, float]:
    box = measure_box(answer.bbox_xyxy_px, _TARGET, hard=True)
    return box.terms() | measure_points(answer.points_xy_px, _TARGET, hard=True).terms()
