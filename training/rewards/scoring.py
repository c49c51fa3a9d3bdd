# SPDX-License-Identifier: Apache-2.0
"""From a completion and its ground truth to the value of each term."""

from __future__ import annotations

from collections.abc import Mapping

from medreasoner_training.rewards.assessment import Assessment, assess, assess_as_released
from medreasoner_training.rewards.config import (
    BASE_FORMAT_TERMS,
    BASE_TERMS,
    FORMAT_TERMS,
    HARD_TERMS,
    MODE_TERMS,
    OPERATING_IOU,
    SOFT_TERMS,
    TOTAL,
    VALIDITIES,
    Mode,
    RewardConfig,
    check_mode,
    check_operating_iou,
)
from medreasoner_training.rewards.ground_truth import Truth, read_truth
from medreasoner_training.rewards.operating_point import credit_without_box

_SHAPED_KEYS = (*HARD_TERMS, *VALIDITIES)
_NOTHING_EARNED: dict[str, dict[str, float | None]] = {
    "soft": {
        key: None if key in HARD_TERMS and key not in SOFT_TERMS else 0.0 for key in _SHAPED_KEYS
    },
    "hard": dict.fromkeys(_SHAPED_KEYS, 0.0),
    "base": dict.fromkeys(BASE_TERMS, 0.0),
}


def score(
    completion: str,
    ground_truth: Mapping[str, object] | str | None,
    mode: Mode = "soft",
    as_released: bool = False,
    operating_iou: float = OPERATING_IOU,
) -> dict[str, float | None]:
    """Score one completion.

    Args:
        completion: the generated text, coordinates in the pixels of ``ground_truth``.
        ground_truth: what :func:`~medreasoner_training.rewards.read_truth` reads; ``None`` for an
            absent target.
        mode: ``soft`` (4 terms), ``hard`` (8) or ``base`` (5 hits).
        as_released: reproduce the released code with its defects.
        operating_iou: quality of a box that is worth as much as a right answer without one; see
            :mod:`~medreasoner_training.rewards.operating_point`. Not used as released.

    Returns:
        Each term by its released name in 0...1, ``score`` as the sum over the mode's terms and, in
        ``soft`` and ``hard``, the four validities that penalise the terms. ``None`` means *not
        scored*: a term of another mode (0 as released), or every value where the released code
        raises, which it does where there is no target.

    Raises:
        RewardConfigError: ``mode`` is unknown, or the operating IoU outside its range.
        GroundTruthError: the ground truth is malformed, or its box has no area (not checked as
            released).

    Examples:
        >>> truth = {"bbox_2d": [10, 10, 50, 40], "point_2d": [[20, 20], [40, 30]]}
        >>> text = (
        ...     '<think>Left lobe.</think><answer>{"bbox": [10, 10, 50, 40], '
        ...     '"points_1": [20, 20], "points_2": [40, 30]}</answer>'
        ... )
        >>> score(text, truth)["score"]
        4.0
        >>> absent = score("<think>Not seen.</think><answer>null</answer>", None)
        >>> absent["format_seg"], absent["bbox_iou"]
        (1.0, 0.5057)
    """
    check_mode(mode)
    check_operating_iou(operating_iou)
    return _score(completion, read_truth(ground_truth), mode, as_released, operating_iou)


def reward(
    completion: str, ground_truth: Mapping[str, object] | str | None, config: RewardConfig
) -> float | None:
    """The weighted sum over a configuration's terms; ``None`` if one of them is not scored."""
    total = 0.0
    for value in weighted_terms(completion, read_truth(ground_truth), config).values():
        if value is None:
            return None
        total += value
    return total


def weighted_terms(completion: str, truth: Truth, config: RewardConfig) -> dict[str, float | None]:
    """What each of a configuration's terms earns, its weight included.

    Raises:
        GroundTruthError: the true box has no area (not checked as released).
    """
    values: dict[str, float | None] = {}
    for mode, weights in config.weights_by_mode.items():
        scores = _score(completion, truth, mode, config.as_released, config.operating_iou)
        for term, weight in weights.items():
            value = scores[term]
            values[term] = None if value is None else weight * value
    return values


def _score(
    completion: str, truth: Truth, mode: Mode, as_released: bool, operating_iou: float
) -> dict[str, float | None]:
    if not as_released:
        return term_values(assess(completion, truth, mode), operating_iou)
    if truth.target is None:
        return dict.fromkeys((TOTAL, *_NOTHING_EARNED[mode]))
    values = term_values(assess_as_released(completion, truth.target, mode), operating_iou)
    return {name: 0.0 if value is None else value for name, value in values.items()}


def term_values(assessment: Assessment, operating_iou: float) -> dict[str, float | None]:
    """The values of an assessment's terms, and their sum."""
    values = dict(_NOTHING_EARNED[assessment.mode])
    if assessment.base is not None:
        values.update(assessment.base.terms())
    else:
        values["format_think"] = assessment.reading.think_credit
        values["format_seg"] = assessment.reading.answer_credit
        for measure in (assessment.box, assessment.points):
            if measure is not None:
                values.update(measure.terms())
    if assessment.is_right_without_box:
        values.update(_credits_without_box(values, operating_iou))
    values[TOTAL] = sum(values[term] or 0.0 for term in MODE_TERMS[assessment.mode])
    return values


def _credits_without_box(
    values: Mapping[str, float | None], operating_iou: float
) -> dict[str, float]:
    """What the scored terms other than the format's earn; nothing speaks against a validity."""
    scored = [key for key, value in values.items() if value is not None]
    return {
        key: 1.0 if key in VALIDITIES else credit_without_box(key, operating_iou)
        for key in scored
        if key not in (*FORMAT_TERMS, *BASE_FORMAT_TERMS)
    }
