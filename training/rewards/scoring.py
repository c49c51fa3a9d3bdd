# SPDX-License-Identifier: Apache-2.0
"""From a completion and its ground truth to the value of each term."""

from __future__ import annotations

from collections.abc import Mapping

from medreasoner_training.rewards.assessment import Assessment, assess, assess_as_released
from medreasoner_training.rewards.config import (
    BASE_TERMS,
    BOX_VALIDITIES,
    HARD_TERMS,
    MODE_TERMS,
    POINT_VALIDITIES,
    SOFT_TERMS,
    TOTAL,
    Mode,
    RewardConfig,
    check_mode,
)
from medreasoner_training.rewards.ground_truth import read_ground_truth

_SHAPED_KEYS = (*HARD_TERMS, *BOX_VALIDITIES, *POINT_VALIDITIES)
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
) -> dict[str, float | None]:
    """Score one completion.

    Args:
        completion: the generated text, coordinates in the pixels of ``ground_truth``.
        ground_truth: what :func:`~medreasoner_training.rewards.read_ground_truth` reads; ``None``
            for an absent target.
        mode: ``soft`` (4 terms), ``hard`` (8) or ``base`` (5 hits).
        as_released: reproduce the released code with its defects.

    Returns:
        Each term by its released name in 0...1, ``score`` as the sum over the mode's terms and, in
        ``soft`` and ``hard``, the four validities that penalise the terms. ``None`` means *not
        scored*: a term of another mode (0 as released), or every value where the released code
        raises, which it does for an absent target.

    Raises:
        RewardConfigError: ``mode`` is unknown.
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
        >>> score("<think>Not seen.</think><answer>null</answer>", None)["score"]
        4.0
    """
    check_mode(mode)
    truth = read_ground_truth(ground_truth)
    if not as_released:
        return term_values(assess(completion, truth, mode))
    if truth is None:
        return dict.fromkeys((TOTAL, *_NOTHING_EARNED[mode]))
    values = term_values(assess_as_released(completion, truth, mode))
    return {name: 0.0 if value is None else value for name, value in values.items()}


def reward(
    completion: str, ground_truth: Mapping[str, object] | str | None, config: RewardConfig
) -> float | None:
    """The weighted sum over a configuration's terms; ``None`` if one of them is not scored."""
    modes = {config.mode_of(term) for term in config.selected_terms}
    by_mode = {m: score(completion, ground_truth, m, config.as_released) for m in modes}
    total = 0.0
    for term in config.selected_terms:
        value = by_mode[config.mode_of(term)][term]
        if value is None:
            return None
        total += config.weight_of(term) * value
    return total


def term_values(assessment: Assessment) -> dict[str, float | None]:
    """The values of an assessment's terms, and their sum."""
    values = dict(_NOTHING_EARNED[assessment.mode])
    if assessment.truth is None and not assessment.reading.says_not_understood:
        _reward_absence(values, assessment)
    elif assessment.base is not None:
        values.update(assessment.base.terms())
    else:
        values["format_think"] = assessment.reading.think_credit
        values["format_seg"] = assessment.reading.answer_credit
        for measure in (assessment.box, assessment.points):
            if measure is not None:
                values.update(measure.terms())
    values[TOTAL] = sum(values[term] or 0.0 for term in MODE_TERMS[assessment.mode])
    return values


def _reward_absence(values: dict[str, float | None], assessment: Assessment) -> None:
    """Give ``null`` all that can be had but what the trace's format earns; nothing otherwise."""
    if not assessment.reading.says_absent:
        return
    for key, value in values.items():
        values[key] = None if value is None else 1.0
    if assessment.base is not None:
        values["thinking"] = float(assessment.base.strict_format)
    else:
        values["format_think"] = assessment.reading.think_credit
