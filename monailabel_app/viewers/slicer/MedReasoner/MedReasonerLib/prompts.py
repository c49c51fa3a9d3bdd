# SPDX-License-Identifier: Apache-2.0
"""Box and points: as the server states them (LPS), as markups (RAS), and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import ViewerError
from .geometry import Grid, box_of_roi, ras_lps, roi_of_box
from .lassos import point_of_lasso
from .masks import Mask, runs_text
from .viewer import Prompts

# What a markup gives back of what it was given.
_SAME_POINT_MM = 1e-3
_SAME_BOX_VOXEL = 0.05


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


def correction_of(
    prompts: Prompts,
    plane: str,
    grid: Grid,
    answer: Mapping[str, Any] | None = None,
    last: Mask | None = None,
) -> dict[str, Any]:
    """What ``streams/segment`` takes: box and points on a plane of a volume.

    Args:
        answer: the ``prompts`` of the answer; points that it has are told from the reader's new
            ones, which ``inside`` and ``outside`` hold.
        last: the mask on the screen. New points and lassos correct it; where the box was moved, or
            none of them is new, box and points are segmented anew without it.

    Raises:
        ViewerError: if there is neither a box nor a point inside the target nor a mask, or a lasso
            cannot be told.
    """
    box = [] if prompts.box is None else box_of_roi(prompts.box, plane, grid).tolist()
    known, inside, outside = _told_apart(prompts, answer)
    lassos = _lassos(prompts, plane, grid)
    values = {
        "plane": plane,
        "box": box,
        "box_by": "reader",
        "points": known + lassos,
        "inside": inside,
        "outside": outside,
    }
    stated = None if answer is None else answer["bbox_corners_lps_mm"]
    if _same_box(box, stated, grid):
        if answer is not None and box:
            values["box_by"] = answer.get("bbox_source") or "reader"
        if last is not None and (inside or outside or lassos):
            return {**values, "last": {"shape_ijk": last.grid.shape_ijk, "runs": runs_text(last)}}
    if not box and not inside and not any(point["inside"] for point in values["points"]):
        raise ViewerError("Draw a box or set a point inside the target.")
    return values


def _lassos(prompts: Prompts, plane: str, grid: Grid) -> list[dict[str, Any]]:
    drawn = ((True, prompts.lasso_inside_ras_mm), (False, prompts.lasso_outside_ras_mm))
    return [
        point_of_lasso(curve, inside=is_inside, plane=plane, grid=grid)
        for is_inside, curve in drawn
        if len(curve)
    ]


def _told_apart(
    prompts: Prompts, answer: Mapping[str, Any] | None
) -> tuple[list[dict[str, Any]], list[list[float]], list[list[float]]]:
    """The answer's points that the reader has left, then new ones inside and outside; LPS mm."""
    known: list[dict[str, Any]] = []
    new: tuple[list[list[float]], list[list[float]]] = ([], [])
    for is_inside, points in ((True, prompts.inside_ras_mm), (False, prompts.outside_ras_mm)):
        for position in ras_lps(points).reshape(-1, 3).tolist():
            source = _source_of(position, is_inside, answer)
            if source is None:
                new[0 if is_inside else 1].append(position)
            else:
                known.append({"position": position, "inside": is_inside, "by": source})
    return known, new[0], new[1]


def _source_of(
    position: list[float], is_inside: bool, answer: Mapping[str, Any] | None
) -> str | None:
    """Who set a point that the answer has; ``None`` for one that it has not."""
    if answer is None:
        return None
    sources = answer.get("point_sources") or ["reader"] * len(answer["point_labels"])
    for stated, label, source in zip(answer["points_lps_mm"], answer["point_labels"], sources):
        if (label == 1) == is_inside and np.allclose(stated, position, atol=_SAME_POINT_MM):
            return str(source)
    return None


def _same_box(box: list[Any], stated: list[Any] | None, grid: Grid) -> bool:
    """Whether the reader has left the box, two corners in LPS mm, where the answer had it."""
    if not box or stated is None:
        return bool(box) == (stated is not None)
    here, there = (np.sort(grid.to_ijk(np.array(corners)), axis=0) for corners in (box, stated))
    return bool(np.abs(here - there).max() < _SAME_BOX_VOXEL)
