# SPDX-License-Identifier: Apache-2.0
"""A control chart as a PNG in base64."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from medreasoner_training.evaluation.drawing import as_png, new_figure
from monailabel_app.audit.control import LEAST_ANSWERS, ChartPoint, ControlChart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE, _LIMIT, _ALARM, _BASELINE = "#0d9488", "#5a6675", "#b91c1c", "#e8eef4"
_HALF_WEEK = 3.5
_MARGIN = 0.03
_LEAST_DAYS = 84.0


def draw_chart(chart: ControlChart, changes: Sequence[date] = ()) -> str:
    """The picture of :func:`chart_figure`."""
    return as_png(chart_figure(chart, changes))


def chart_figure(chart: ControlChart, changes: Sequence[date] = ()) -> Figure:
    """The weeks, the centre, the limits and what alarms; all figures are of 0 to 1.

    Weeks of the baseline lie on grey, those with too few answers are hollow, those at which a rule
    alarms are red.

    Args:
        chart: of one figure.
        changes: weeks in which other weights began to answer; a dotted line each.
    """
    figure = new_figure(8.4, 2.6)
    axes = figure.subplots()
    axes.xaxis_date()
    axes.plot(
        _days(chart.points), [point.value for point in chart.points], color=_LINE, linewidth=0.8
    )
    _mark(axes, chart.points)
    baseline = _days([point for point in chart.points if point.is_baseline])
    if baseline and chart.centre is not None:
        axes.axvspan(baseline[0] - _HALF_WEEK, baseline[-1] + _HALF_WEEK, color=_BASELINE)
        axes.axhline(chart.centre, color=_LIMIT, linewidth=0.8, linestyle="--")
        _draw_limits(axes, chart.points)
    for week in changes:
        axes.axvline(_day(week), color=_LIMIT, linewidth=0.8, linestyle=":")
    _frame(axes, chart.points)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _frame(axes: Axes, points: Sequence[ChartPoint]) -> None:
    """No value that cannot be, and no years about a few weeks."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -_MARGIN), min(high, 1 + _MARGIN))
    days = _days(points)
    if days[-1] - days[0] < _LEAST_DAYS:
        middle = (days[0] + days[-1]) / 2
        axes.set_xlim(middle - _LEAST_DAYS / 2, middle + _LEAST_DAYS / 2)


def _mark(axes: Axes, points: Sequence[ChartPoint]) -> None:
    kinds = (
        ("o", _LINE, _LINE, [p for p in points if p.n >= LEAST_ANSWERS and not p.rules]),
        ("o", "white", _LINE, [p for p in points if p.n < LEAST_ANSWERS]),
        ("D", _ALARM, _ALARM, [p for p in points if p.rules]),
    )
    for marker, face, edge, shown in kinds:
        axes.plot(
            _days(shown), [point.value for point in shown], marker,
            markerfacecolor=face, markeredgecolor=edge, markersize=5, zorder=3,
        )  # fmt: skip


def _draw_limits(axes: Axes, points: Sequence[ChartPoint]) -> None:
    judged = [point for point in points if point.low is not None]
    for limits in ([p.low or 0.0 for p in judged], [p.high or 0.0 for p in judged]):
        axes.plot(_days(judged), limits, color=_LIMIT, linewidth=0.9, drawstyle="steps-mid")


def _days(points: Sequence[ChartPoint]) -> list[float]:
    return [_day(point.week) for point in points]


def _day(day: date) -> float:
    """As matplotlib counts days."""
    from matplotlib.dates import date2num

    return float(date2num(day))
