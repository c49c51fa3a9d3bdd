# SPDX-License-Identifier: Apache-2.0
"""From the scores of two models to the gate's decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medreasoner_training.gate.config import GateConfig
from medreasoner_training.gate.errors import ScoresError, TooFewHeldOutPatientsError
from medreasoner_training.gate.intervals import Comparison, compare_paired, patient_sd
from medreasoner_training.gate.levels import attempt_level
from medreasoner_training.gate.report import GateReport
from medreasoner_training.gate.rules import Evidence, reasons
from medreasoner_training.gate.scores import (
    METRICS,
    HeldOut,
    Metric,
    ModelScores,
    PairedScores,
    metric_values,
)


def decide(
    held_out: HeldOut,
    candidate: ModelScores,
    live: ModelScores,
    config: GateConfig | None = None,
    former: PairedScores | None = None,
    *,
    attempt: int = 1,
) -> GateReport:
    """Compare a candidate with the live model and decide whether it may replace it.

    Args:
        held_out: the site's samples.
        candidate: its scores on them.
        live: the live model's scores on them.
        config: gain, margins and what decides.
        former: both models' scores at the former site, if it was measured.
        attempt: how many candidates were compared with this live model, this one included; the
            more, the surer the gain must be.

    Raises:
        ScoresError: if the scores do not belong together or lack the primary metric.
        TooFewHeldOutPatientsError: if too few patients have a primary score.
        GateConfigError: there is no such attempt.
    """
    config = config or GateConfig()
    scores = PairedScores(held_out, candidate, live)
    overall = _overall(scores, config, attempt)
    formerly = {} if former is None else _overall(former, config)
    primary = _with_evidence(overall.get(config.primary), config)
    by_label = _by_label(scores, config)
    evidence = Evidence(
        primary=primary,
        failures=overall["failures"],
        absence=overall.get("absence"),
        by_label=by_label,
        former=formerly.get(config.primary),
        differs=any(_differs(scores, metric) for metric in overall),
    )
    found = reasons(evidence, config, attempt)
    return GateReport(
        candidate=candidate.name,
        live=live.name,
        promote=all(reason.passed for reason in found),
        reasons=found,
        overall=tuple(overall.values()),
        by_label=by_label,
        samples=len(held_out),
        patients=len(np.unique(held_out.patients)),
        config=config,
        former=tuple(formerly.values()),
        attempt=attempt,
        patient_sd=_patient_sd(scores, config.primary),
    )


def _overall(
    scores: PairedScores, config: GateConfig, attempt: int | None = None
) -> dict[Metric, Comparison]:
    """The comparison of each metric that was measured for both models.

    With an ``attempt`` the primary one is as sure as that attempt demands; all others are guards.
    """
    found = {}
    for metric in METRICS:
        confidence = config.guard_confidence
        if attempt is not None and metric == config.primary:
            confidence = 1 - 2 * attempt_level(config, attempt)
        comparison = _compare(scores, metric, replace(config, confidence=confidence))
        if comparison is not None:
            found[metric] = comparison
    return found


def _compare(scores: PairedScores, metric: Metric, config: GateConfig) -> Comparison | None:
    values = _values(scores, metric)
    if values is None:
        if metric == config.primary:
            raise ScoresError(f"{metric} decides, but was not measured for both models.")
        return None
    patients = scores.held_out.patients
    return compare_paired(*values, patients, config, metric=metric, small_sample=True)


def _values(
    scores: PairedScores, metric: Metric
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(N,) values of candidate and live model; ``None`` unless both were measured."""
    both = (scores.candidate, scores.live)
    first, second = (metric_values(scores.held_out, each, metric) for each in both)
    return None if first is None or second is None else (first, second)


def _differs(scores: PairedScores, metric: Metric) -> bool:
    values = _values(scores, metric)
    return values is not None and not np.array_equal(*values, equal_nan=True)


def _patient_sd(scores: PairedScores, metric: Metric) -> float | None:
    values = _values(scores, metric)
    return None if values is None else patient_sd(*values, scores.held_out.patients)


def _by_label(scores: PairedScores, config: GateConfig) -> tuple[Comparison, ...]:
    values = _values(scores, config.primary)
    if values is None:
        return ()
    first, second = values
    guard = replace(config, confidence=config.guard_confidence)
    labels, patients = np.asarray(scores.held_out.labels), np.asarray(scores.held_out.patients)
    lines = (
        compare_paired(
            first[chosen],
            second[chosen],
            patients[chosen],
            guard,
            metric=config.primary,
            label=str(label),
            small_sample=True,
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
