# SPDX-License-Identifier: Apache-2.0
"""Send hostile requests to every door of a running server and judge what comes back."""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.doors import Door
from support.hostile import Hostile
from support.raw_http import RawAnswer, RawRequest, send

WAIT_S = 30.0
# After so many requests without an answer a server stands still, and others only cost time.
STANDS_STILL = 3
_LOG_WRITTEN_S = 0.05
_ARCHIVE = re.compile(r"/proxy/dicom/(wado|qido|stow)/")
# uvicorn's own answer to what is no HTTP, e.g. a raw byte in the address.
_NO_HTTP = b"Invalid HTTP request received."
_TRACEBACK = "Traceback (most recent call last)"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+), in (\S+)', re.MULTILINE)
_RAISED = re.compile(r"^([A-Za-z_][\w.]*)(:|$)", re.MULTILINE)
_OF_A_GROUP = re.compile(r"^ *[|+][ -]?", re.MULTILINE)


@dataclass
class Fault:
    """One way to go wrong, how often it did, and the first request that made it."""

    what: str
    request: RawRequest
    count: int = 0


@dataclass
class DoorReport:
    """What one door did with everything that was sent to it."""

    door: str
    statuses: list[int | None] = field(default_factory=list)
    slowest_s: float = 0.0
    faults: dict[str, Fault] = field(default_factory=dict)
    late_in_a_row: int = 0

    def count_answer(self, request: RawRequest, answer: RawAnswer) -> None:
        """Note status and time; to what is no HTTP no answer is due, and its lack counts as 0."""
        is_due = answer.status is not None or request.is_http
        self.statuses.append(answer.status if is_due else 0)
        self.slowest_s = max(self.slowest_s, answer.seconds)
        self.late_in_a_row = self.late_in_a_row + 1 if answer.is_late else 0

    def count(self, first: int) -> int:
        """How many answers began with this digit."""
        return sum(status is not None and status // 100 == first for status in self.statuses)

    @property
    def server_faults(self) -> int:
        """Answers of 5xx other than 503, and requests without any answer."""
        return sum(status is None or (status >= 500 and status != 503) for status in self.statuses)

    @property
    def stands_still(self) -> bool:
        """Whether the latest requests had no answer."""
        return self.late_in_a_row >= STANDS_STILL

    def note(self, what: str, request: RawRequest) -> None:
        """Count a fault."""
        self.faults.setdefault(what, Fault(what, request)).count += 1


class LogReader:
    """What a server has written to its log since the last look."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._place = log.stat().st_size if log.exists() else 0

    def new(self) -> str:
        """The text since then."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as stream:
            stream.seek(self._place)
            text = stream.read()
        self._place += len(text)
        return text.decode(errors="replace")


def causes(log: str) -> list[str]:
    """What each traceback in a log was raised by and where, without what the error says."""
    parts = _OF_A_GROUP.sub("", log).split(_TRACEBACK)[1:]
    return [_cause(part) for part in parts if not any(words in part for words in _CHAINED)]


def _cause(traceback: str) -> str:
    frames = list(_FRAME.finditer(traceback))
    if not frames:
        return "unknown error"
    path, line, function = frames[-1].groups()
    raised = _RAISED.search(traceback, frames[-1].end())
    place = f"{'/'.join(Path(path).parts[-2:])}:{line} {function}"
    return f"{raised[1] if raised else 'unknown error'} in {place}"


def fault_of(request: RawRequest, answer: RawAnswer, slowest_s: float) -> str | None:
    """Why an answer is none that a server may give, ``None`` if it is one."""
    if answer.status is None:
        return answer.fault if request.is_http or answer.is_late else None
    if answer.status >= 500 and answer.status != 503:
        return f"HTTP {answer.status}"
    if answer.seconds > slowest_s:
        return f"an answer above {slowest_s:g} s"
    if answer.status >= 400 and request.is_http and request.method != "HEAD":
        return None if _is_said(request, answer) else f"HTTP {answer.status} without a sentence"
    return None


def _is_said(request: RawRequest, answer: RawAnswer) -> bool:
    """Whether a refusal has a JSON ``detail``, or is a page that says it, or the archive's own."""
    kind = answer.headers.get("content-type", "")
    if kind.startswith("text/html"):
        is_login = answer.status in (401, 403, 429) and b"<form" in answer.body
        return is_login or b'role="alert"' in answer.body
    if _ARCHIVE.match(request.target) and answer.status < 500:
        return True
    if answer.status == 400 and answer.body == _NO_HTTP:
        return True
    if answer.status in (400, 416) and "Range" in dict(request.headers):
        return True  # Starlette's own words on a part of a file that cannot be had.
    try:
        said = json.loads(answer.body)
    except ValueError:
        return False
    return isinstance(said, dict) and bool(said.get("detail"))


@dataclass(frozen=True)
class Limits:
    """How many requests a door gets, from which seed, and how long an answer may take."""

    requests: int
    seed: int = 0
    slowest_s: float = 5.0


def try_door(
    url: str, door: Door, limits: Limits, headers: Mapping[str, str], log: LogReader
) -> DoorReport:
    """Send a door its valid request and mutants of it, one after the other."""
    report = DoorReport(door.name)
    hostile = Hostile(hash_of(door.name, limits.seed))
    log.new()
    for request in _requests(door, limits.requests, hostile, headers):
        answer = send(url, request, WAIT_S)
        report.count_answer(request, answer)
        fault = fault_of(request, answer, limits.slowest_s)
        if fault is not None:
            time.sleep(_LOG_WRITTEN_S)
            found = causes(log.new())
            report.note(f"{fault}: {found[-1]}" if found else fault, request)
        if report.stands_still:
            report.note("it stands still", request)
            break
    for cause in causes(log.new()):
        report.note(f"traceback in the log: {cause}", request)
    return report


def hash_of(name: str, seed: int) -> int:
    """A number for a door that is the same in every process."""
    return zlib.crc32(f"{seed} {name}".encode())


def _requests(
    door: Door, count: int, hostile: Hostile, headers: Mapping[str, str]
) -> Iterator[RawRequest]:
    yield door.valid(headers)
    for _ in range(count - 1):
        yield door.mutant(hostile, headers)


def lasting_damage(url: str, headers: Mapping[str, str]) -> list[str]:
    """What a server does not answer any more that it must after anything it was sent."""
    damage = []
    for target in ("/info/", "/datastore/?output=all", "/datastore/?output=train", "/openapi.json"):
        request = RawRequest("GET", target, tuple(headers.items()), what="after all")
        answer = send(url, request, WAIT_S)
        if answer.status != 200:
            damage.append(f"GET {target} answers {answer.status} {answer.fault}".strip())
    return damage


def faults_in(reports: Sequence[DoorReport]) -> list[str]:
    """Every fault of every door as a line."""
    return [
        f"{report.door}: {fault.count} times {fault.what} (first: {fault.request.what})"
        for report in reports
        for fault in report.faults.values()
    ]


def save_faults(reports: Sequence[DoorReport], folder: Path) -> Path:
    """Keep the first request of each fault for :meth:`RawRequest.of`; returns the file."""
    saved = [
        {"door": report.door, "what": fault.what, "count": fault.count,
         "request": fault.request.to_dict()}
        for report in reports
        for fault in report.faults.values()
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"faults-{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_text(json.dumps(saved, indent=1))
    return path
