# SPDX-License-Identifier: Apache-2.0
"""Cheap figures of what an image looks like, by which two images are near or far.

:mod:`medreasoner_training.samples.fingerprints` tells copies of one image; these figures tell kinds
of images: how grey levels are spread and laid out, how edges run, how coarse the texture is, and
whether there is colour. They need no model and a few milliseconds once the image is read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import Volume
from medreasoner_training.samples.fingerprints import cell_means

_CELLS = 64
_LEVELS, _LAYOUT, _DIRECTIONS, _BANDS = 16, 4, 8, 6
_COLOURS, _SIZES = 2, 1
#: Length of the vector of :func:`appearance`.
FEATURES = _LEVELS + _LAYOUT**2 + _DIRECTIONS + 1 + _BANDS + _COLOURS + _SIZES
#: Where along the axis with the fewest voxels slices are looked at, as shares of its length.
_PLACES = (0.25, 0.5, 0.75)
#: Grey levels are counted between these percentiles of the slices.
_PERCENTILES = (1.0, 99.0)
_LEAST_RANGE = 1e-6


def appearance(volume: Volume) -> NDArray[np.float32]:
    """What an image looks like, float32 of shape (:data:`FEATURES`,), all finite.

    Means over three slices across the axis with the fewest voxels, or over the one picture. Grey
    levels are relative to the image's own range, so that neither window nor units matter.
    """
    slices = _slices(volume)
    grey = np.stack([_grid(each.mean(axis=-1)) for each in slices])
    low, high = np.percentile(grey, _PERCENTILES)
    grey = np.clip((grey - low) / max(high - low, _LEAST_RANGE), 0, 1)
    parts = [np.mean([_of_slice(each) for each in grey], axis=0)]
    parts.append(np.mean([_colour(each) for each in slices], axis=0))
    parts.append(np.array([np.log(min(volume.shape_ijk)) / 5]))
    return np.nan_to_num(np.concatenate(parts)).astype(np.float32)


def _slices(volume: Volume) -> list[NDArray[np.float64]]:
    """Float (H, W, C) with finite values; C is 1 or 3."""
    axis = int(np.argmin(volume.shape_ijk))
    count = volume.shape_ijk[axis]
    places = sorted({min(int(count * share), count - 1) for share in _PLACES})
    found = [np.asarray(volume.array.take(place, axis=axis), np.float64) for place in places]
    channels = [each if volume.is_colour else each[..., None] for each in found]
    return [np.nan_to_num(each, posinf=0.0, neginf=0.0) for each in channels]


def _grid(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    return cell_means(cell_means(grey, 0, _CELLS), 1, _CELLS)


def _of_slice(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of grey levels 0...1 on the grid of 64 by 64."""
    levels = np.histogram(grey, bins=_LEVELS, range=(0, 1))[0] / grey.size
    layout = cell_means(cell_means(grey, 0, _LAYOUT), 1, _LAYOUT).ravel()
    down, across = np.gradient(grey)
    strength = np.hypot(down, across)
    turned = np.mod(np.arctan2(down, across), np.pi)  # an edge and its negative run alike
    edges, _ = np.histogram(turned, bins=_DIRECTIONS, range=(0, np.pi), weights=strength)
    edges = edges / max(edges.sum(), _LEAST_RANGE)
    return np.concatenate([np.sqrt(levels), layout, edges, [strength.mean() * 4], _texture(grey)])


def _texture(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the power in bands of spatial frequency, each twice as fine as the one before."""
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    frequency = np.fft.fftfreq(_CELLS) * _CELLS
    radius = np.hypot(frequency[:, None], frequency[None, :])
    edges = [0.5, *(2.0**band for band in range(1, _BANDS)), np.inf]
    bands = np.histogram(radius, bins=edges, weights=power)[0]
    return np.sqrt(bands / max(bands.sum(), _LEAST_RANGE))


def _colour(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean differences of red and blue to green, of 8-bit colour; 0 for grey."""
    if pixels.shape[-1] == 1:
        return np.zeros(_COLOURS)
    red, green, blue = pixels.reshape(-1, 3).mean(axis=0) / 255
    return np.array([red - green, blue - green])
