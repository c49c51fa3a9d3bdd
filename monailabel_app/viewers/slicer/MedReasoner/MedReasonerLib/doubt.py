# SPDX-License-Identifier: Apache-2.0
"""Where the model doubts: readings by name, the map of agreement, and the slices to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ServerError
from .geometry import Grid, onto_grid, ras_lps
from .words import Line

_REASONS = {
    "segmenter": "the segmenter is not sure of its mask",
    "readings": "the readings mark different areas",
    "end": "the mask ends at or near this slice, and the target may go on",
}
_OUTCOMES = {"absent": "not present", "not_understood": "not understood"}
_GOOD_DICE = 0.7


@dataclass(frozen=True, eq=False)
class Doubt:
    """What the server tells of a doubt.

    Attributes:
        told: readings by name, agreement, doubtful slices, as the record has them.
        counts_ijk: by voxel how many readings hold it, uint8 (I, J, K); ``None`` without a map.
        grid: of the map, or ``None``.
    """

    told: Mapping[str, Any]
    counts_ijk: np.ndarray | None = None
    grid: Grid | None = None

    def per_cent_on(self, grid: Grid) -> np.ndarray | None:
        """The map (I, J, K) on a volume's grid, in per cent of the readings; ``None`` without one.

        Raises:
            GridError: the map lies on other voxels.
        """
        if self.counts_ijk is None or self.grid is None:
            return None
        per_cent = np.rint(self.counts_ijk * (100.0 / self.told["readings"])).astype(np.uint8)
        return onto_grid(per_cent, self.grid, grid)


def read_doubt(data: Mapping[str, Any]) -> Doubt:
    """The data of a ``doubt`` event, or the doubt of a record, which has no map.

    Raises:
        ServerError: the runs do not fill the grid.
    """
    if "runs" not in data:
        return Doubt(data)
    i, j, k = data["shape_ijk"]
    values = np.repeat(np.array(data["counts"], np.uint8), np.array(data["runs"], np.int64))
    if values.size != i * j * k:
        raise ServerError(f"The map has {values.size} voxels, expected {i * j * k}; ask again.")
    grid = Grid((i, j, k), np.array(data["ijk_to_lps"], dtype=float))
    return Doubt(data, values.reshape((i, j, k), order="F"), grid)


def describe_doubt(told: Mapping[str, Any]) -> list[Line]:
    """What the readings say, the most frequent first, and how far they agree."""
    readings = told["readings"]
    lines = [
        Line(f"{each['count']} of {readings}: {_saying(each)}", number > 0)
        for number, each in enumerate(told["named"])
    ]
    lines.append(Line(f"Their masks agree to {told['agreement']:.0%}."))
    support = told.get("support")
    if support is not None:
        lines.append(Line(f"Support for the answer: {support:.0%}.", support < 0.5))
    chance = told.get("probability")
    if chance is not None:
        text = f"The probability of a Dice of {_GOOD_DICE} or more is {chance:.0%}."
        lines.append(Line(text, chance < 0.5))
    slices = len(told["doubtful_slices"])
    if slices:
        lines.append(Line(f"{slices} slice{'' if slices == 1 else 's'} to look at.", True))
    return lines


def next_doubtful(told: Mapping[str, Any], index: int, step: int) -> Mapping[str, Any] | None:
    """The next doubtful slice from ``index`` in a direction (1 or -1), round the end."""
    slices = sorted(told["doubtful_slices"], key=lambda each: step * each["index"])
    beyond = (each for each in slices if (each["index"] - index) * step > 0)
    return next(beyond, slices[0] if slices else None)


def describe_doubtful(doubtful: Mapping[str, Any]) -> str:
    """Why a slice is to be looked at."""
    return f"Slice {doubtful['index']}: {_REASONS[doubtful['reason']]}."


def place_of(shown: Mapping[str, Any], grid: Grid, index: int) -> np.ndarray:
    """Where to jump to (3,), RAS mm: the centre of another slice than the one that was read.

    Args:
        shown: the ``slice`` of the answer.
        grid: of the image.
        index: along the axis that the answer's plane cuts.
    """
    step = grid.ijk_to_lps[:3, grid.cut_axis(shown["plane"])]
    return ras_lps(np.array(shown["center_lps_mm"]) + (index - shown["index"]) * step)


def _saying(reading: Mapping[str, Any]) -> str:
    if reading["outcome"] != "present":
        return _OUTCOMES[reading["outcome"]]
    elsewhere = ", at another place" if reading.get("elsewhere") else ""
    return f"{reading['name'] or 'target'}{elsewhere}"
