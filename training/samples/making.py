# SPDX-License-Identifier: Apache-2.0
"""From a labelled case to samples."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.imaging import (
    SliceMapping,
    Volume,
    letterbox,
    slice_image,
    slice_mapping,
    slice_values,
)
from medreasoner_infer.keypoints import bbox_from_mask
from medreasoner_infer.slice_choice import is_all_but_black
from medreasoner_infer.types import SliceImage
from medreasoner_training.samples.cases import (
    LabelledCase,
    LeftOut,
    Question,
    Sample,
    SampleSettings,
    Target,
)
from medreasoner_training.samples.geometry import (
    chosen_components,
    mask_on_square,
    truth_on_slice,
)
from medreasoner_training.samples.slices import absent_slices, present_slices, spread

#: Least IoU of the reasoner's box with the approved mask's at which its trace is kept.
TRACE_IOU = 0.5
TOO_SMALL = "every section is smaller than the smallest one asked for"


def samples_of_case(
    case: LabelledCase, settings: SampleSettings, left_out: LeftOut
) -> Iterator[Sample]:
    """All samples of a case, target after target, slices in rising order.

    A target with several questions is asked them in turn. Targets of which no section is large
    enough are counted in ``left_out``.

    Raises:
        InputError: the plane or the window does not fit the image.
    """
    for target in case.targets:
        samples = [
            *_present_samples(case, target, settings),
            *_absent_samples(case, target, settings),
        ]
        if not any(sample.present for sample in samples):
            left_out.add(target.name, TOO_SMALL)
            continue
        yield from samples


def _present_samples(
    case: LabelledCase, target: Target, settings: SampleSettings
) -> Iterator[Sample]:
    areas = section_areas(case, target, settings)
    chosen = present_slices(areas, settings.min_area_px, settings.max_slices, case.asked_index)
    for number, index in enumerate(chosen):
        mapping = _mapping(case, index, settings)
        section = chosen_components(_section(case.volume, target, mapping), settings.components)
        if section.sum() * _px_area(mapping) >= settings.min_area_px:
            yield _sample(case, target, mapping, section, number)


def _absent_samples(
    case: LabelledCase, target: Target, settings: SampleSettings
) -> Iterator[Sample]:
    if not target.whole_volume or case.volume.is_picture or not settings.max_absent_slices:
        return
    areas = section_areas(case, target, settings)
    mapping = _mapping(case, 0, settings)
    spacing = case.volume.spacing_ijk_mm[mapping.slice_axis]
    candidates = [
        index
        for index in absent_slices(areas, spacing, settings.absent_margin_mm)
        if not is_all_but_black(_displayed(case, _mapping(case, index, settings)))
    ]
    for number, index in enumerate(spread(candidates, settings.max_absent_slices)):
        mapping = _mapping(case, index, settings)
        yield _sample(case, target, mapping, np.zeros(mapping.shape_hw, bool), number)


def section_areas(
    case: LabelledCase, target: Target, settings: SampleSettings
) -> NDArray[np.float64]:
    """Area of a target on each slice of the case's plane, (N,) in square reasoner px."""
    mapping = _mapping(case, 0, settings)
    other_axes = tuple(axis for axis in range(3) if axis != mapping.slice_axis)
    areas_px = (target.labels_ijk == target.value).sum(axis=other_axes)
    return np.asarray(areas_px * _px_area(mapping), np.float64)


def _sample(
    case: LabelledCase,
    target: Target,
    mapping: SliceMapping,
    section: NDArray[np.bool_],
    number: int,
) -> Sample:
    truth = truth_on_slice(section, mapping)
    return Sample(
        image=letterbox(_displayed(case, mapping), mapping),
        mask=mask_on_square(section, mapping),
        question=_question(case, target, mapping.index, number, section),
        label_name=target.name,
        bbox_xyxy_px=None if truth is None else truth.bbox_xyxy_px,
        points_xy_px=None if truth is None else truth.points_xy_px,
        plane=mapping.plane,
        slice_index=mapping.index,
        modality=case.volume.modality,
        window="as stored" if case.window is None else str(case.window),
        case_key=case.case_key,
        patient_key=case.patient_key,
    )


def _question(
    case: LabelledCase, target: Target, index: int, number: int, section: NDArray[np.bool_]
) -> Question:
    """The questions in turn; cases begin at different ones, the same one each time.

    The trace stays with the slice that was asked about, unless the reader corrected its box.
    """
    start = zlib.crc32(f"{case.case_key}/{target.name}".encode())
    question = target.questions[(start + number) % len(target.questions)]
    if index != case.asked_index:
        return replace(question, reasoning=None, prompts=None)
    return question if _box_held(question, section) else replace(question, reasoning=None)


def _box_held(question: Question, section: NDArray[np.bool_]) -> bool:
    """Whether the box that the trace speaks of is the approved mask's, as far as it is told."""
    prompts = None if question.prompts is None else json.loads(question.prompts)
    if not isinstance(prompts, dict):
        return True
    box, true_box = prompts.get("bbox_xyxy_slice_px"), bbox_from_mask(section)
    if box is None or true_box is None or prompts.get("bbox_source") != "reasoner":
        return False
    return box_iou(tuple(box), true_box) >= TRACE_IOU


def _mapping(case: LabelledCase, index: int, settings: SampleSettings) -> SliceMapping:
    return slice_mapping(case.volume, case.plane, index, model_size=settings.model_size)


def _section(volume: Volume, target: Target, mapping: SliceMapping) -> NDArray[np.bool_]:
    labels = Volume(target.labels_ijk, volume.ijk_to_lps, "OT", "labels", volume.source)
    section: NDArray[np.bool_] = slice_values(labels, mapping) == target.value
    return section


def _px_area(mapping: SliceMapping) -> float:
    scale_x, scale_y = mapping.reasoner_px_per_slice_px
    return scale_x * scale_y


def _displayed(case: LabelledCase, mapping: SliceMapping) -> SliceImage:
    return slice_image(case.volume, mapping, case.window)
