# SPDX-License-Identifier: Apache-2.0
"""What an inference returns: everything a viewer, an auditor or a trainer needs.

:class:`Inference` is the record; the store keeps it, a DICOM report tells it and a reply sends it.
:class:`InferenceResult` has the mask besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.change import PriorOf
from medreasoner_infer.checks_record import Checks
from medreasoner_infer.doubt_record import Doubt
from medreasoner_infer.errors import MalformedInferenceError
from medreasoner_infer.imaging import Plane, SliceMapping, Volume, Window, slice_mapping
from medreasoner_infer.laterality import Laterality
from medreasoner_infer.talk_record import FollowUpReading
from medreasoner_infer.types import (
    DERIVED,
    XY,
    XYXY,
    XYZ,
    EarlierTarget,
    ModelIdentity,
    Outcome,
    SlicePrompt,
    settle_outcome,
)

RESULT_SCHEMA_VERSION = 1
MEASURE = "measure"
"""``kind`` of a record that repeats the mask of an earlier answer, with its sizes."""


@dataclass(frozen=True)
class PromptRecord:
    """The prompts that made the mask, in three frames.

    Slice px are edge based, IJK integers are voxel centres, LPS is in millimetres (see
    :mod:`medreasoner_infer.types`). The box is given by its top-left and bottom-right corner as
    displayed. ``point_labels``: 1 inside the target, 0 outside. ``point_sources`` says who set each
    point: ``"reasoner"`` or ``"reader"``; ``bbox_source`` likewise.
    """

    bbox_xyxy_slice_px: XYXY | None
    bbox_corners_ijk: tuple[XYZ, XYZ] | None
    bbox_corners_lps_mm: tuple[XYZ, XYZ] | None
    bbox_source: str | None
    points_xy_slice_px: tuple[XY, ...]
    points_ijk: tuple[XYZ, ...]
    points_lps_mm: tuple[XYZ, ...]
    point_labels: tuple[int, ...]
    point_sources: tuple[str, ...]

    def slice_prompt(self) -> SlicePrompt:
        """What the segmenter was told, in slice px."""
        return SlicePrompt(self.bbox_xyxy_slice_px, self.points_xy_slice_px, self.point_labels)


@dataclass(frozen=True)
class SliceRecord:
    """The slice that was read, and how it was displayed.

    ``index`` is the voxel index along the cut axis; ``center_lps_mm`` is the patient position of
    the displayed slice's centre. ``window_center`` and ``window_width`` are in the image's values
    (HU for CT) and ``None`` where pixels are shown as they are, ``spacing_xy_mm`` where the image
    does not tell its scale.
    """

    plane: str
    index: int
    count: int
    shape_hw: tuple[int, int]
    spacing_xy_mm: XY | None
    center_lps_mm: XYZ
    window_name: str
    window_center: float | None
    window_width: float | None


class _Judged:
    """What says whether a target is present; ``outcome`` says more where it is not.

    Records that were written before an answer could be ``not_understood`` have no outcome.
    """

    present: bool
    outcome: Outcome

    def __post_init__(self) -> None:
        """Let ``present`` decide where no outcome was given.

        Raises:
            ValueError: they contradict each other.
        """
        settle_outcome(self, present=self.present)


@dataclass(frozen=True)
class CandidateSlice(_Judged):
    """One slice looked at while searching: was the target seen, and how strongly."""

    index: int
    present: bool
    score: float
    outcome: Outcome = field(default=DERIVED, kw_only=True)


@dataclass(frozen=True)
class SliceChoice:
    """How the slice was chosen, and a sentence that tells the reader.

    ``method`` is ``"index"``, ``"position"``, ``"click"``, ``"single"``, ``"middle"``,
    ``"search"`` or ``"earlier"``.
    """

    method: str
    explanation: str
    candidates: tuple[CandidateSlice, ...] = ()


@dataclass(frozen=True)
class SampleRecord(_Judged):
    """One of several sampled answers, box and points in slice px."""

    present: bool
    outcome: Outcome = field(default=DERIVED, kw_only=True)
    reasoning: str
    bbox_xyxy_slice_px: XYXY | None
    points_xy_slice_px: tuple[XY, ...]
    confidence: float | None
    bbox_iou_with_answer: float | None


@dataclass(frozen=True)
class FollowUp:
    """The earlier answer that a question went on from; ``used`` tells whether the model knew it."""

    target: EarlierTarget
    used: bool


@dataclass(frozen=True)
class MaskSummary:
    """Size of the mask. ``slice_range`` holds the first and last slice index with any voxel.

    Millimetres are ``None`` where the image does not tell its scale, and a volume where its slices
    make none (a radiograph, a clip).
    """

    voxels: int
    volume_mm3: float | None
    slice_area_mm2: float | None
    slice_range: tuple[int, int] | None
    predicted_iou: float | None


@dataclass(frozen=True)
class Inference(_Judged):
    """The record of one answered question, or of one run of the segmenter alone.

    ``agreement`` is the mean box IoU of the further samples with the answer (1.0 means the model
    always says the same), ``None`` for a single sample; of an answer without a box it is the share
    of samples with the same outcome. ``calibrated`` tells that ``confidence`` is the probability
    that the answer is right, not the model's own. ``timings_s`` maps a stage to seconds.
    ``software_version`` is that of this package when it answered, ``None`` in records from before
    it was kept. ``laterality`` compares the side that the question tells with that of the mask.
    ``checks`` says which statements of the reasoning hold. ``kind`` is ``ask``, ``segment`` or
    ``measure``: the mask of an earlier answer again, with its sizes. ``reading`` is how a question
    that refers to an earlier answer was read. ``doubt`` is there where further answers were
    sampled.
    """

    inference_id: str
    created_at: str
    kind: str
    query: str | None
    reasoning: str | None
    completion: str | None
    present: bool
    outcome: Outcome = field(default=DERIVED, kw_only=True)
    confidence: float | None
    agreement: float | None
    samples: tuple[SampleRecord, ...]
    prompts: PromptRecord | None
    slice: SliceRecord
    slice_choice: SliceChoice
    propagated: bool
    mask: MaskSummary
    modality: str
    reasoner: ModelIdentity | None
    segmenter: ModelIdentity
    timings_s: dict[str, float]
    warnings: tuple[str, ...] = ()
    calibrated: bool = False
    follow_up: FollowUp | None = None
    software_version: str | None = None
    prior_of: PriorOf | None = None
    schema_version: int = RESULT_SCHEMA_VERSION
    laterality: Laterality | None = None
    checks: Checks | None = None
    reading: FollowUpReading | None = None
    doubt: Doubt | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types (tuples become lists)."""
        values: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Inference:
        """The inverse of :meth:`to_dict`; of an :class:`InferenceResult` it gives the record.

        Raises:
            MalformedInferenceError: a field is missing or of another type.
        """
        try:
            return _adapter().validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise MalformedInferenceError(
                f"The record of an inference is damaged at {place or 'its top'}: {first['msg']}; "
                f"expected what version {RESULT_SCHEMA_VERSION} of the schema writes."
            ) from error

    @property
    def total_s(self) -> float:
        """Seconds from the call to the result."""
        stages = [seconds for name, seconds in self.timings_s.items() if name != "total"]
        return round(self.timings_s.get("total", sum(stages)), 3)

    @property
    def asks_for(self) -> str | None:
        """The question; where it refers to an earlier answer, the name of what that comes to."""
        return (self.reading and self.reading.target) or self.query

    def mapping(self, volume: Volume) -> SliceMapping:
        """The coordinate chain of the slice that was read, on ``volume``'s grid.

        Raises:
            SliceOutOfRangeError: ``volume`` has no such slice, so it is another image.
        """
        return slice_mapping(volume, Plane(self.slice.plane), self.slice.index)

    def window(self) -> Window | None:
        """How the slice was displayed; ``None`` where pixels are shown as they are."""
        shown = self.slice
        if shown.window_center is None or shown.window_width is None:
            return None
        return Window(shown.window_center, shown.window_width, shown.window_name)


@dataclass(frozen=True, eq=False)
class InferenceResult(Inference):
    """A record and its mask.

    ``mask_ijk`` is uint8 of shape (I, J, K) on the image's own grid, 0 or 1, all zero when the
    target is not present and nothing was clicked on. ``readings_ijk``, likewise, holds how many of
    the ``doubt.readings`` hold each voxel; ``None`` where there is no doubt.
    """

    mask_ijk: NDArray[np.uint8] = field(kw_only=True)
    readings_ijk: NDArray[np.uint8] | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, record: Inference, mask_ijk: NDArray[np.uint8]) -> InferenceResult:
        """A record together with its mask (I, J, K), which is kept beside it."""
        values = {known.name: getattr(record, known.name) for known in fields(Inference)}
        return cls(**values, mask_ijk=mask_ijk)

    def record(self) -> Inference:
        """The record alone."""
        return Inference(**{known.name: getattr(self, known.name) for known in fields(Inference)})


@cache
def _adapter() -> TypeAdapter[Inference]:
    return TypeAdapter(Inference)
