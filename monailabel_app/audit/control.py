# SPDX-License-Identifier: Apache-2.0
"""Control charts: whether a weekly figure still is what it was in the weeks it began with.

Centre and limits are fixed from a baseline, the first weeks with enough answers, and every later
week is judged against them (Shewhart, *Economic Control of Quality of Manufactured Product*, 1931):
shares on a p chart, means on an X-bar chart, both with limits that are wider in small weeks. Since
the centre is itself an estimate, the spread of a later week is that of its difference from the
baseline. Weeks of one site differ by more than chance alone, by who is on duty and what is
scanned; limits widen by as much as the baseline's weeks do among each other, measured by their
moving range (Laney, *Improved Control Charts for Attributes*, Quality Engineering 14(4), 2002),
and never narrow.

Two of the rules of the Western Electric *Statistical Quality Control Handbook* (1956) alarm: one
week beyond three sigma, and eight weeks in a row on one side of the centre. With known limits both
together alarm falsely once in 152.7 weeks on average (Champ and Woodall, *Technometrics* 29(4),
1987, table 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["share", "mean"]
Rule = Literal["beyond 3 sigma", "8 weeks on one side"]

SIGMAS = 3.0
RUN_WEEKS = 8
LEAST_ANSWERS = 10
"""A week with fewer is shown and not judged."""
BASELINE_WEEKS = 12
# Expected range of two standard normal values: 2 / sqrt(pi).
_RANGE_OF_TWO = 1.128


@dataclass(frozen=True)
class WeekSums:
    """A figure of one week: number of answers, their sum and their sum of squares."""

    week: date
    n: int
    total: float
    squares: float

    @property
    def value(self) -> float:
        """The share or mean."""
        return self.total / self.n


@dataclass(frozen=True)
class ChartPoint:
    """One week on a chart.

    ``low`` and ``high`` are the limits of three sigma, ``None`` for a week that is not judged and
    where there is no baseline. ``rules`` are those that alarm at this week.
    """

    week: date
    n: int
    value: float
    low: float | None = None
    high: float | None = None
    is_baseline: bool = False
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class ControlChart:
    """A figure by weeks; ``centre`` is ``None`` while there are too few weeks for a baseline."""

    kind: Kind
    centre: float | None
    points: tuple[ChartPoint, ...]

    @property
    def alarms(self) -> tuple[ChartPoint, ...]:
        """The weeks at which a rule alarms."""
        return tuple(point for point in self.points if point.rules)


def control_chart(
    kind: Kind,
    weeks: Sequence[WeekSums],
    *,
    baseline_weeks: int = BASELINE_WEEKS,
    least_answers: int = LEAST_ANSWERS,
) -> ControlChart:
    """Judge each week after the baseline.

    Args:
        kind: of the figure; the values of a share are 0 and 1.
        weeks: in their order; weeks without any answer are left out.
        baseline_weeks: how many weeks with enough answers the limits are fixed from, 2 at least.
        least_answers: in a week that is judged, 2 at least.

    Raises:
        ValueError: one of the two numbers is too small.
    """
    if min(baseline_weeks, least_answers) < 2:
        raise ValueError(
            f"baseline_weeks is {baseline_weeks} and least_answers {least_answers}; expected 2 or "
            "more of both."
        )
    large = [week for week in weeks if week.n >= least_answers]
    if len(large) < baseline_weeks:
        unjudged = tuple(ChartPoint(week.week, week.n, week.value) for week in weeks)
        return ControlChart(kind, None, unjudged)
    limits = _Limits.of(kind, large[:baseline_weeks])
    last_baseline = large[baseline_weeks - 1].week
    points: list[ChartPoint] = []
    run = 0  # weeks on one side of the centre, negative below it
    for week in weeks:
        if week.n < least_answers:
            points.append(ChartPoint(week.week, week.n, week.value))
            continue
        is_baseline = week.week <= last_baseline
        above = np.sign(week.value - limits.centre)
        same_side = above != 0 and above == np.sign(run)
        run = 0 if is_baseline else int(run + above if same_side else above)
        points.append(_judged(week, limits, run, is_baseline))
        run = 0 if abs(run) >= RUN_WEEKS else run  # the next alarm takes eight more
    return ControlChart(kind, limits.centre, tuple(points))


@dataclass(frozen=True)
class _Limits:
    """What is fixed from the baseline.

    Attributes:
        kind: of the figure.
        centre: over all answers of the baseline.
        sd: of one answer.
        answers: of the baseline.
        widening: how many times more its weeks differ than their answers explain, 1 at least.
    """

    kind: Kind
    centre: float
    sd: float
    answers: int
    widening: float

    @classmethod
    def of(cls, kind: Kind, baseline: Sequence[WeekSums]) -> _Limits:
        counts = np.array([week.n for week in baseline])
        values = np.array([week.value for week in baseline])
        answers, total = int(counts.sum()), sum(week.total for week in baseline)
        centre = total / answers
        if kind == "share":
            # Half an answer to either side, so that what never happened yet may happen.
            likely = (total + 0.5) / (answers + 1)
            sd = float(np.sqrt(likely * (1 - likely)))
        else:
            within = sum(week.squares - week.n * week.value**2 for week in baseline)
            sd = float(np.sqrt(max(within, 0.0) / max(1, answers - len(baseline))))
        return cls(kind, centre, sd, answers, _widening(values - centre, sd, counts))

    def sigma(self, week: WeekSums, *, is_baseline: bool) -> float:
        """Of a week's figure about the centre."""
        share = 1 / week.n + (0.0 if is_baseline else 1 / self.answers)
        return self.widening * self.sd * float(np.sqrt(share))


def _widening(offsets: NDArray[np.float64], sd: float, counts: NDArray[np.int64]) -> float:
    if sd == 0:
        return 1.0
    z = offsets / (sd / np.sqrt(counts))
    return max(1.0, float(np.abs(np.diff(z)).mean()) / _RANGE_OF_TWO)


def _judged(week: WeekSums, limits: _Limits, run: int, is_baseline: bool) -> ChartPoint:
    sigma = limits.sigma(week, is_baseline=is_baseline)
    low, high = limits.centre - SIGMAS * sigma, limits.centre + SIGMAS * sigma
    rules: list[Rule] = []
    # Where all values are one, rounding alone is no change.
    if not is_baseline and abs(week.value - limits.centre) > SIGMAS * sigma + 1e-9:
        rules.append("beyond 3 sigma")
    if abs(run) >= RUN_WEEKS:
        rules.append("8 weeks on one side")
    if limits.kind == "share":
        low, high = max(0.0, low), min(1.0, high)
    return ChartPoint(week.week, week.n, week.value, low, high, is_baseline, tuple(rules))
