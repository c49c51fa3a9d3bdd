# SPDX-License-Identifier: Apache-2.0
"""The rules of the gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medreasoner_training.gate.config import GateConfig
from medreasoner_training.gate.errors import ScoresError, TooFewHeldOutPatientsError
from medreasoner_training.gate.intervals import Comparison, compare_paired
from medreasoner_training.gate.report import GateReport, Reason
from medreasoner_training.gate.scores import (
    METRICS,
    HeldOut,
    Metric,
    ModelScores,
    PairedScores,
    metric_values,
)

METRIC_NAMES = {
    "box_iou": "Box IoU",
    "mask_dice": "Mask Dice",
    "absence": 'The share of right "not present" answers',
    "failures": "The share of failed answers",
}


def decide(
    held_out: HeldOut,
    candidate: ModelScores,
    live: ModelScores,
    config: GateConfig | None = None,
    former: PairedScores | None = None,
) -> GateReport:
    """Compare a candidate with the live model and decide whether it may replace it.

    Args:
        held_out: the site's samples.
        candidate: its scores on them.
        live: the live model's scores on them.
        config: margins and what decides.
        former: both models' scores at the former site, if it was measured.

    Raises:
        ScoresError: if the scores do not belong together or lack the primary metric.
        TooFewHeldOutPatientsError: if too few patients have a primary score.
    """
    config = config or GateConfig()
    overall = _overall(PairedScores(held_out, candidate, live), config)
    formerly = {} if former is None else _overall(former, config)
    primary = _with_evidence(overall.get(config.primary), config)
    by_label = _by_label(held_out, candidate, live, config)
    reasons = (
        _primary_reason(primary, config),
        _failure_reason(overall["failures"], config),
        _absence_reason(overall.get("absence"), config),
        *_label_reasons(by_label, config),
        *_former_reasons(formerly.get(config.primary), config),
    )
    return GateReport(
        candidate=candidate.name,
        live=live.name,
        promote=all(reason.passed for reason in reasons),
        reasons=tuple(sorted(reasons, key=lambda reason: reason.passed)),
        overall=tuple(overall.values()),
        by_label=by_label,
        samples=len(held_out),
        patients=len(np.unique(held_out.patients)),
        config=config,
        former=tuple(formerly.values()),
    )


def _overall(scores: PairedScores, config: GateConfig) -> dict[Metric, Comparison]:
    """The comparison of each metric that was measured for both models."""
    found = {metric: _compare(scores, metric, config) for metric in METRICS}
    return {metric: comparison for metric, comparison in found.items() if comparison is not None}


def _compare(scores: PairedScores, metric: Metric, config: GateConfig) -> Comparison | None:
    held_out = scores.held_out
    both = (scores.candidate, scores.live)
    first, second = (metric_values(held_out, each, metric) for each in both)
    if first is None or second is None:
        if metric == config.primary:
            raise ScoresError(f"{metric} decides, but was not measured for both models.")
        return None
    return compare_paired(first, second, held_out.patients, config, metric=metric)


def _by_label(
    held_out: HeldOut, candidate: ModelScores, live: ModelScores, config: GateConfig
) -> tuple[Comparison, ...]:
    first, second = (metric_values(held_out, s, config.primary) for s in (candidate, live))
    if first is None or second is None:
        return ()
    labels, patients = np.asarray(held_out.labels), np.asarray(held_out.patients)
    lines = (
        compare_paired(
            first[chosen],
            second[chosen],
            patients[chosen],
            config,
            metric=config.primary,
            label=str(label),
        )
        for label in np.unique(labels)
        for chosen in [labels == label]
    )
    return tuple(line for line in lines if line is not None)


def _with_evidence(primary: Comparison | None, config: GateConfig) -> Comparison:
    patients = 0 if primary is None else primary.patients
    if primary is None or patients < config.min_patients:
        raise TooFewHeldOutPatientsError(
            f"{patients} held-out patients have a {config.primary}; expected at least "
            f"{config.min_patients}. Hold out more patients, or lower min_patients knowing that "
            "the interval means less."
        )
    return primary


def _primary_reason(line: Comparison, config: GateConfig) -> Reason:
    passed = line.low is not None and line.low > -config.margin
    verdict = "lies above" if passed else "does not lie above"
    return Reason(
        config.primary,
        passed,
        f"{_means(line)}; the lower bound of its {config.confidence:.0%} interval "
        f"({line.low:+.3f} to {line.high:+.3f}) {verdict} the margin of {-config.margin:+.3f}.",
    )


def _failure_reason(line: Comparison, config: GateConfig) -> Reason:
    passed = line.difference <= config.failure_margin
    return Reason(
        "failures",
        passed,
        f"{_means(line)}; it {'keeps' if passed else 'breaks'} the limit of "
        f"{config.failure_margin:+.3f}.",
    )


def _absence_reason(line: Comparison | None, config: GateConfig) -> Reason:
    """Kept where too few samples ask for an absent target, but said, lest it look examined."""
    samples = 0 if line is None else line.samples
    if line is None or samples < config.min_label_samples:
        return Reason(
            "absence",
            True,
            f"{METRIC_NAMES['absence']} was not judged: {samples} held-out samples ask for an "
            f"absent target, fewer than {config.min_label_samples}.",
        )
    return _fall_reason("absence", line, config.absence_margin)


def _label_reasons(lines: tuple[Comparison, ...], config: GateConfig) -> tuple[Reason, ...]:
    judged = [line for line in lines if line.samples >= config.min_label_samples]
    return tuple(_fall_reason(f"label {line.label}", line, config.label_margin) for line in judged)


def _former_reasons(line: Comparison | None, config: GateConfig) -> tuple[Reason, ...]:
    if line is None or config.former_margin is None:
        return ()
    reason = _fall_reason("former site", line, config.former_margin)
    return (replace(reason, sentence=f"At the former site: {reason.sentence}"),)


def _fall_reason(rule: str, line: Comparison, margin: float) -> Reason:
    passed = line.difference >= -margin
    return Reason(
        rule,
        passed,
        f"{_means(line)}; it {'keeps' if passed else 'breaks'} the limit of {-margin:+.3f}.",
    )


def _means(line: Comparison) -> str:
    of_label = "" if line.label is None else f" of {line.label}"
    return (
        f"{METRIC_NAMES[line.metric]}{of_label} is {line.candidate_mean:.3f} against "
        f"{line.live_mean:.3f} of the live model ({line.difference:+.3f}, {line.samples} samples "
        f"of {line.patients} patients)"
    )
