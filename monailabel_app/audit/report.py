# SPDX-License-Identifier: Apache-2.0
"""All that an audit is told in: page, tables, and the model card of the site."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path

from medreasoner_infer.models.store import ReasonerStore
from monailabel_app.audit.collecting import Audit
from monailabel_app.audit.control import ControlChart
from monailabel_app.audit.page import PAGE_NAME, write_audit_page
from monailabel_app.audit.site_card import CARD_NAME, CARD_PAGE, site_card, write_site_card
from monailabel_app.audit.tables import ANSWERS_NAME, WEEKS_NAME, Told, write_answers, write_weeks
from monailabel_app.store.reading import Wanted

REPORT_NAMES = (PAGE_NAME, ANSWERS_NAME, WEEKS_NAME, CARD_NAME, CARD_PAGE)


def wanted_days(
    study: str | None, model: str | None, since: date | None, until: date | None
) -> Wanted:
    """Which records are looked through.

    Args:
        study: as of :class:`Wanted`.
        model: likewise.
        since: the first day (UTC).
        until: the last day (UTC), which counts as well.
    """
    after = None if until is None else until + timedelta(days=1)
    return Wanted(study, model, _begin(since), _begin(after))


def _begin(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, time(), timezone.utc)


def write_report(
    found: Audit, charts: Mapping[str, ControlChart], out: Path, told: Told
) -> tuple[Path, ...]:
    """Write audit.html, answers.csv, weeks.csv, site_card.md and .html.

    Args:
        found: with at least one answer.
        charts: by the name of what is charted.
        out: folder; made if absent.
        told: what of persons.

    Returns:
        The paths written.
    """
    out.mkdir(parents=True, exist_ok=True)
    return (
        write_audit_page(found, charts, out, identifiers=told.identifiers),
        write_answers(found.answers, out, told),
        write_weeks(charts, out),
        *write_site_card(site_card(ReasonerStore(), found.answers, charts), out),
    )
