# SPDX-License-Identifier: Apache-2.0
"""``audit.html``: the audit on one page, which needs neither a server nor the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medreasoner_training.pages import page_maker, write_page
from monailabel_app.audit.collecting import Audit
from monailabel_app.audit.control import (
    LEAST_ANSWERS,
    RUN_WEEKS,
    ControlChart,
)
from monailabel_app.audit.drawing import draw_chart
from monailabel_app.audit.figures import GROUPINGS, MEASURES, Group, changes_of_weights, grouped

PAGE_NAME = "audit.html"
_MAKER = "medreasoner audit"


def write_audit_page(
    audit: Audit, charts: Mapping[str, ControlChart], folder: Path, *, identifiers: bool = False
) -> Path:
    """Write the page, whole or not at all; the owner alone may read it.

    Args:
        audit: of the records, with one answer at least.
        charts: of the audit's figures, by name.
        folder: of the page.
        identifiers: whether records that could not be read are named.

    Raises:
        MissingExtraError: Jinja is not installed.
    """
    changes = changes_of_weights(audit.answers)
    weeks = [week for week, _ in changes]
    path = folder / PAGE_NAME
    values = {
        "audit": audit,
        "overall": Group.of("all", audit.answers),
        "groupings": {title: grouped(audit.answers, of) for title, of in GROUPINGS.items()},
        "charts": [
            (measure, charts[measure.name], draw_chart(charts[measure.name], weeks))
            for measure in MEASURES
            if measure.name in charts
        ],
        "changes": changes,
        "damaged": audit.damaged if identifiers else (),
        "study_told": identifiers,
        "least_answers": LEAST_ANSWERS,
        "run_weeks": RUN_WEEKS,
        "share": shown_share,
        "time": shown_time,
    }
    write_page(__package__, PAGE_NAME, path, values, private=True)
    return path


def is_audit_page(file: Path) -> bool:
    """Whether a file is the page of an audit.

    Raises:
        OSError: it cannot be read.
    """
    return page_maker(file) == _MAKER


def shown_share(value: float | None) -> str:
    """In percent; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def shown_time(seconds: float | None) -> str:
    """Seconds, minutes or hours; a dash where there is none."""
    if seconds is None:
        return "–"
    for unit, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
