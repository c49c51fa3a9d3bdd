# SPDX-License-Identifier: Apache-2.0
"""Why a completion earned what it earned, in sentences with the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medreasoner_training.rewards import base as hits
from medreasoner_training.rewards.assessment import Assessment, assess, assess_as_released
from medreasoner_training.rewards.box_terms import box_area_px
from medreasoner_training.rewards.config import (
    BOX_VALIDITIES,
    MODE_TERMS,
    OPERATING_IOU,
    POINT_VALIDITIES,
    TOTAL,
    Mode,
    check_mode,
    check_operating_iou,
)
from medreasoner_training.rewards.ground_truth import read_truth
from medreasoner_training.rewards.point_terms import points_distance_px
from medreasoner_training.rewards.reading import (
    EMPTY_TRACE,
    KEY_MISSING,
    NO_ANSWER,
    NOT_AN_OBJECT,
    ONE_MALFORMED,
    WELL_FORMED,
    Reading,
)
from medreasoner_training.rewards.scoring import term_values
from medreasoner_training.rewards.smoothing import exp_smooth, log_smooth

Reasons = dict[str, str]

_GRADES = {
    NO_ANSWER: "There is no closed <answer> block.",
    NOT_AN_OBJECT: "The answer block does not hold one JSON object.",
    KEY_MISSING: "A key is missing, or both box and points are malformed.",
    ONE_MALFORMED: "The box or the points are malformed.",
    WELL_FORMED: "The answer holds a box and two key points.",
}
_TRUTHS = {
    "present": "the target is present",
    "absent": "the target is absent",
    "not_understood": "the question is not to be understood",
}
_POINTS_INSIDE = {1.0: "Both", 0.5: "One of the two", 0.25: "None of the two"}


@dataclass(frozen=True)
class TermExplanation:
    """A term's value, ``None`` where it is not scored, and the reason in a sentence."""

    term: str
    value: float | None
    reason: str


def explain(
    completion: str,
    ground_truth: Mapping[str, object] | str | None,
    mode: Mode = "soft",
    as_released: bool = False,
    operating_iou: float = OPERATING_IOU,
) -> tuple[TermExplanation, ...]:
    """Explain :func:`~medreasoner_training.rewards.score` with the same arguments.

    Returns:
        The mode's terms, the validities that penalise them, and the sum, in this order.

    Raises:
        RewardConfigError: ``mode`` is unknown, or the operating IoU outside its range.
        GroundTruthError: the ground truth is malformed, or its box has no area (not checked as
            released).
    """
    terms = MODE_TERMS[check_mode(mode)]
    names = terms if mode == "base" else (*terms, *BOX_VALIDITIES, *POINT_VALIDITIES)
    check_operating_iou(operating_iou)
    truth = read_truth(ground_truth)
    if not as_released:
        assessment = assess(completion, truth, mode)
    elif truth.target is not None:
        assessment = assess_as_released(completion, truth.target, mode)
    else:
        raised = "The released code knows no absent target and raises."
        return tuple(TermExplanation(name, None, raised) for name in (*names, TOTAL))
    values = term_values(assessment, operating_iou)
    reasons = _reasons(assessment, values, as_released)
    reasons[TOTAL] = f"The sum of {len(terms)} terms; its maximum is {len(terms)}."
    return tuple(TermExplanation(name, values[name], reasons[name]) for name in (*names, TOTAL))


def _reasons(assessment: Assessment, values: dict[str, float | None], as_released: bool) -> Reasons:
    if assessment.truth.target is None:
        return _reasons_without_target(assessment, values)
    if assessment.base is not None:
        return _base_reasons(assessment.base, assessment.reading, as_released)
    return {
        **_format_reasons(assessment),
        **_box_reasons(assessment, values),
        **_points_reasons(assessment, values, as_released),
    }


def _reasons_without_target(assessment: Assessment, values: dict[str, float | None]) -> Reasons:
    truth = _TRUTHS[assessment.truth.outcome]
    if assessment.is_right_without_box:
        reason = f"Rightly, {truth}: worth as much as a box of the operating IoU."
    else:
        reason = f"The answer is wrong: {truth}. Its format alone earns something."
    return {**dict.fromkeys(values, reason), **_format_reasons(assessment)}


def _format_reasons(assessment: Assessment) -> Reasons:
    answer = _answer_reason(assessment.reading)
    if assessment.base is not None:
        return {"thinking": _strict_reason(assessment.base.strict_format), "segment": answer}
    return {"format_think": _trace_reason(assessment.reading), "format_seg": answer}


def _trace_reason(reading: Reading) -> str:
    if reading.reasoning is None:
        return "There is no closed <think> block."
    if reading.think_credit == EMPTY_TRACE:
        return "The <think> block is empty."
    return f"A <think> block of {len(reading.reasoning)} characters."


def _answer_reason(reading: Reading) -> str:
    if reading.says_absent:
        return "The answer is null."
    if reading.says_not_understood:
        return 'The answer is "not understood".'
    return " ".join(map(str, reading.faults)) or _GRADES[reading.answer_credit]


def _nothing_reason(reading: Reading, key: str, error: Exception | None) -> str:
    """Why there is no box (``key`` = "bbox") or no pair of points ("points_") to measure."""
    if error is not None:
        return f"The released code raises {type(error).__name__} and voids the whole family."
    if reading.says_absent or reading.says_not_understood:
        return f"{_answer_reason(reading)[:-1]}, but {_TRUTHS['present']}."
    own = [str(fault) for fault in reading.faults if key in str(fault)]
    return " ".join(own) or _answer_reason(reading)


def _penalised(smoothed: float, first: float, second: float, value: float | None) -> str:
    return f"smoothed to {smoothed:.4f}; validities of {first:g} and {second:g} leave {value:.4f}."


def _box_reasons(assessment: Assessment, values: dict[str, float | None]) -> Reasons:
    box, read, truth = assessment.box, assessment.reading.bbox_xyxy_px, assessment.truth.target
    if box is None or read is None or truth is None:
        reason = _nothing_reason(assessment.reading, "bbox", assessment.box_error)
        return dict.fromkeys(("bbox_iou", "bbox_align", "bbox_scale", *BOX_VALIDITIES), reason)
    validities = (box.points_valid, box.area_valid)
    area, true_area = box_area_px(read), box_area_px(truth.bbox_xyxy_px)
    reasons = {
        "bbox_iou": f"IoU {box.iou:.4f}, "
        + _penalised(log_smooth(box.iou), *validities, values["bbox_iou"]),
        "bbox_position_valid": f"{_POINTS_INSIDE[box.points_valid]} true key points in the "
        "predicted box.",
        "bbox_area_valid": f"The predicted area is {area:g} px², the true one {true_area:g} px²; "
        "half to twice the true one is valid.",
    }
    if box.edge_offset is not None and box.shape_change is not None:
        reasons["bbox_align"] = (
            f"The edges are off by {box.edge_offset:.4f} true diagonals, "
            + _penalised(exp_smooth(box.edge_offset, 1.0), *validities, values["bbox_align"])
        )
        reasons["bbox_scale"] = (
            f"Log area and log aspect are off by {box.shape_change:.4f}, "
            + _penalised(exp_smooth(box.shape_change, 0.5), *validities, values["bbox_scale"])
        )
    return reasons


def _points_reasons(
    assessment: Assessment, values: dict[str, float | None], as_released: bool
) -> Reasons:
    points, read = assessment.points, assessment.reading.points_xy_px
    if points is None or read is None:
        reason = _nothing_reason(assessment.reading, "points_", assessment.points_error)
        names = ("points_dice", "points_align", "points_angle", *POINT_VALIDITIES)
        return dict.fromkeys(names, reason)
    validities = (points.points_valid, points.spread_valid)
    overlap = f"Dice {points.disc_dice:.4f} of the discs times axis agreement "
    overlap += f"{points.axis_agreement:.4f} is {points.overlap:.4f}, "
    if as_released:
        overlap = f"Twice the common area of the discs over their union is {points.overlap:.4f}, "
    distance = points_distance_px(read)
    reasons = {
        "points_dice": overlap
        + _penalised(log_smooth(points.overlap), *validities, values["points_dice"]),
        "points_position_valid": f"{_POINTS_INSIDE[points.points_valid]} predicted points in "
        "the true box.",
        "points_spread_valid": f"The predicted points lie {distance:.1f} px apart.",
    }
    if points.offset is not None:
        reasons["points_align"] = (
            f"The coordinates are off by {points.offset:.4f} true diagonals, "
            + _penalised(exp_smooth(points.offset, 1.0), *validities, values["points_align"])
        )
        reasons["points_angle"] = f"The axes agree by {points.axis_agreement:.4f}, " + _penalised(
            log_smooth(points.axis_agreement), *validities, values["points_angle"]
        )
    return reasons


def _strict_reason(strict: bool) -> str:
    return f"Trace and answer are {'' if strict else 'not '}the whole completion."


def _released_object_reason(measure: hits.BaseMeasure) -> str:
    verdict = "is" if measure.well_formed else "is not"
    return f"The first {{…}} of the completion {verdict} JSON with 4, 2 and 2 values."


def _base_reasons(measure: hits.BaseMeasure, reading: Reading, as_released: bool) -> Reasons:
    no_box = no_points = _nothing_reason(reading, "bbox", None)
    if as_released:
        no_box = "The released code raises for every completion, and counts 0."
        no_points = "The first {…} of the completion has no points to measure."
    reasons = {
        "thinking": _strict_reason(measure.strict_format),
        "segment": _released_object_reason(measure) if as_released else _answer_reason(reading),
        "iou": no_box,
        "bbox_l1": no_box,
        "points_l1": no_points,
    }
    if measure.iou is not None and measure.edges_off_px is not None:
        reasons["iou"] = f"IoU {measure.iou:.4f}; a hit lies above {hits.IOU_ABOVE}."
        reasons["bbox_l1"] = (
            f"The edges are off by {measure.edges_off_px:.2f} px; a hit lies below "
            f"{hits.EDGES_BELOW_PX:g} px."
        )
    if measure.points_off_px is not None:
        where = "in" if measure.points_in_own_box else "not both in"
        reasons["points_l1"] = (
            f"The points are off by {measure.points_off_px:.2f} px, {where} the predicted box; a "
            f"hit lies below {hits.POINTS_BELOW_PX:g} px, in the box."
        )
    return reasons
