# SPDX-License-Identifier: Apache-2.0
"""Masks as the server sends them, and label maps as it takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ServerError
from .geometry import Grid


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask on the server's grid: uint8 of shape (I, J, K), 0 or 1."""

    values_ijk: np.ndarray
    grid: Grid


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A mask that takes little memory: runs of alternating zeros and ones, I fastest."""

    runs: np.ndarray
    grid: Grid

    @classmethod
    def of(cls, mask: Mask) -> PackedMask:
        """A mask packed."""
        flat = mask.values_ijk.ravel(order="F") != 0
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        runs = np.diff(np.concatenate(([0], changes, [flat.size])))
        return cls(np.concatenate(([0], runs)) if flat[0] else runs, mask.grid)

    def unpacked(self) -> Mask:
        """The mask."""
        values = np.repeat((np.arange(self.runs.size) % 2).astype(np.uint8), self.runs)
        return Mask(values.reshape(self.grid.shape_ijk, order="F"), self.grid)


def read_mask(data: Mapping[str, Any]) -> Mask:
    """The data of a ``mask`` event: runs of alternating zeros and ones, I fastest.

    Raises:
        ServerError: if the runs do not fill the grid.
    """
    i, j, k = data["shape_ijk"]
    runs = np.asarray(data["runs"], dtype=np.int64)
    if runs.sum() != i * j * k:
        raise ServerError(f"The mask has {runs.sum()} voxels, expected {i * j * k}; ask again.")
    grid = Grid((i, j, k), np.array(data["ijk_to_lps"], dtype=float))
    return PackedMask(runs, grid).unpacked()


def runs_text(mask: Mask) -> str:
    """The inverse of :func:`read_mask`: lengths of the runs as text with commas between."""
    return ",".join(map(str, PackedMask.of(mask).runs.tolist()))


def to_nrrd(mask: Mask) -> bytes:
    """The mask as an NRRD file (http://teem.sourceforge.net/nrrd/format.html)."""
    columns = (",".join(repr(float(v)) for v in column) for column in mask.grid.ijk_to_lps[:3].T)
    i, j, k, origin = (f"({column})" for column in columns)
    header = [
        "NRRD0004",
        "type: uint8",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: {} {} {}".format(*mask.grid.shape_ijk),
        f"space directions: {i} {j} {k}",
        "kinds: domain domain domain",
        "encoding: raw",
        f"space origin: {origin}",
        "",
        "",
    ]
    return "\n".join(header).encode("ascii") + mask.values_ijk.astype(np.uint8).tobytes(order="F")
