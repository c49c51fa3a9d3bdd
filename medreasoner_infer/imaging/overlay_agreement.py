# SPDX-License-Identifier: Apache-2.0
"""Drawing of the share of readings that hold each pixel, in colours told apart by everybody."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

BANDS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Borders of the bands; each holds its upper border."""
_ALPHA = 0.5
# Its lightness rises evenly, so that people who are colour-blind tell the bands apart.
_COLOURS = colormaps["viridis"](np.linspace(0, 1, len(BANDS) - 1))


def draw_agreement(axes: Axes, share_hw: NDArray[np.float32]) -> None:
    """Colour each pixel by its band; none that no reading holds.

    Args:
        axes: their data coordinates are slice px.
        share_hw: 0...1, (H, W).
    """
    height, width = share_hw.shape
    # Rounded first, or a third of three readings and one of six would lie in different bands.
    bands = np.ceil(np.round(share_hw * (len(BANDS) - 1), 3)).astype(int)
    colours = np.vstack(([(0.0, 0.0, 0.0, 0.0)], _COLOURS))
    colours[1:, 3] = _ALPHA
    axes.imshow(
        colours[bands], extent=(0, width, height, 0), aspect="auto", interpolation="nearest"
    )
    axes.set(xlim=(0, width), ylim=(height, 0))


def agreement_handles() -> list[Rectangle]:
    """The legend, a patch for each band."""
    return [
        Rectangle((0, 0), 1, 1, facecolor=(*colour[:3], _ALPHA), label=f"{low:.0%}–{high:.0%}")
        for colour, (low, high) in zip(_COLOURS, itertools.pairwise(BANDS), strict=True)
    ]
