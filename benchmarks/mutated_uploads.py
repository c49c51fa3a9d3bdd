# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile image files, brought to the server by every way in.

Run: ``PYTHONPATH=tests python benchmarks/mutated_uploads.py [--files 2000] [--seed 0]``. NIfTI,
NRRD, MetaImage, PNG, JPEG, TIFF, BMP and DICOM files with flipped bits, cut, spliced, with wrong
header fields, and some made on purpose: Python under an image's name, headers that point to other
files, two formats in one, gzip and PNG bombs, claims of terabytes. A share of them comes by each
way; those that are taken are asked about. Afterwards the server must answer, list, start again, and
hold no more memory and temporary files than before. The exit status is 1 where it does not.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table
from support.fuzzing import DoorReport, faults_in, lasting_damage, save_faults
from support.raw_http import RawRequest
from support.tried_server import Mode, TriedServer, serving
from support.uploading import WAYS, WAYS_OF_ARCHIVE, upload_mutants
from support.vitals import Bounds, Vitals, vitals

_WARM_UP = 10
_QUIET_S = 30.0


def look(server: TriedServer) -> Vitals:
    """What the server holds now."""
    return vitals(server.pid, server.scratch, [server.root])


def warm_up(server: TriedServer, names: Sequence[str], seed: int) -> Vitals:
    """Bring a few files by each way, as the first ones load what stays; returns what it holds."""
    for name in names:
        upload_mutants(server, name, _WARM_UP, seed + 1)
    return look(server)


def run(
    server: TriedServer, names: Sequence[str], files: int, seed: int, bounds: Bounds
) -> tuple[list[DoorReport], Vitals, Vitals | None]:
    """Bring the files; returns what each way saw and what the server held before and after."""
    before = warm_up(server, names, seed)
    reports = [upload_mutants(server, name, files // len(names), seed) for name in names]
    last, by_nobody = reports[-1], RawRequest("GET", "/", what="all before")
    after = None
    try:
        time.sleep(_QUIET_S)
        after = look(server)
        for line in bounds.exceeded(before, after):
            last.note(line, by_nobody)
    except psutil.NoSuchProcess:
        last.note("the server has ended", by_nobody)
    try:
        server.restart()
        for line in lasting_damage(server.url, server.headers):
            last.note(f"after a restart {line}", by_nobody)
    except AssertionError:
        last.note("the server does not start again", by_nobody)
    return reports, before, after


def table_of(reports: Sequence[DoorReport], title: str) -> Table:
    """Figures by way."""
    table = Table("way", "requests", "2xx", "4xx", "503", "5xx or none", "slowest s", "faults",
                  title=title)  # fmt: skip
    for report in reports:
        table.add_row(
            report.door, str(len(report.statuses)), str(report.count(2)), str(report.count(4)),
            str(report.statuses.count(503)), str(report.server_faults),
            f"{report.slowest_s:.2f}", str(sum(fault.count for fault in report.faults.values())),
        )  # fmt: skip
    return table


def main(
    files: Annotated[int, typer.Option(help="Files, all ways together.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same files.")] = 0,
    mode: Annotated[list[Mode] | None, typer.Option(help="Where the studies lie; both.")] = None,
    rss: Annotated[float, typer.Option(help="By which share memory may grow.")] = 0.25,
    out: Annotated[Path, typer.Option(help="Folder for the faults' requests.")] = Path("fuzzed"),
) -> None:
    """Bring the files and tell figures by way."""
    console, faults = Console(width=140), 0
    with tempfile.TemporaryDirectory() as scratch:
        for where in mode or Mode:
            names = list(WAYS) if where is Mode.FOLDER else WAYS_OF_ARCHIVE
            with serving(Path(scratch) / where.value, where, login=False) as server:
                reports, before, after = run(server, names, files, seed, Bounds(rss_share=rss))
            console.print(table_of(reports, where.value))
            console.print(f"before {before}\nafter  {after}")
            lines = faults_in(reports)
            faults += len(lines)
            for line in lines:
                console.print(line, markup=False)
            console.print(f"{len(lines)} distinct faults, saved in {save_faults(reports, out)}")
    raise typer.Exit(bool(faults))


if __name__ == "__main__":
    typer.run(main)
