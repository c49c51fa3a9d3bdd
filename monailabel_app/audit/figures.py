# SPDX-License-Identifier: Apache-2.0
"""Counts of answers by target, modality and weights, and the figures that are followed by weeks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import fmean, median

from monailabel_app.audit.answers import AuditedAnswer
from monailabel_app.audit.control import ControlChart, Kind, WeekSums, control_chart


@dataclass(frozen=True)
class Measure:
    """A figure that is followed by weeks; an answer for which ``value`` is ``None`` has none."""

    name: str
    title: str
    kind: Kind
    value: Callable[[AuditedAnswer], float | None]


def _decided(outcome: str) -> Callable[[AuditedAnswer], float | None]:
    return lambda answer: None if answer.decision is None else float(answer.decision == outcome)


def _not_understood(answer: AuditedAnswer) -> float | None:
    return float(answer.outcome == "not_understood") if answer.by_question else None


def _absent(answer: AuditedAnswer) -> float | None:
    is_answered = answer.by_question and answer.outcome != "not_understood"
    return float(answer.outcome == "absent") if is_answered else None


MEASURES: tuple[Measure, ...] = (
    Measure("accepted", "Accepted as they were, of the decided", "share", _decided("accepted")),
    Measure("rejected", "Rejected, of the decided", "share", _decided("rejected")),
    Measure("dice", "Dice of the model's mask with the reader's", "mean", lambda a: a.dice),
    Measure("confidence", "Calibrated confidence", "mean", lambda a: a.confidence),
    Measure("agreement", "Agreement of the samples", "mean", lambda a: a.agreement),
    Measure("support", "Support for the answer", "mean", lambda a: a.support),
    Measure("absent", "“Not present”, of the questions understood", "share", _absent),
    Measure("not_understood", "Questions not understood", "share", _not_understood),
)


def weekly(answers: Iterable[AuditedAnswer], measure: Measure) -> list[WeekSums]:
    """The figure by weeks, in their order; weeks without one are left out."""
    values: defaultdict[date, list[float]] = defaultdict(list)
    for answer in answers:
        value = measure.value(answer)
        if value is not None:
            values[answer.week].append(value)
    return [
        WeekSums(week, len(found), sum(found), sum(value * value for value in found))
        for week, found in sorted(values.items())
    ]


def charts(answers: Sequence[AuditedAnswer], baseline_weeks: int) -> dict[str, ControlChart]:
    """A control chart of each figure that any answer has, by its name."""
    found = {measure.name: (measure, weekly(answers, measure)) for measure in MEASURES}
    return {
        name: control_chart(measure.kind, weeks, baseline_weeks=baseline_weeks)
        for name, (measure, weeks) in found.items()
        if weeks
    }


@dataclass(frozen=True)
class Group:
    """Counts of the answers of one group.

    ``dice`` is the mean over ``compared`` pairs of masks, ``decision_s`` the median time in seconds
    from an answer to the reader's decision, ``since`` and ``until`` its first and last week.
    """

    name: str
    answers: int
    outcomes: Counter[str]
    decisions: Counter[str]
    dice: float | None
    compared: int
    decision_s: float | None
    since: date
    until: date

    @property
    def decided(self) -> int:
        """Answers that a reader decided on."""
        return self.decisions.total()

    @property
    def accepted_share(self) -> float | None:
        """Accepted as they were, of the decided; ``None`` where none was decided."""
        return self.decisions["accepted"] / self.decided if self.decided else None

    @classmethod
    def of(cls, name: str, answers: Sequence[AuditedAnswer]) -> Group:
        """Of answers, one at least."""
        dice = [answer.dice for answer in answers if answer.dice is not None]
        waited = [answer.decision_s for answer in answers if answer.decision_s is not None]
        weeks = [answer.week for answer in answers]
        return cls(
            name,
            len(answers),
            Counter(answer.outcome for answer in answers),
            Counter(answer.decision for answer in answers if answer.decision is not None),
            fmean(dice) if dice else None,
            len(dice),
            median(waited) if waited else None,
            min(weeks),
            max(weeks),
        )


def grouped(
    answers: Iterable[AuditedAnswer], name_of: Callable[[AuditedAnswer], str]
) -> list[Group]:
    """The groups, the largest first; answers whose name is empty are in none."""
    found: defaultdict[str, list[AuditedAnswer]] = defaultdict(list)
    for answer in answers:
        found[name_of(answer)].append(answer)
    groups = [Group.of(name, members) for name, members in found.items() if name]
    return sorted(groups, key=lambda group: (-group.answers, group.name))


GROUPINGS: dict[str, Callable[[AuditedAnswer], str]] = {
    "By target": lambda answer: answer.target,
    "By modality": lambda answer: answer.modality,
    "By reasoner": lambda answer: "" if answer.reasoner is None else str(answer.reasoner),
    "By segmenter": lambda answer: str(answer.segmenter),
}


def changes_of_weights(answers: Sequence[AuditedAnswer]) -> list[tuple[date, str]]:
    """The weeks in which a reasoner answered that had not answered before, without the first."""
    first: dict[str, date] = {}
    for answer in answers:
        if answer.reasoner is not None:
            name = str(answer.reasoner)
            first[name] = min(answer.week, first.get(name, answer.week))
    return sorted((week, name) for name, week in first.items())[1:]
