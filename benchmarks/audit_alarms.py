# SPDX-License-Identifier: Apache-2.0
"""How often the audit's control charts alarm: at sites that do not change, and after a drift.

Run: ``python benchmarks/audit_alarms.py [--write] [--picture PNG]``. Answers are drawn by numpy;
nothing of the audit is used but its charts.
"""

from __future__ import annotations

import base64
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from medreasoner_training.embedded.marked_text import write_marked
from medreasoner_training.markdown import table_lines
from monailabel_app.audit.control import BASELINE_WEEKS, ControlChart, Kind, WeekSums, control_chart
from monailabel_app.audit.drawing import draw_chart

SITES, WEEKS, DRIFT_WEEK = 200, 40, 20
FIRST, SEED = date(2026, 1, 5), 20260105
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "audit.md"
MODULE = "benchmarks/audit_alarms.py"
# Figure, answers a week, and how much its true value differs between weeks (standard deviation).
STABLE: tuple[tuple[Kind, int, float], ...] = (
    ("share", 15, 0.0), ("share", 30, 0.0), ("share", 100, 0.0), ("mean", 30, 0.0),
    ("share", 30, 0.05), ("mean", 30, 0.03),
)  # fmt: skip
DRIFTS: tuple[tuple[Kind, float], ...] = (
    ("share", -0.1), ("share", -0.2), ("mean", -0.05), ("mean", -0.1),
)  # fmt: skip


def site(
    kind: Kind, rng: np.random.Generator, n: int, late: float, restless: float
) -> ControlChart:
    """The chart of one site.

    Args:
        kind: shares about 0.85, or means about 0.8 with a spread of 0.1.
        rng: draws the answers.
        n: answers a week.
        late: added to the true figure from the drift's week on, counted after the baseline.
        restless: standard deviation of the true figure between weeks.
    """
    weeks = []
    for number in range(BASELINE_WEEKS + WEEKS):
        true = rng.normal(0.0, restless) + (late if number >= BASELINE_WEEKS + DRIFT_WEEK else 0.0)
        if kind == "share":
            values = (rng.random(n) < np.clip(0.85 + true, 0, 1)).astype(float)
        else:
            values = rng.normal(0.8 + true, 0.1, n)
        week = FIRST + timedelta(weeks=number)
        weeks.append(WeekSums(week, n, float(values.sum()), float((values**2).sum())))
    return control_chart(kind, weeks)


def stable_lines() -> list[str]:
    """How often stable sites alarm, as a table in Markdown."""
    rows = []
    for kind, n, restless in STABLE:
        rng = np.random.default_rng(SEED)
        found = [site(kind, rng, n, 0.0, restless).alarms for _ in range(SITES)]
        beyond = sum("beyond 3 sigma" in point.rules for alarms in found for point in alarms)
        weeks, sites = sum(map(len, found)), sum(map(bool, found))
        rows.append(
            (
                kind,
                n,
                f"SD {restless:g}" if restless else "the same",
                f"{100 * beyond / (SITES * WEEKS):.2f} %",
                f"{100 * weeks / (SITES * WEEKS):.2f} %",
                f"{100 * sites / SITES:.0f} %",
            )
        )
    header = (
        "figure", "answers a week", "true figure of the weeks", "weeks beyond 3 sigma",
        "weeks with an alarm", f"sites with an alarm in {WEEKS} weeks",
    )  # fmt: skip
    return table_lines(header, rows)


def drift_lines() -> list[str]:
    """How soon a drift alarms, as a table in Markdown."""
    begins = FIRST + timedelta(weeks=BASELINE_WEEKS + DRIFT_WEEK)
    rows = []
    for kind, late in DRIFTS:
        rng = np.random.default_rng(SEED)
        delays = []
        for _ in range(SITES):
            alarms = site(kind, rng, 30, late, 0.0).alarms
            after = [
                (point.week - begins).days // 7 + 1 for point in alarms if point.week >= begins
            ]
            delays.append(min(after, default=WEEKS))
        within = [f"{100 * np.mean(np.array(delays) <= weeks):.0f} %" for weeks in (1, 4, 8)]
        rows.append((f"{kind} {late:+g}", *within))
    header = ("change, 30 answers a week", "alarm in its first week", "within 4", "within 8")
    return table_lines(header, rows)


def main(
    write: Annotated[bool, typer.Option(help="Write the tables into docs/audit.md.")] = False,
    picture: Annotated[Path | None, typer.Option(help="PNG of a site that changes.")] = None,
) -> None:
    """Print the tables, and draw one site whose acceptance falls."""
    text = "\n".join([*stable_lines(), "", *drift_lines()])
    print(text)
    if write:
        write_marked(DOCUMENT, MODULE, text)
    if picture is not None:
        chart = site("share", np.random.default_rng(3), 30, -0.25, 0.0)
        picture.write_bytes(base64.b64decode(draw_chart(chart)))


if __name__ == "__main__":
    typer.run(main)
