# SPDX-License-Identifier: Apache-2.0
"""Hostile requests to every route of the server, on a folder of studies and on an archive.

Run: ``PYTHONPATH=tests python benchmarks/fuzz_routes.py [--requests 500] [--seed 0]``; the archive
is Orthanc, which ``scripts/setup_pacs.sh`` installs. Most requests are a valid one that is wrong in
one thing. A fault is an answer of 5xx but 503, none at all, one that is late, a refusal without a
sentence, a traceback in the log, or a server that afterwards does not answer or does not start on
its folder again; such a server is replaced by a fresh one. The first request of each fault is saved
for ``--replay FILE``. The exit status is 1 where there was one.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from support.fuzzing import (
    WAIT_S,
    DoorReport,
    Limits,
    fault_of,
    faults_in,
    lasting_damage,
    save_faults,
    try_door,
)
from support.raw_http import RawRequest, send
from support.tried_server import Mode, TriedServer, serving

# A door that no description tells of gets fewer, as there are four methods to each of its paths.
_SHARE_OF_HIDDEN = 0.1
_LEAST = 5


def run(
    start: Callable[[], AbstractContextManager[TriedServer]],
    limits: Limits,
    told: Callable[[DoorReport], None],
) -> list[DoorReport]:
    """Try all doors, on a fresh server after one that was damaged."""
    waiting: list[str] | None = None
    reports: list[DoorReport] = []
    while waiting is None or waiting:
        with start() as server:
            doors = {door.name: door for door in server.doors()}
            waiting = [*doors] if waiting is None else waiting
            described = described_names(server)
            log, damaged = server.new_log(), False
            while waiting and not damaged:
                door = doors.get(waiting.pop(0))
                if door is None:
                    continue
                share = 1 if door.name in described else _SHARE_OF_HIDDEN
                count = max(_LEAST, round(limits.requests * share))
                own = Limits(count, limits.seed, limits.slowest_s)
                report = try_door(server.url, door, own, server.headers, log)
                damaged = note_damage(server, report)
                reports.append(report)
                told(report)
            restart(server, reports[-1])
    return reports


def described_names(server: TriedServer) -> set[str]:
    """Method and path of each route that the server describes."""
    request = RawRequest("GET", "/openapi.json", tuple(server.headers.items()))
    paths = json.loads(send(server.url, request, WAIT_S).body)["paths"]
    return {f"{method.upper()} {path}" for path, known in paths.items() for method in known}


def note_damage(server: TriedServer, report: DoorReport) -> bool:
    """Whether the door has left a server that does not answer as before."""
    damage = lasting_damage(server.url, server.headers)
    for line in damage:
        report.note(f"afterwards {line}", RawRequest("GET", "/", what="all before"))
    return bool(damage)


def restart(server: TriedServer, report: DoorReport) -> None:
    """Start once more on the same folder and look again."""
    before = len(lasting_damage(server.url, server.headers))
    try:
        server.restart()
    except AssertionError:
        report.note("the server does not start again", RawRequest("GET", "/", what="all before"))
        return
    if len(lasting_damage(server.url, server.headers)) > before:
        report.note("a restart damages it", RawRequest("GET", "/", what="all before"))


def table_of(reports: Sequence[DoorReport], title: str) -> Table:
    """Figures by door."""
    table = Table("route", "sent", "2xx", "4xx", "503", "5xx or none", "slowest s", "faults",
                  title=title)  # fmt: skip
    for report in reports:
        table.add_row(
            report.door, str(len(report.statuses)), str(report.count(2)), str(report.count(4)),
            str(report.statuses.count(503)), str(report.server_faults),
            f"{report.slowest_s:.2f}", str(sum(fault.count for fault in report.faults.values())),
        )  # fmt: skip
    return table


def replay(saved: Path, server: TriedServer, slowest_s: float, console: Console) -> int:
    """Send saved requests again; returns how many are still faults."""
    still = 0
    for entry in json.loads(saved.read_text()):
        request = RawRequest.of(entry["request"])
        fault = fault_of(request, send(server.url, request, WAIT_S), slowest_s)
        still += fault is not None
        console.print(f"{entry['door']}: {request.what}: {fault or 'held'}", markup=False)
    return still


def main(
    requests: Annotated[int, typer.Option(help="Requests to each described route.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed sends the same requests.")] = 0,
    mode: Annotated[list[Mode] | None, typer.Option(help="Where the studies lie; both.")] = None,
    login: Annotated[bool, typer.Option(help="With a reader's token instead of none.")] = False,
    slowest: Annotated[float, typer.Option(help="Longest answer in seconds.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder for the faults' requests.")] = Path("fuzzed"),
    replayed: Annotated[Path | None, typer.Option("--replay", help="Faults of a run.")] = None,
) -> None:
    """Send, judge, and tell figures by route."""
    console, faults = Console(width=140), 0
    with tempfile.TemporaryDirectory() as scratch:
        for where in mode or Mode:

            def start(where: Mode = where) -> AbstractContextManager[TriedServer]:
                return serving(Path(scratch) / where.value, where, login)

            if replayed is not None:
                with start() as server:
                    faults += replay(replayed, server, slowest, console)
                continue
            began = time.monotonic()
            limits = Limits(requests, seed, slowest)
            reports = run(start, limits, lambda report: _tell(console, report))
            console.print(table_of(reports, where.value))
            lines = faults_in(reports)
            faults += len(lines)
            for line in lines:
                console.print(line, markup=False)
            sent = sum(len(report.statuses) for report in reports)
            console.print(
                f"{where.value}: {sent} requests in {time.monotonic() - began:.0f} s, "
                f"{len(lines)} distinct faults, saved in {save_faults(reports, out)}"
            )
    raise typer.Exit(bool(faults))


def _tell(console: Console, report: DoorReport) -> None:
    console.print(f"{report.door}: {len(report.statuses)} sent, {report.server_faults} faults")


if __name__ == "__main__":
    typer.run(main)
