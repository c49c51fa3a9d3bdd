# SPDX-License-Identifier: Apache-2.0
"""Bring damaged and hostile files to a running server by every way in, and judge what it does."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from urllib.parse import quote

from support.doors import QUESTION, nifti
from support.fuzzing import WAIT_S, DoorReport, LogReader, causes, fault_of, lasting_damage
from support.hostile import valid_form
from support.mutants import Mutant, Mutants
from support.raw_http import RawAnswer, RawRequest, send
from support.tried_server import TriedServer

_DROPPED_AT_ONCE = 20
_NOTICED_S = 1.0
_NOTICED_AT_LAST_S = 30.0
_SETTLED_S = 5.0
_NEVER_READ = RawRequest("GET", "/", what="dropped into the studies")


@dataclass
class Way:
    """A server and what has been noted of one way in."""

    server: TriedServer
    report: DoorReport
    log: LogReader
    slowest_s: float

    def send(self, request: RawRequest) -> RawAnswer:
        """Send, count, and note what is wrong with the answer."""
        answer = send(self.server.url, request, WAIT_S)
        self.report.count_answer(request, answer)
        fault = fault_of(request, answer, self.slowest_s)
        if fault is not None:
            time.sleep(0.05)
            found = causes(self.log.new())
            self.report.note(f"{fault}: {found[-1]}" if found else fault, request)
        return answer

    def upload(self, method: str, target: str, field: str, mutant: Mutant) -> RawAnswer:
        """Send a mutant as a file of a form."""
        fields = {"params": {"query": QUESTION, "slice": 2}}
        form = valid_form(fields, {field: (f"x{mutant.extension}", mutant.content)})
        headers = (*self.server.headers.items(), ("Content-Type", form.content_type))
        return self.send(RawRequest(method, target, headers, form.body(), mutant.kind))

    def ask(self, query: str, mutant: Mutant) -> None:
        """Ask a question, so that the file is opened."""
        form = valid_form({"params": {"query": QUESTION, "slice": 2}}, {})
        headers = (*self.server.headers.items(), ("Content-Type", form.content_type))
        target = f"/infer/medreasoner?output=json&{query}"
        self.send(RawRequest("POST", target, headers, form.body(), f"asked: {mutant.kind}"))

    def finished(self) -> DoorReport:
        """The report, with tracebacks that no answer told of."""
        for cause in causes(self.log.new()):
            self.report.note(f"traceback in the log: {cause}", _NEVER_READ)
        return self.report


def as_images(way: Way, mutants: Iterable[Mutant]) -> None:
    """``PUT /datastore/image``; what was taken is asked about, downloaded, and then removed."""
    for number, mutant in enumerate(mutants):
        name = f"up{number}"
        answer = way.upload("PUT", f"/datastore/image?image={name}", "file", mutant)
        if answer.status == 200:
            way.ask(f"image={name}", mutant)
            headers = tuple(way.server.headers.items())
            target = f"/datastore/image?image={name}"
            way.send(RawRequest("GET", target, headers, what=f"downloaded: {mutant.kind}"))
        for path in way.server.studies.glob(f"{name}.*"):
            path.unlink()


def as_labels(way: Way, mutants: Iterable[Mutant]) -> None:
    """``PUT /datastore/label``."""
    image = quote(way.server.image)
    for mutant in mutants:
        way.upload("PUT", f"/datastore/label?image={image}&tag=final", "label", mutant)


def as_sessions(way: Way, mutants: Iterable[Mutant]) -> None:
    """``PUT /session/``; what was taken is asked about, and the session ended."""
    for mutant in mutants:
        answer = way.upload("PUT", "/session/?expiry=60", "files", mutant)
        if answer.status != 200:
            continue
        session = quote(str(json.loads(answer.body).get("session_id")))
        way.ask(f"session_id={session}", mutant)
        headers = tuple(way.server.headers.items())
        way.send(RawRequest("DELETE", f"/session/{session}", headers, what="ended"))


def as_questions(way: Way, mutants: Iterable[Mutant]) -> None:
    """``POST /infer`` with a file."""
    for mutant in mutants:
        way.upload("POST", "/infer/medreasoner?output=json", "file", mutant)


def as_files(way: Way, mutants: Iterable[Mutant]) -> None:
    """Dropped into the studies while the server watches them, asked about, and removed again."""
    for number, batch in enumerate(_batches(mutants, _DROPPED_AT_ONCE)):
        dropped = [_drop(way.server.studies, f"drop{number}n{n}", m) for n, m in enumerate(batch)]
        time.sleep(_NOTICED_S)
        listing = RawRequest("GET", "/datastore/?output=all", tuple(way.server.headers.items()))
        way.send(listing)
        for path, mutant in zip(dropped, batch, strict=True):
            if way.report.stands_still:
                break
            way.ask(f"image={quote(path.name.partition('.')[0])}", mutant)
        for path in dropped:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        way.send(listing)
    if not way.report.stands_still and not is_noticed(way.server):
        way.report.note("a valid file is not noticed any more", _NEVER_READ)


def is_noticed(server: TriedServer) -> bool:
    """Whether a valid file that is put into the studies still comes to the server's list."""
    path = server.studies / "noticed.nii.gz"
    path.write_bytes(nifti(9))
    listing = RawRequest("GET", "/datastore/?output=all", tuple(server.headers.items()))
    deadline = time.monotonic() + _NOTICED_AT_LAST_S
    found = False
    while not found and time.monotonic() < deadline:
        time.sleep(_NOTICED_S)
        found = b'"noticed"' in send(server.url, listing, WAIT_S).body
    path.unlink()
    return found


WAYS: dict[str, Callable[[Way, Iterable[Mutant]], None]] = {
    "PUT /datastore/image": as_images,
    "PUT /datastore/label": as_labels,
    "PUT /session/": as_sessions,
    "POST /infer with a file": as_questions,
    "dropped into the studies": as_files,
}
# An archive is no folder to drop files into, and takes images by STOW-RS.
WAYS_OF_ARCHIVE = tuple(WAYS)[1:4]


def upload_mutants(
    server: TriedServer, name: str, count: int, seed: int, slowest_s: float = 5.0
) -> DoorReport:
    """Bring ``count`` mutants in by the way of this name; afterwards the server must be itself.

    One that stands still is ended and started again, so that the next way is tried as well.
    """
    way = Way(server, DoorReport(name), server.new_log(), slowest_s)
    mutants = Mutants(seed * 1_000 + list(WAYS).index(name))
    left = takewhile(lambda _: not way.report.stands_still, mutants.draw(count))
    WAYS[name](way, left)
    if way.report.stands_still:
        way.report.note("it stands still", _NEVER_READ)
        server.kill()
        server.start()
    time.sleep(_SETTLED_S)
    for line in lasting_damage(server.url, server.headers):
        way.report.note(f"afterwards {line}", _NEVER_READ)
    return way.finished()


def _batches(mutants: Iterable[Mutant], size: int) -> Iterator[list[Mutant]]:
    left = iter(mutants)
    while batch := list(islice(left, size)):
        yield batch


def _drop(studies: Path, name: str, mutant: Mutant) -> Path:
    if mutant.extension != ".dcm":
        path = studies / f"{name}{mutant.extension}"
        path.write_bytes(mutant.content)
        return path
    folder = studies / name
    folder.mkdir()
    (folder / "image.dcm").write_bytes(mutant.content)
    return folder
