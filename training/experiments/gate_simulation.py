# SPDX-License-Identifier: Apache-2.0
"""How often the gate errs: candidates whose truth is known, judged by the gate as it is.

A patient shows some of the labels, each on a few sections, and each of these labels is asked for
once where it is absent. Two models differ by chance of the patient, of the label in the patient and
of the section, and now and then one of them misses a target altogether. Without a true change the
two are exchangeable, so that "no better" is exactly true; values are cut at 0 and 1, as overlaps
are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from medreasoner_training.gate import (
    GateConfig,
    GateReport,
    HeldOut,
    ModelScores,
    PairedScores,
    attempt_level,
    decide,
)
from medreasoner_training.gate.levels import standard_errors

LABEL = "label-0"
_SAYS_ABSENT = 0.80
#: Nothing is drawn where the mean is above the gain by less than this share of the standard errors
#: that Student's t would demand; skewness does not shift a bound of the bootstrap by as much.
_HOPELESS = 0.7
_CALIBRATING = 3000


@dataclass(frozen=True)
class Site:
    """Held-out patients, and how the answers of two equal models scatter.

    Mean and spread of the overlap are those of the embedded reasoner at the synthetic shifted site;
    together the scatter gives patients' mean differences a standard deviation of 0.08, the middle
    of ten fine-tunings that were measured there.

    Attributes:
        patients: held out.
        labels: that there are.
        shown: share of the labels that a patient shows.
        sections: of each label that is shown.
        mean: of the box IoU.
        sd: of the box IoU between sections, which both models share.
        patient_sd: of the difference of two models between patients.
        label_sd: of the difference between the labels of a patient.
        section_sd: of the difference between the sections of a label.
        missed: share of the sections on which a model finds nothing though the other does.
        absence_flips: share of the absent targets of which the two say different things.
        failed: share of the answers that cannot be read.
    """

    patients: int = 40
    labels: int = 8
    shown: float = 0.6
    sections: int = 2
    mean: float = 0.50
    sd: float = 0.23
    patient_sd: float = 0.055
    label_sd: float = 0.08
    section_sd: float = 0.12
    missed: float = 0.02
    absence_flips: float = 0.10
    failed: float = 0.005


@dataclass(frozen=True)
class Truth:
    """What a candidate truly is: changes against the live model.

    Attributes:
        gain: of the mean box IoU.
        label_gain: of one label, in place of ``gain``.
        absence: of the share of right "not present" answers, 0 or below.
        failures: of the share of answers that cannot be read, 0 or above.
        former: of the mean box IoU at the former site.
        identical: the candidate is the live model.
    """

    gain: float = 0.0
    label_gain: float | None = None
    absence: float = 0.0
    failures: float = 0.0
    former: float = 0.0
    identical: bool = False


SPOILED = Truth(gain=-0.10)
NO_OP = Truth(identical=True)
LUCKY = Truth()
BETTER = Truth(gain=0.05)
#: Better on the whole, and a loss of 0.10 behind each guard that looks at other questions.
HARMFUL = Truth(gain=0.05, label_gain=-0.10, absence=-0.10, former=-0.10)
#: Better where it answers, and one more answer of twenty cannot be read.
FAILING = Truth(gain=0.05, failures=0.05)


@dataclass
class Tally:
    """What became of candidates of one kind.

    Attributes:
        gates: series of candidates; each series promotes one at most.
        judged: candidates that the gate looked at.
        promoted: series that promoted one.
        at_once: series that promoted their first.
        guarded: judged candidates that broke a guard.
        broken: by rule, how many of the judged candidates broke it.
        unclear: by rule, of how many it could not be told.
        patient_sds: of the patients' mean differences of each judged candidate.
    """

    gates: int = 0
    judged: int = 0
    promoted: int = 0
    at_once: int = 0
    guarded: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    unclear: Counter[str] = field(default_factory=Counter)
    patient_sds: list[float] = field(default_factory=list)

    def add(self, report: GateReport) -> None:
        """Count a decision."""
        self.judged += 1
        broken = [r.rule for r in report.reasons if r.verdict == "breaks"]
        self.broken.update(broken)
        self.unclear.update(r.rule for r in report.reasons if r.verdict == "cannot be told")
        self.guarded += bool(set(broken) - {report.config.primary})
        if report.patient_sd is not None:
            self.patient_sds.append(report.patient_sd)


def tally(
    truth: Truth,
    site: Site,
    config: GateConfig,
    *,
    gates: int,
    attempts: int = 1,
    seed: int = 0,
    judge_all: bool = False,
) -> Tally:
    """Judge candidates of one kind.

    Args:
        truth: what they are.
        site: whom they are tried on.
        config: of the gate.
        gates: series of candidates, each on patients of its own.
        attempts: candidates of a series, tried on the same patients until one is promoted.
        seed: of the simulation.
        judge_all: also those whose mean difference tells already that they cannot be promoted;
            otherwise promotions alone are counted in full.
    """
    found, wanted = Tally(), _calibrated(truth, site)
    for number in range(gates):
        rng = np.random.default_rng([seed, number])
        here, there = _Trial(site, rng), _Trial(site, rng)
        found.gates += 1
        for attempt in range(1, attempts + 1):
            scores = here.compared(wanted, rng)
            if not judge_all and _is_hopeless(scores, config, attempt):
                continue
            at_former = replace(wanted, gain=wanted.former, label_gain=None)
            report = decide(
                scores.held_out, scores.candidate, scores.live, config,
                there.compared(at_former, rng), attempt=attempt,
            )  # fmt: skip
            found.add(report)
            if report.promote:
                found.promoted += 1
                found.at_once += attempt == 1
                break
    return found


class _Trial:
    """Questions about the patients of a site, and what the live model answers.

    Args:
        site: whose patients.
        rng: draws them.
    """

    def __init__(self, site: Site, rng: np.random.Generator) -> None:
        shows = rng.random((site.patients, site.labels)) < site.shown
        shows[~shows.any(axis=1), 0] = True
        patient, label = (np.repeat(each, site.sections + 1) for each in np.nonzero(shows))
        self.patient, self.label = patient, label
        self.present = np.tile(np.arange(site.sections + 1) < site.sections, shows.sum())
        self.quality = rng.normal(site.mean, site.sd, len(patient))
        self.knows_absence = rng.random(len(patient)) < _SAYS_ABSENT
        self.site = site
        self.held_out = HeldOut(
            np.char.add("patient-", patient.astype(str)),
            np.char.add("label-", label.astype(str)),
            self.present,
        )
        self.live = self.answers("live", Truth(), rng)

    def compared(self, truth: Truth, rng: np.random.Generator) -> PairedScores:
        """A candidate's answers beside those of the live model."""
        live = self.live
        candidate = (
            replace(live, name="new") if truth.identical else self.answers("new", truth, rng)
        )
        return PairedScores(self.held_out, candidate, live)

    def answers(self, name: str, truth: Truth, rng: np.random.Generator) -> ModelScores:
        """One model's answers; each of two models has half the variance of their difference."""
        site, count = self.site, len(self.patient)
        chance = (
            rng.normal(0.0, site.patient_sd, site.patients)[self.patient]
            + rng.normal(0.0, site.label_sd, (site.patients, site.labels))[self.patient, self.label]
            + rng.normal(0.0, site.section_sd, count)
        ) / np.sqrt(2.0)
        gain = np.full(count, truth.gain)
        if truth.label_gain is not None:
            gain[self.label == 0] = truth.label_gain
        iou = np.clip(self.quality + gain + chance, 0.0, 1.0)
        iou[rng.random(count) < site.missed] = 0.0
        failed = rng.random(count) < site.failed + truth.failures
        knows = self.knows_absence ^ (rng.random(count) < site.absence_flips / 2)
        knows &= rng.random(count) >= -truth.absence / _SAYS_ABSENT
        return ModelScores(
            name, failed, knows & ~failed & ~self.present, np.where(self.present, iou, 0.0)
        )


def differences(scores: PairedScores) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Sums of the differences in box IoU, and numbers of samples, of each patient."""
    present = np.asarray(scores.held_out.present)
    both = [np.where(s.failed, 0.0, s.box_iou)[present] for s in (scores.candidate, scores.live)]
    _, patient = np.unique(np.asarray(scores.held_out.patients)[present], return_inverse=True)
    sums = np.asarray(np.bincount(patient, weights=both[0] - both[1]), np.float64)
    return sums, np.bincount(patient)


def _is_hopeless(scores: PairedScores, config: GateConfig, attempt: int) -> bool:
    sums, counts = differences(scores)
    mean, patients = sums.sum() / counts.sum(), len(counts)
    error = ((sums - mean * counts) / counts.mean()).std(ddof=1) / np.sqrt(patients)
    demanded = standard_errors(attempt_level(config, attempt), patients)
    return bool(mean - config.gain <= _HOPELESS * demanded * error)


def _calibrated(truth: Truth, site: Site) -> Truth:
    """The changes before values are cut at 0 and 1, such that those after it are ``truth``."""

    def before_cut(gain: float) -> float:
        """One secant step from no change, with the same chance on both ends."""
        if not gain:
            return gain
        large, rates = replace(site, patients=_CALIBRATING), []
        for changed in (Truth(), Truth(gain=gain)):
            rng = np.random.default_rng(0)
            sums, counts = differences(_Trial(large, rng).compared(changed, rng))
            rates.append(sums.sum() / counts.sum())
        return gain * gain / (rates[1] - rates[0])

    label = None if truth.label_gain is None else before_cut(truth.label_gain)
    return replace(
        truth, gain=before_cut(truth.gain), label_gain=label, former=before_cut(truth.former)
    )
