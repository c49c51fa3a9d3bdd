# SPDX-License-Identifier: Apache-2.0
"""What became of a target between two examinations of the same patient.

Records of answers hold these; :mod:`medreasoner_infer.priors` makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medreasoner_infer.types import XYZ

#: How the place in the prior was found: both examinations state one frame of reference, the reader
#: states that positions agree, or the images were registered.
AlignmentMethod = Literal["same_frame", "stated", "rigid", "affine"]
#: Whence an uncertainty is: from the size of the voxels, from the spread of sampled answers, or
#: from what the segmenter makes of the place that the other examination points to.
UncertaintySource = Literal["voxels", "samples", "second_look"]
#: Of a size that was measured in both examinations.
Verdict = Literal["larger", "smaller", "within_uncertainty"]
#: Of the target as a whole.
ChangeKind = Literal[
    "larger",
    "smaller",
    "within_uncertainty",
    "new",
    "not_found_any_more",
    "absent_in_both",
    "not_comparable",
]
Matrix = tuple[tuple[float, float, float, float], ...]

VERDICT_WORDS: Final[dict[Verdict, str]] = {
    "larger": "larger",
    "smaller": "smaller",
    "within_uncertainty": "within the uncertainty",
}


@dataclass(frozen=True)
class Alignment:
    """Where the patient positions of the current examination lie in the prior one.

    Attributes:
        method: how that is known.
        current_to_prior_lps: (4, 4), rows first, from LPS mm to LPS mm.
        rotation_deg: angle of its rotation.
        shift_mm: how far it moves the middle of the body.
        similarity: normalised mutual information of the images where they overlap, 1 (none) to 2
            (each tells the other); ``None`` where that was not looked at.
        similarity_unaligned: the same for equal positions; ``None`` where the images share none.
        overlap: share of the smaller examination's body that lies in the other, 0...1.
        warnings: sentences for the reader.
    """

    method: AlignmentMethod
    current_to_prior_lps: Matrix
    rotation_deg: float = 0.0
    shift_mm: float = 0.0
    similarity: float | None = None
    similarity_unaligned: float | None = None
    overlap: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def matrix(self) -> NDArray[np.float64]:
        """``current_to_prior_lps`` as an array."""
        return np.array(self.current_to_prior_lps, dtype=np.float64)

    def to_prior(self, points_lps_mm: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) positions of the current examination, in LPS mm, to those of the prior one."""
        matrix = self.matrix
        points = np.asarray(points_lps_mm, dtype=np.float64)
        return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])

    def position_in_prior(self, point_lps_mm: ArrayLike) -> XYZ:
        """One position (3,) as :meth:`to_prior`."""
        x, y, z = self.to_prior(point_lps_mm)
        return float(x), float(y), float(z)


def as_matrix(matrix: ArrayLike) -> Matrix:
    """A (4, 4) array as :class:`Alignment` keeps it."""
    rows = np.asarray(matrix, dtype=np.float64)
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in rows)


def signed(value: float, digits: int) -> str:
    """A difference as readers read it; what is nothing after rounding is no loss."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


@dataclass(frozen=True)
class Uncertain:
    """A size, by how much it may be wrong to either side, and whence that is known."""

    value: float
    uncertainty: float
    source: UncertaintySource

    def told(self, unit: str) -> str:
        """As readers read it, e.g. ``12.3 ± 0.4 ml``."""
        return f"{self.value:.1f} ± {self.uncertainty:.1f} {unit}"


@dataclass(frozen=True)
class SizeChange:
    """One size in both examinations, its change, and what may be said of that.

    ``before`` or ``after`` is ``None`` where it was not measured; then the others are as well.
    ``uncertainty`` is that of ``difference``, in the size's own unit; ``percent`` is of ``before``.
    """

    before: Uncertain | None
    after: Uncertain | None
    difference: float | None = None
    uncertainty: float | None = None
    percent: float | None = None
    percent_uncertainty: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Change:
    """What became of the target; nothing beyond ``statement`` is claimed.

    Attributes:
        kind: by the volume, else by the long axis, else by whether it was found.
        statement: the same as a sentence.
        volume_ml: of all voxels within the region that both examinations show.
        long_axis_mm: greatest extent on the slice that was read.
        short_axis_mm: extent across it.
        cautions: sentences that go with the statement wherever it is shown.
    """

    kind: ChangeKind
    statement: str
    volume_ml: SizeChange
    long_axis_mm: SizeChange
    short_axis_mm: SizeChange
    cautions: tuple[str, ...] = ()


@dataclass(frozen=True)
class PriorOf:
    """That an answer was asked of a prior examination, and what came of the comparison.

    Attributes:
        current_inference_id: the answer to the same question about the current examination.
        current_date: Study Date of that, YYYYMMDD; empty where it is not known.
        prior_date: of the examination that this answer is about.
    """

    current_inference_id: str
    alignment: Alignment
    change: Change
    current_date: str = ""
    prior_date: str = ""
