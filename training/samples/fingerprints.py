# SPDX-License-Identifier: Apache-2.0
"""Which images are the same, or nearly: a copy under another name must not be held out.

Two images are alike if their values are equal, or if what is left of them on a coarse grid, without
brightness and contrast, agrees: a copy that was saved anew, windowed otherwise or made noisy is
alike; another patient's image is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Least correlation of two coarse grids that are alike.
ALIKE_FROM = 0.985
#: Cells along each axis of the coarse grid, for pictures and for volumes.
_CELLS = {2: 32, 3: 16}
_BLOCK = 2048


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Of an image: ``sha256`` of its values, and its coarse grid with mean 0 and length 1."""

    sha256: str
    coarse: NDArray[np.float32]


def fingerprint(values: NDArray[np.generic], *, has_colours: bool = False) -> Fingerprint:
    """Of a picture (H, W) or a volume (I, J, K); colours have an axis of their own at the end."""
    header = f"{values.shape}{values.dtype.str}".encode()
    digest = hashlib.sha256(header + np.ascontiguousarray(values).tobytes()).hexdigest()
    grey = np.asarray(values, np.float64)
    grey = grey.mean(axis=-1) if has_colours else grey
    for axis in range(grey.ndim):
        grey = cell_means(grey, axis, _CELLS[grey.ndim])
    centred = grey.ravel() - grey.mean()
    length = np.linalg.norm(centred)
    flat = centred if length == 0 else centred / length
    return Fingerprint(digest, flat.astype(np.float32))


def cell_means(values: NDArray[np.float64], axis: int, cells: int) -> NDArray[np.float64]:
    """Means over ``cells`` stretches of an axis; a shorter axis repeats its values."""
    starts = np.arange(cells) * values.shape[axis] // cells
    sizes = np.maximum(np.diff(np.append(starts, values.shape[axis])), 1)
    shape = [1] * values.ndim
    shape[axis] = cells
    return np.asarray(np.add.reduceat(values, starts, axis=axis) / sizes.reshape(shape))


def have_alike(images: Sequence[Fingerprint], others: Sequence[Fingerprint]) -> NDArray[np.bool_]:
    """For each picture, whether one of the others is alike, bool (N,)."""
    found = np.zeros(len(images), bool)
    if not others:
        return found
    known, coarse = {other.sha256 for other in others}, np.stack([o.coarse for o in others]).T
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        nearest = (np.stack([image.coarse for image in block]) @ coarse).max(axis=1)
        same = np.array([image.sha256 in known for image in block])
        found[start : start + _BLOCK] = same | (nearest >= ALIKE_FROM)
    return found


def joined_owners(owners: Sequence[str], images: Sequence[Fingerprint | None]) -> dict[str, str]:
    """The first owner of those whose images are alike, by each of them.

    Args:
        owners: of each image, e.g. its patient.
        images: ``None`` where an image cannot be read.
    """
    names = sorted(set(owners))
    place = {name: number for number, name in enumerate(names)}
    links = np.eye(len(names), dtype=bool)
    for first, image in enumerate(images):
        for second, other in enumerate(images[:first]):
            if image is not None and other is not None and are_alike(image, other):
                links[place[owners[first]], place[owners[second]]] = True
    from scipy.sparse.csgraph import connected_components

    _, groups = connected_components(links, directed=False)
    leaders: dict[int, str] = {}
    return {
        name: leaders.setdefault(int(group), name)
        for name, group in zip(names, groups, strict=True)
    }


def are_alike(image: Fingerprint, other: Fingerprint) -> bool:
    """Whether two images are the same, or nearly; a picture and a volume are not."""
    if image.sha256 == other.sha256:
        return True
    same_kind = image.coarse.shape == other.coarse.shape
    return same_kind and float(image.coarse @ other.coarse) >= ALIKE_FROM
