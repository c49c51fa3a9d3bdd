# SPDX-License-Identifier: Apache-2.0
"""What segments the same prompts without a network: the peers of the embedded segmenter.

Both methods see the slice and the prompt only. They work on the square around the box that the
network sees as well.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medreasoner_infer.types import SliceImage, SlicePrompt
from medreasoner_training.embedded.required import required
from medreasoner_training.embedded.segmenter.measures import NO_BOX

MARGIN = 1.65
HISTOGRAM_BINS = 32
# The values that MONAI Label's scribbles-based graph cut is shipped with.
GRAPH_CUT_LAMBDA, GRAPH_CUT_SIGMA = 1.0, 0.1
SEED_SCALE = 0.5

ClassicalMethod = Callable[[SliceImage, SlicePrompt], np.ndarray]


def graph_cut(image: SliceImage, prompt: SlicePrompt) -> np.ndarray:
    """Histogram likelihoods and max-flow, as MONAI Label's scribbles tools combine them.

    The scribbles are made from the prompt: inside the target lies the ellipse of half the box's
    size and a disc around each point, outside lies everything beyond the box.

    Args:
        image: the displayed slice.
        prompt: box and points in slice px; the box is required.

    Returns:
        bool mask of the slice's shape, empty outside the box.
    """
    from numpymaxflow import maxflow

    rows, columns = _around(prompt, image.pixels.shape[:2])
    grey = image.pixels[rows, columns].astype(np.float32) / 255
    inside, box = _seeds(prompt, rows, columns)
    foreground = _likelihood(grey, inside)
    background = _likelihood(grey, ~box)
    total = foreground + background
    probability = np.stack([background / total, foreground / total])
    probability[:, inside] = np.array([[0.0], [1.0]])
    probability[:, ~box] = np.array([[1.0], [0.0]])
    cut = maxflow(
        grey[None],
        probability.astype(np.float32),
        GRAPH_CUT_LAMBDA,
        GRAPH_CUT_SIGMA,
        connectivity=8,
    )
    return _paste(cut[0] > 0, box, rows, columns, image.pixels.shape[:2])


def region_growing(image: SliceImage, prompt: SlicePrompt) -> np.ndarray:
    """SimpleITK's confidence-connected region from the points, closed, within the box.

    Args:
        image: the displayed slice.
        prompt: box and points in slice px; both are required.

    Returns:
        bool mask of the slice's shape, empty outside the box.
    """
    import SimpleITK as sitk

    rows, columns = _around(prompt, image.pixels.shape[:2])
    _, box = _seeds(prompt, rows, columns)
    grey = sitk.GetImageFromArray(image.pixels[rows, columns].astype(np.float32))
    smooth = sitk.CurvatureFlow(grey, timeStep=0.125, numberOfIterations=5)
    seeds = [(int(x) - columns.start, int(y) - rows.start) for x, y in prompt.points_xy_px]
    region = sitk.ConfidenceConnected(
        smooth, seedList=seeds, numberOfIterations=2, multiplier=2.5, initialNeighborhoodRadius=1
    )
    closed = sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(region, (1, 1)))
    mask = sitk.GetArrayFromImage(closed) > 0
    return _paste(mask, box, rows, columns, image.pixels.shape[:2])


CLASSICAL: dict[str, ClassicalMethod] = {
    "graph_cut": graph_cut,
    "region_growing": region_growing,
}


def _around(prompt: SlicePrompt, shape_hw: tuple[int, ...]) -> tuple[slice, slice]:
    x1, y1, x2, y2 = required(prompt.bbox_xyxy_px, NO_BOX)
    half = MARGIN * max(x2 - x1, y2 - y1) / 2
    center_x, center_y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = shape_hw
    rows = slice(max(0, int(center_y - half)), min(height, int(np.ceil(center_y + half))))
    columns = slice(max(0, int(center_x - half)), min(width, int(np.ceil(center_x + half))))
    return rows, columns


def _seeds(prompt: SlicePrompt, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that are surely inside, and the pixels of the box, both on the crop."""
    x1, y1, x2, y2 = required(prompt.bbox_xyxy_px, NO_BOX)
    y, x = np.mgrid[rows, columns] + 0.5
    u, v = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    box = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    inside = u**2 + v**2 <= SEED_SCALE**2
    radius = max(1.0, 0.08 * min(x2 - x1, y2 - y1))
    for point_x, point_y in prompt.points_xy_px:
        inside |= np.hypot(x - point_x, y - point_y) <= radius
    return inside & box, box


def _likelihood(grey: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Each pixel's share in the histogram of the marked ones, with one pseudo-count per bin."""
    bins = np.minimum((grey * HISTOGRAM_BINS).astype(int), HISTOGRAM_BINS - 1)
    counts = np.bincount(bins[where], minlength=HISTOGRAM_BINS) + 1.0
    return (counts / counts.sum())[bins]


def _paste(
    mask: np.ndarray, box: np.ndarray, rows: slice, columns: slice, shape_hw: tuple[int, ...]
) -> np.ndarray:
    out = np.zeros(shape_hw, dtype=bool)
    out[rows, columns] = mask & box
    return out
