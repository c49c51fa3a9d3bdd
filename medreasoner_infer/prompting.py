# SPDX-License-Identifier: Apache-2.0
"""From a grounding and the reader's clicks to the segmenter's prompt and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import PromptError
from medreasoner_infer.imaging import SliceMapping
from medreasoner_infer.request import Click
from medreasoner_infer.result import PromptRecord
from medreasoner_infer.types import (
    READER,
    REASONER,
    XY,
    XYXY,
    XYZ,
    Grounding,
    PromptSources,
    SlicePrompt,
)


@dataclass(frozen=True)
class SourcedPrompt:
    """A prompt in slice px together with who set each part of it, and what was mended."""

    prompt: SlicePrompt
    bbox_source: str | None
    point_sources: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def prompt_from_grounding(
    grounding: Grounding, clicks: Sequence[Click], mapping: SliceMapping
) -> SourcedPrompt | None:
    """Combine the reasoner's box and key points (reasoner px) with the reader's clicks (IJK).

    Returns:
        The prompt in slice px, or ``None`` when the reasoner sees no target and the reader has
        clicked inside none either.
    """
    prompt = SourcedPrompt(SlicePrompt(None), None, ())
    found = grounding_in_slice_px(grounding, mapping)
    if found.bbox_xyxy_px is not None:
        prompt = _on_slice(found.bbox_xyxy_px, found.points_xy_px, mapping)
    prompt = add_clicks(prompt, clicks, mapping)
    return prompt if prompt.prompt.points_at_target else None


def grounding_in_slice_px(grounding: Grounding, mapping: SliceMapping) -> SlicePrompt:
    """The reasoner's box and key points in slice px, maybe beside the slice; empty without any."""
    if grounding.bbox_xyxy_px is None or grounding.points_xy_px is None:
        return SlicePrompt(None)
    points = _as_pairs(mapping.reasoner_px_to_slice_px(np.array(grounding.points_xy_px)))
    box = mapping.reasoner_box_to_slice_px(grounding.bbox_xyxy_px)
    return SlicePrompt(box, tuple(points), (1,) * len(points))


def _on_slice(box: XYXY, points: Sequence[XY], mapping: SliceMapping) -> SourcedPrompt:
    """Keep what lies on the slice; the reasoner may point into the padding around it."""
    height, width = mapping.shape_hw
    warnings = []
    x1, x2 = (min(max(x, 0.0), float(width)) for x in (box[0], box[2]))
    y1, y2 = (min(max(y, 0.0), float(height)) for y in (box[1], box[3]))
    clipped: XYXY | None = (x1, y1, x2, y2)
    if x1 >= x2 or y1 >= y2:
        clipped = None
        warnings.append("The reasoner's box lies beside the slice and was left out.")
    elif clipped != box:
        warnings.append("The reasoner's box reached beyond the slice and was cut at its edge.")
    inside = [(x, y) for x, y in points if 0 <= x <= width and 0 <= y <= height]
    if len(inside) < len(points):
        left_out = len(points) - len(inside)
        warnings.append(f"{left_out} key point(s) lie beside the slice and were left out.")
    return SourcedPrompt(
        SlicePrompt(clipped, tuple(inside), (1,) * len(inside)),
        REASONER if clipped is not None else None,
        (REASONER,) * len(inside),
        tuple(warnings),
    )


def prompt_from_reader(
    prompt: SlicePrompt | None,
    clicks: Sequence[Click],
    mapping: SliceMapping,
    sources: PromptSources | None = None,
) -> SourcedPrompt:
    """A given box and points (slice px) and the reader's clicks (IJK), checked against the slice.

    Without ``sources`` box and points are the reader's own.

    Raises:
        PromptError: if a box or a point lies outside the slice or the box is empty.
    """
    prompt = prompt or SlicePrompt(None)
    height, width = mapping.shape_hw
    if prompt.bbox_xyxy_px is not None:
        x1, y1, x2, y2 = prompt.bbox_xyxy_px
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            raise PromptError(
                f"The box {prompt.bbox_xyxy_px} does not fit the slice of {width} x {height} "
                "pixels; expected 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height."
            )
    for x, y in prompt.points_xy_px:
        _check_inside((x, y), mapping)
    if sources is None:
        bbox_source = None if prompt.bbox_xyxy_px is None else READER
        sources = PromptSources(bbox_source, (READER,) * len(prompt.points_xy_px))
    sourced = SourcedPrompt(prompt, sources.bbox, sources.points)
    return add_clicks(sourced, clicks, mapping)


def add_clicks(
    sourced: SourcedPrompt, clicks: Sequence[Click], mapping: SliceMapping
) -> SourcedPrompt:
    """Append the clicks that lie on the mapped slice as points.

    Raises:
        PromptError: if a click lies on another slice or outside the image.
    """
    if not clicks:
        return sourced
    positions_ijk = np.array([click.position_ijk for click in clicks], dtype=float)
    points = _as_pairs(mapping.ijk_to_slice_px(positions_ijk))
    for click, point in zip(clicks, points, strict=True):
        _check_inside(point, mapping)
        index = click.index_along(mapping.slice_axis)
        if index != mapping.index:
            raise PromptError(
                f"A click lies on slice {index}, the question is about slice "
                f"{mapping.index}; click on the slice that is asked about."
            )
    prompt = sourced.prompt
    return SourcedPrompt(
        SlicePrompt(
            prompt.bbox_xyxy_px,
            (*prompt.points_xy_px, *points),
            (*prompt.point_labels, *(int(click.positive) for click in clicks)),
        ),
        sourced.bbox_source,
        (*sourced.point_sources, *(READER for _ in clicks)),
        sourced.warnings,
    )


def contours_of(clicks: Sequence[Click], mapping: SliceMapping) -> tuple[tuple[XY, ...], ...]:
    """The contour of each click in slice px, empty where it is a click alone."""
    return tuple(
        tuple(_as_pairs(mapping.ijk_to_slice_px(np.reshape(click.contour_ijk, (-1, 3)))))
        for click in clicks
    )


def record_prompt(sourced: SourcedPrompt, mapping: SliceMapping) -> PromptRecord:
    """Write the prompt down in slice px, IJK and LPS."""
    prompt = sourced.prompt
    corners_ijk = corners_lps = None
    if prompt.bbox_xyxy_px is not None:
        corners = np.array(prompt.bbox_xyxy_px, dtype=float).reshape(2, 2)
        first, last = _as_triples(mapping.slice_px_to_ijk(corners))
        corners_ijk = (first, last)
        first, last = _as_triples(mapping.slice_px_to_lps(corners))
        corners_lps = (first, last)
    points = np.array(prompt.points_xy_px, dtype=float).reshape(-1, 2)
    return PromptRecord(
        bbox_xyxy_slice_px=prompt.bbox_xyxy_px,
        bbox_corners_ijk=corners_ijk,
        bbox_corners_lps_mm=corners_lps,
        bbox_source=sourced.bbox_source,
        points_xy_slice_px=prompt.points_xy_px,
        points_ijk=tuple(_as_triples(mapping.slice_px_to_ijk(points))),
        points_lps_mm=tuple(_as_triples(mapping.slice_px_to_lps(points))),
        point_labels=prompt.point_labels,
        point_sources=sourced.point_sources,
    )


def _check_inside(point_xy_px: XY, mapping: SliceMapping) -> None:
    height, width = mapping.shape_hw
    x, y = point_xy_px
    if not (0 <= x <= width and 0 <= y <= height):
        raise PromptError(
            f"The point ({x:.1f}, {y:.1f}) lies outside the slice of {width} x {height} pixels."
        )


def _as_pairs(points: NDArray[np.float64]) -> list[XY]:
    return [(float(x), float(y)) for x, y in points]


def _as_triples(points: NDArray[np.float64]) -> list[XYZ]:
    return [(float(x), float(y), float(z)) for x, y, z in points]
