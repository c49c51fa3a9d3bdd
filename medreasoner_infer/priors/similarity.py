# SPDX-License-Identifier: Apache-2.0
"""How alike two examinations are when one is laid over the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medreasoner_infer.imaging.mapping import transform_points
from medreasoner_infer.priors.working_image import WorkingImage

BINS = 24
POINTS = 20_000


@dataclass(frozen=True)
class Similarity:
    """Of two examinations under one transform.

    ``overlap`` is the share of the body, of the examination of which more lies in the other, that
    does, 0...1. ``mutual_information`` is the normalised one of Studholme (1999), which does not
    grow as the overlap shrinks: 1 where the images tell nothing of each other, 2 where each tells
    the other; ``None`` where too little overlaps to say.
    """

    overlap: float
    mutual_information: float | None


def similarity(
    current: WorkingImage, prior: WorkingImage, current_to_prior_lps: NDArray[np.float64]
) -> Similarity:
    """Compare both under a (4, 4) transform of LPS mm."""
    inverse = np.linalg.inv(current_to_prior_lps)
    ahead = _Laid.of(current, prior, current_to_prior_lps)
    back = _Laid.of(prior, current, inverse)
    overlap = max(ahead.share, back.share)
    return Similarity(overlap, _normalised_mutual_information(ahead.first, ahead.second))


@dataclass(frozen=True, eq=False)
class _Laid:
    """Values (N,) of both images at body points of the first that lie in the second."""

    share: float
    first: NDArray[np.float32]
    second: NDArray[np.float32]

    @classmethod
    def of(cls, first: WorkingImage, second: WorkingImage, to_second: NDArray[np.float64]) -> _Laid:
        points = first.body_points_lps_mm(POINTS)
        indices = second.indices_of(transform_points(to_second, points))
        nearest = np.rint(indices).astype(np.int64)
        within = ((nearest >= 0) & (nearest < second.inside.shape)).all(axis=1)
        within[within] = second.inside[tuple(nearest[within].T)]
        own = first.indices_of(points[within])
        return cls(
            float(within.mean()),
            ndimage.map_coordinates(first.values, own.T, order=1, mode="nearest"),
            ndimage.map_coordinates(second.values, indices[within].T, order=1, mode="nearest"),
        )


def _normalised_mutual_information(
    first: NDArray[np.float32], second: NDArray[np.float32]
) -> float | None:
    """(H(A) + H(B)) / H(A, B) of paired values (N,); ``None`` of fewer than a bin's worth each."""
    if len(first) < BINS * BINS:
        return None
    joint, _, _ = np.histogram2d(first, second, bins=BINS)
    both = _entropy(joint)
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / both if both else None


def _entropy(counts: NDArray[np.float64]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
