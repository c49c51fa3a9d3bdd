# SPDX-License-Identifier: Apache-2.0
"""What an inference returns: everything a viewer, an auditor or a trainer needs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from medreasoner_infer.types import XY, XYXY, XYZ, ModelIdentity

RESULT_SCHEMA_VERSION = 1


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


@dataclass(frozen=True)
class SliceRecord:
    """The slice that was read, and how it was displayed.

    ``index`` is the voxel index along the cut axis; ``center_lps_mm`` is the patient position of
    the displayed slice's centre. ``window_center`` and ``window_width`` are in the image's values
    (HU for CT) and ``None`` where pixels are shown as they are.
    """

    plane: str
    index: int
    count: int
    shape_hw: tuple[int, int]
    spacing_xy_mm: XY
    center_lps_mm: XYZ
    window_name: str
    window_center: float | None
    window_width: float | None


@dataclass(frozen=True)
class CandidateSlice:
    """One slice looked at while searching: was the target seen, and how strongly."""

    index: int
    present: bool
    score: float


@dataclass(frozen=True)
class SliceChoice:
    """How the slice was chosen, and a sentence that tells the reader.

    ``method`` is ``"index"``, ``"position"``, ``"click"``, ``"single"``, ``"middle"`` or
    ``"search"``.
    """

    method: str
    explanation: str
    candidates: tuple[CandidateSlice, ...] = ()


@dataclass(frozen=True)
class SampleRecord:
    """One of several sampled answers, box and points in slice px."""

    present: bool
    reasoning: str
    bbox_xyxy_slice_px: XYXY | None
    points_xy_slice_px: tuple[XY, ...]
    confidence: float | None
    bbox_iou_with_answer: float | None


@dataclass(frozen=True)
class MaskSummary:
    """Size of the mask. ``slice_range`` holds the first and last slice index with any voxel."""

    voxels: int
    volume_mm3: float
    slice_area_mm2: float
    slice_range: tuple[int, int] | None
    predicted_iou: float | None


@dataclass(frozen=True)
class InferenceResult:
    """One answered question (or one run of the segmenter alone).

    ``mask_ijk`` is uint8 of shape (I, J, K) on the image's own grid, 0 or 1, all zero when the
    target is not present. ``agreement`` is the mean box IoU of the further samples with the answer
    (1.0 means the model always says the same), ``None`` for a single sample. ``timings_s`` maps a
    stage to seconds.
    """

    inference_id: str
    created_at: str
    kind: str
    query: str | None
    reasoning: str | None
    completion: str | None
    present: bool
    confidence: float | None
    agreement: float | None
    samples: tuple[SampleRecord, ...]
    prompts: PromptRecord | None
    slice: SliceRecord
    slice_choice: SliceChoice
    propagated: bool
    mask_ijk: np.ndarray
    mask: MaskSummary
    modality: str
    reasoner: ModelIdentity | None
    segmenter: ModelIdentity
    timings_s: dict[str, float]
    warnings: tuple[str, ...] = ()
    schema_version: int = RESULT_SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Everything but the mask as plain JSON types (tuples become lists)."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "mask_ijk"
        }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
