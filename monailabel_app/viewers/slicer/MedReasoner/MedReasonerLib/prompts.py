# SPDX-License-Identifier: Apache-2.0
"""Box and points: as the server states them (LPS), as markups (RAS), and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import ViewerError
from .geometry import Grid, box_of_roi, ras_lps, roi_of_box
from .viewer import Prompts


def prompts_of_answer(answer: Mapping[str, Any], grid: Grid) -> Prompts | None:
    """The markups of an answer on a volume, ``None`` where it has neither box nor points."""
    stated = answer.get("prompts")
    if stated is None:
        return None
    corners = stated.get("bbox_corners_lps_mm")
    box = None
    if corners is not None:
        box = roi_of_box(np.array(corners), answer["slice"]["plane"], grid)
    points = ras_lps(np.reshape(stated["points_lps_mm"], (-1, 3)))
    inside = np.array(stated["point_labels"], dtype=bool)
    return Prompts(box, points[inside], points[~inside])


def correction_of(prompts: Prompts, plane: str, grid: Grid) -> dict[str, Any]:
    """What ``streams/segment`` takes: the reader's own box and points on a plane of a volume.

    Raises:
        ViewerError: if there is neither a box nor a point inside the target.
    """
    if prompts.box is None and not len(prompts.inside_ras_mm):
        raise ViewerError("Draw a box or set a point inside the target.")
    box = [] if prompts.box is None else box_of_roi(prompts.box, plane, grid).tolist()
    return {
        "plane": plane,
        "box": box,
        "inside": ras_lps(prompts.inside_ras_mm).tolist(),
        "outside": ras_lps(prompts.outside_ras_mm).tolist(),
    }
