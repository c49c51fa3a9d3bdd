# SPDX-License-Identifier: Apache-2.0
"""``medreasoner audit``: what a site asked, what was answered, and what readers made of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monailabel_app.cli.options import RecordsDatabaseOption, RecordsOption
from monailabel_app.cli.places import OverwriteOption, replaceable_in, usable_folder
from monailabel_app.cli.progress import shown_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monailabel_app.audit.collecting import Audit
    from monailabel_app.audit.control import ControlChart
    from monailabel_app.store.reading import Wanted

_DAY = ["%Y-%m-%d"]
_MOST_DAMAGED = 10


def audit(
    studies: Annotated[
        str, typer.Option(help="Folder of studies, or the address of a DICOMweb server.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for page, tables and card.", callback=usable_folder)
    ] = Path("audit"),
    study: Annotated[
        str | None, typer.Option(help="Only this study: its UID, or an image's id.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Only answers of this model: its name, or how its SHA-256 begins."),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="First day (UTC), e.g. 2026-01-31.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=_DAY, help="Last day (UTC), which counts as well.")
    ] = None,
    baseline_weeks: Annotated[
        int, typer.Option(min=2, help="So many first weeks fix the limits of the charts.")
    ] = 12,
    identifiers: Annotated[
        bool,
        typer.Option("--identifiers", help="Tell images, studies, accounts and times as well."),
    ] = False,
    questions: Annotated[
        bool, typer.Option("--questions", help="Tell the questions' text in answers.csv.")
    ] = False,
    records: RecordsOption = None,
    records_database: RecordsDatabaseOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Count a site's answers by target and weights, and chart by weeks how readers judge them.

    Writes audit.html, answers.csv, weeks.csv, and the site's model card as site_card.md and .html.
    Files of an earlier audit are replaced, any other of these names only with --overwrite.
    Exit status: 1 where no answer is recorded that is asked for.
    """
    from monailabel_app.audit.figures import charts as charts_of
    from monailabel_app.audit.page import is_audit_page
    from monailabel_app.audit.report import REPORT_NAMES, wanted_days, write_report
    from monailabel_app.audit.tables import Told

    replaceable_in(out, REPORT_NAMES, overwrite, is_audit_page)
    days = [None if day is None else day.date() for day in (since, until)]
    wanted = wanted_days(study, model, *days)
    console = Console()
    found = _collected(studies, records, records_database, wanted, console)
    if found is None or not (found.answers or found.damaged):
        console.print("No answer is recorded that is asked for.")
        raise typer.Exit(1)
    for one in found.damaged[:_MOST_DAMAGED]:
        said = Text.assemble(("Set aside: ", "yellow"), f"record {one.id}: {one.reason}")
        console.print(said, soft_wrap=True)
    if len(found.damaged) > _MOST_DAMAGED:
        console.print(f"{len(found.damaged)} records in all cannot be read.")
    if not found.answers:
        raise typer.Exit(1)
    charts = charts_of(found.answers, baseline_weeks)
    _show(found, charts, console)
    for path in write_report(found, charts, out, Told(identifiers, questions)):
        console.print(Text(f"wrote {path}"), soft_wrap=True)


def _collected(
    studies: str, records: Path | None, database: str | None, wanted: Wanted, console: Console
) -> Audit | None:
    """The audit; ``None`` where nothing was recorded yet."""
    from monailabel_app.audit.collecting import collect
    from monailabel_app.site.opening import find_records
    from monailabel_app.site.paths import SitePaths, require_studies

    require_studies(studies)
    store = find_records(SitePaths.of(studies, records, database))
    if store is None:
        return None
    try:
        with shown_progress(console, "Records") as on_record:
            return collect(store, wanted, on_record)
    finally:
        store.close()


def _show(found: Audit, charts: Mapping[str, ControlChart], console: Console) -> None:
    from monailabel_app.audit.figures import GROUPINGS, MEASURES, grouped
    from monailabel_app.audit.page import shown_share

    table = Table("target", "answers", "decided", "accepted as they were", "mean Dice")
    for group in grouped(found.answers, GROUPINGS["By target"]):
        dice = "" if group.dice is None else f"{group.dice:.3f}"
        shown = (str(group.answers), str(group.decided), shown_share(group.accepted_share), dice)
        table.add_row(Text(group.name), *shown)
    console.print(table)
    titles = {measure.name: measure.title for measure in MEASURES}
    for name, chart in charts.items():
        for point in chart.alarms:
            said = f"{titles[name]}, week of {point.week}: {', '.join(point.rules)}"
            console.print(Text.assemble(("Drift: ", "bold red"), said), soft_wrap=True)
