# SPDX-License-Identifier: Apache-2.0
"""A second look: what the segmenter makes of the place that the other examination points to.

Two answers may differ because the target has changed, or because one of them went wrong. The box
that the mask of one examination has in the other is a prompt that does not hang on the answer
there; where the segmenter then makes something else of the same voxels, a change of that size is
not to be believed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import Volume, slice_of_mask
from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.request import SegmentRequest, SliceSelection
from medreasoner_infer.result import Inference, InferenceResult
from medreasoner_infer.types import XYXY, SlicePrompt

#: Runs the segmenter alone on a volume.
Segment = Callable[[Volume, SegmentRequest], InferenceResult]

_LEAST_SIDE_PX = 1.0


def second_look(
    segment: Segment,
    result: InferenceResult,
    volume: Volume,
    other: InferenceResult,
    other_volume: Volume,
    from_other: NDArray[np.float64],
) -> NDArray[np.uint8] | None:
    """The mask (I, J, K) by the box of the other examination's mask, through the volume.

    Args:
        segment: runs the segmenter.
        result: the answer about ``volume``.
        volume: where to look.
        other: the answer about the other examination.
        other_volume: that examination.
        from_other: (4, 4) from LPS mm of it to LPS mm of ``volume``.

    Returns:
        ``None`` where one of the answers has no mask on its slice, or the box lies beside the
        slice.
    """
    there = _box_of(other.mask_ijk, other, other_volume)
    if there is None or not result.mask_ijk.any():
        return None
    mapping = result.mapping(volume)
    corners = other.mapping(other_volume).slice_px_to_lps(_corners(there))
    places = mapping.lps_to_slice_px(transform_points(from_other, corners))
    height, width = mapping.shape_hw
    (x1, y1), (x2, y2) = (
        np.clip(end, 0, (width, height)) for end in (places.min(0), places.max(0))
    )
    if min(x2 - x1, y2 - y1) < _LEAST_SIDE_PX:
        return None
    window = result.window()
    selection = SliceSelection(
        plane=result.slice.plane,
        index=result.slice.index,
        window=None if window is None else f"{window.center:g}/{window.width:g}",
    )
    prompt = SlicePrompt((float(x1), float(y1), float(x2), float(y2)))
    looked = segment(volume, SegmentRequest(selection, prompt, propagate=True))
    return looked.mask_ijk


def _box_of(mask_ijk: NDArray[Any], result: Inference, volume: Volume) -> XYXY | None:
    """Of a mask on the slice that was read, in slice px."""
    rows, columns = np.nonzero(slice_of_mask(mask_ijk, result.mapping(volume)))
    if not len(rows):
        return None
    x1, y1 = float(columns.min()), float(rows.min())
    return x1, y1, float(columns.max()) + 1, float(rows.max()) + 1


def _corners(box: XYXY) -> list[tuple[float, float]]:
    x1, y1, x2, y2 = box
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
