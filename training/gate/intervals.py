# SPDX-License-Identifier: Apache-2.0
"""The mean of paired differences, with a confidence interval that respects patients."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, bootstrap

from medreasoner_training.gate.config import GateConfig
from medreasoner_training.gate.errors import ScoresError
from medreasoner_training.gate.levels import enough_resamples, widened_confidence

_BATCH = 1000
_SAME = 1e-12


@dataclass(frozen=True)
class Comparison:
    """Two models on one metric over the samples to which it applies.

    ``low`` and ``high`` bound the mean difference (candidate - live); ``None`` with fewer than two
    patients, or where too few of them differ for an interval. ``label`` is ``None`` for all labels
    together.
    """

    metric: str
    label: str | None
    candidate_mean: float
    live_mean: float
    difference: float
    low: float | None
    high: float | None
    samples: int
    patients: int


def compare_paired(
    candidate: NDArray[np.float64],
    live: NDArray[np.float64],
    patients: NDArray[np.str_],
    config: GateConfig,
    *,
    metric: str,
    label: str | None = None,
    small_sample: bool = False,
) -> Comparison | None:
    """Compare two models sample by sample.

    Args:
        candidate: (N,) values of the candidate, NaN where the metric does not apply.
        live: (N,) values of the live model, NaN at the same places.
        patients: (N,) whom each sample is of.
        config: confidence, resamples and seed.
        metric: name for the result.
        label: likewise.
        small_sample: widen the interval as few patients demand, and draw as often as its
            confidence demands, as decisions do.

    Returns:
        The comparison; ``None`` if the metric applies to no sample.

    Raises:
        ScoresError: if it applies to other samples of one model than of the other.
    """
    applies = ~np.isnan(candidate)
    if not np.array_equal(applies, ~np.isnan(live)):
        raise ScoresError(f"{metric}: the two models were scored on different samples.")
    if not applies.any():
        return None
    candidate, live = candidate[applies], live[applies]
    difference = candidate - live
    _, patient = np.unique(np.asarray(patients)[applies], return_inverse=True)
    sums = np.asarray(np.bincount(patient, weights=difference), np.float64)
    counts = np.bincount(patient)
    if small_sample and len(counts) > 1:
        config = _for_few(config, len(counts))
    low, high = _interval(sums, counts, config)
    return Comparison(
        metric=metric,
        label=label,
        candidate_mean=float(candidate.mean()),
        live_mean=float(live.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
        samples=len(difference),
        patients=len(counts),
    )


def mean_with_interval(
    values: NDArray[np.float64],
    patients: NDArray[np.str_],
    config: GateConfig,
    *,
    metric: str,
    label: str | None = None,
) -> Comparison | None:
    """A mean with its own interval: the comparison with a model that scores 0.

    Args and returns as :func:`compare_paired`.
    """
    return compare_paired(values, values * 0.0, patients, config, metric=metric, label=label)


def patient_sd(
    candidate: NDArray[np.float64], live: NDArray[np.float64], patients: NDArray[np.str_]
) -> float | None:
    """Standard deviation of the patients' mean differences, each weighted by its samples.

    Divided by the root of the number of patients it is the standard error of the mean difference.

    Args:
        candidate, live, patients: as of :func:`compare_paired`.

    Returns:
        ``None`` with fewer than two patients.
    """
    applies = ~np.isnan(candidate)
    difference = (candidate - live)[applies]
    _, patient = np.unique(np.asarray(patients)[applies], return_inverse=True)
    counts = np.bincount(patient)
    if len(counts) < 2:
        return None
    away = np.bincount(patient, weights=difference - difference.mean()) / counts.mean()
    return float(away.std(ddof=1))


def _for_few(config: GateConfig, patients: int) -> GateConfig:
    confidence = widened_confidence(config.confidence, patients)
    return replace(config, confidence=confidence, resamples=enough_resamples(config, confidence))


def _interval(
    sums: NDArray[np.float64], counts: NDArray[np.int_], config: GateConfig
) -> tuple[float | None, float | None]:
    """BCa interval of the mean over samples when whole patients are drawn with replacement.

    Bias-corrected and accelerated, Efron 1987, doi:10.1080/01621459.1987.10478410: differences of
    overlaps are skewed, which the percentile interval ignores. The mean of a draw of patients is
    the ratio of their summed differences to their number of samples.
    """
    if len(counts) < 2:
        return None, None
    if np.ptp(sums / counts) < _SAME:  # every draw has this mean; BCa's acceleration would be 0/0
        mean = float(_ratio(sums, counts, axis=0))
        return mean, mean
    with warnings.catch_warnings():  # of an interval that it does not find scipy warns
        warnings.simplefilter("ignore", DegenerateDataWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = bootstrap(
            (sums, counts),
            _ratio,
            paired=True,
            vectorized=True,
            n_resamples=config.resamples,
            batch=_BATCH,
            confidence_level=config.confidence,
            method="BCa",
            random_state=np.random.default_rng(config.seed),
        ).confidence_interval
    if not np.isfinite([interval.low, interval.high]).all():  # too few patients differ
        return None, None
    return float(interval.low), float(interval.high)


def _ratio(sums: NDArray[np.float64], counts: NDArray[np.int_], axis: int) -> NDArray[np.float64]:
    return np.asarray(sums.sum(axis=axis) / counts.sum(axis=axis))
