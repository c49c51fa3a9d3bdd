# SPDX-License-Identifier: Apache-2.0
"""The rules of the gate: what each comparison means for the candidate, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medreasoner_training.gate.config import GateConfig
from medreasoner_training.gate.intervals import Comparison
from medreasoner_training.gate.levels import attempt_level
from medreasoner_training.gate.report import Reason, Verdict

METRIC_NAMES = {
    "box_iou": "Box IoU",
    "mask_dice": "Mask Dice",
    "absence": 'The share of right "not present" answers',
    "failures": "The share of failed answers",
}
_LEAST_GUARD_PATIENTS = 10


@dataclass(frozen=True)
class Evidence:
    """What the rules look at.

    Attributes:
        primary: of the metric that decides, at the attempt's confidence.
        failures: of all samples.
        absence: of samples whose target is absent; ``None`` without any.
        by_label: of the primary metric.
        former: of the primary metric at the former site; ``None`` if it was not measured.
        differs: whether any sample has another score by any metric.
    """

    primary: Comparison
    failures: Comparison
    absence: Comparison | None
    by_label: Sequence[Comparison]
    former: Comparison | None
    differs: bool


def reasons(evidence: Evidence, config: GateConfig, attempt: int) -> tuple[Reason, ...]:
    """One reason for each rule, the broken ones first."""
    found = (
        _primary_reason(evidence.primary, config, attempt),
        *_difference_reason(evidence),
        _guard_reason("failures", evidence.failures, config.failure_margin),
        _absence_reason(evidence.absence, config),
        *_label_reasons(evidence.by_label, config),
        *_former_reasons(evidence.former, config),
    )
    return tuple(sorted(found, key=lambda reason: reason.passed))


def verdict_of(line: Comparison, margin: float) -> Verdict:
    """What an interval says of a loss, which for failures is a rise.

    ``keeps``: a loss of ``margin`` lies outside it. ``breaks``: no loss lies outside it, one of
    ``margin`` inside, and the mean is nearer to that one. ``cannot be told``: anything else, that
    is, the interval is too wide for this margin; fewer than ten patients are no ground for one.
    """
    if line.low is None or line.high is None or line.patients < _LEAST_GUARD_PATIENTS:
        return "cannot be told"
    low, mean, high = line.low, line.difference, line.high
    if line.metric == "failures":
        low, mean, high = -high, -mean, -low
    if low > -margin:
        return "keeps"
    return "breaks" if high < 0.0 and mean <= -margin / 2 else "cannot be told"


def _primary_reason(line: Comparison, config: GateConfig, attempt: int) -> Reason:
    passed = line.low is not None and line.low > config.gain
    verdict = "lies above" if passed else "does not lie above"
    confidence = 1 - 2 * attempt_level(config, attempt)
    asked = "gain" if config.gain >= 0 else "limit of non-inferiority"
    return Reason(
        config.primary,
        passed,
        f"{_means(line)}; the lower bound of its {confidence:.2%} interval ({_interval(line)}) "
        f"{verdict} the {asked} of {config.gain:+.3f}. It is attempt {attempt} against this live "
        "model.",
        "keeps" if passed else "breaks",
    )


def _difference_reason(evidence: Evidence) -> Iterator[Reason]:
    """Whatever is asked for, a candidate that changes nothing replaces nothing."""
    if not evidence.differs:
        yield Reason(
            "difference",
            False,
            "The candidate has the scores of the live model on every held-out sample; nothing "
            "would change.",
            "breaks",
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
            "cannot be told",
        )
    return _guard_reason("absence", line, config.absence_margin)


def _label_reasons(lines: Sequence[Comparison], config: GateConfig) -> Iterator[Reason]:
    for line in lines:
        if line.samples >= config.min_label_samples:
            yield _guard_reason(f"label {line.label}", line, config.label_margin)


def _former_reasons(line: Comparison | None, config: GateConfig) -> Iterator[Reason]:
    if line is not None and config.former_margin is not None:
        reason = _guard_reason("former site", line, config.former_margin)
        yield replace(reason, sentence=f"At the former site: {reason.sentence}")


def _guard_reason(rule: str, line: Comparison, margin: float) -> Reason:
    verdict = verdict_of(line, margin)
    limit = margin if line.metric == "failures" else -margin
    told = {
        "keeps": f"it keeps the limit of {limit:+.3f}",
        "breaks": f"it breaks the limit of {limit:+.3f}",
        "cannot be told": f"whether it keeps the limit of {limit:+.3f} cannot be told from so few",
    }[verdict]
    sentence = f"{_means(line)}, interval {_interval(line)}; {told}."
    return Reason(rule, verdict != "breaks", sentence, verdict)


def _interval(line: Comparison) -> str:
    return "none" if line.low is None else f"{line.low:+.3f} to {line.high:+.3f}"


def _means(line: Comparison) -> str:
    of_label = "" if line.label is None else f" of {line.label}"
    return (
        f"{METRIC_NAMES[line.metric]}{of_label} is {line.candidate_mean:.3f} against "
        f"{line.live_mean:.3f} of the live model ({line.difference:+.3f}, {line.samples} samples "
        f"of {line.patients} patients)"
    )
