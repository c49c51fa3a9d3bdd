# SPDX-License-Identifier: Apache-2.0
"""How far sampled answers agree with the answer that was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medreasoner_infer.imaging import SliceMapping
from medreasoner_infer.prompting import grounding_in_slice_px
from medreasoner_infer.result import SampleRecord
from medreasoner_infer.types import XYXY, Grounding, ReasonerAnswer


def box_iou(first_xyxy: XYXY, second_xyxy: XYXY) -> float:
    """Intersection over union of two edge-based boxes in the same frame, 0...1."""
    a1, b1, a2, b2 = first_xyxy
    x1, y1, x2, y2 = second_xyxy
    width, height = min(a2, x2) - max(a1, x1), min(b2, y2) - max(b1, y1)
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    areas = (a2 - a1) * (b2 - b1) + (x2 - x1) * (y2 - y1)
    return intersection / (areas - intersection)


def grounding_iou(first: Grounding, second: Grounding) -> float:
    """Box IoU; without a box two answers of the same outcome agree fully, others not at all."""
    if first.bbox_xyxy_px is None or second.bbox_xyxy_px is None:
        return float(first.outcome == second.outcome)
    return box_iou(first.bbox_xyxy_px, second.bbox_xyxy_px)


def agreement(answer: ReasonerAnswer, samples: Sequence[ReasonerAnswer]) -> float | None:
    """Mean IoU of the samples' groundings with the answer's; ``None`` without samples."""
    if not samples:
        return None
    return float(np.mean([grounding_iou(answer.grounding, s.grounding) for s in samples]))


def record_samples(
    answer: ReasonerAnswer, samples: Sequence[ReasonerAnswer], mapping: SliceMapping
) -> tuple[SampleRecord, ...]:
    """Write the samples down in slice px."""
    return tuple(_record(answer, sample, mapping) for sample in samples)


def _record(answer: ReasonerAnswer, sample: ReasonerAnswer, mapping: SliceMapping) -> SampleRecord:
    grounding = sample.grounding
    found = grounding_in_slice_px(grounding, mapping)
    return SampleRecord(
        present=grounding.present,
        outcome=grounding.outcome,
        reasoning=grounding.reasoning,
        bbox_xyxy_slice_px=found.bbox_xyxy_px,
        points_xy_slice_px=found.points_xy_px,
        confidence=sample.confidence,
        bbox_iou_with_answer=round(grounding_iou(answer.grounding, grounding), 4),
    )
