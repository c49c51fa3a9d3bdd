# SPDX-License-Identifier: Apache-2.0
"""Ten clients for an hour, while the archive and the database come and go: what does it hold then?

Run: ``PYTHONPATH=tests python benchmarks/soak.py [--minutes 60] [--mode pacs]``. The clients ask,
hang up, cancel, correct, submit labels, decide, list, send damaged files, log in wrongly and hold
connections half open. Meanwhile the archive (Orthanc) is paused, killed and started again, and the
database is locked. Before all that, new images are asked about until the caches are full, which
else would look like a leak. Once a minute the server's memory, threads, handles, children,
temporary files and data are noted; after a quiet half minute they are compared with those of the
first minute. The exit status is 1 where one has grown beyond its bound, an answer was 5xx but 503,
or the server does not answer or start again. Everything goes to 127.0.0.1 alone.
"""

from __future__ import annotations

import json
import random
import re
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer
from rich.console import Console
from rich.table import Table
from support.doors import QUESTION, nifti, nifti_mask
from support.fuzzing import causes, lasting_damage
from support.hostile import valid_form
from support.mutants import Mutant, Mutants
from support.raw_http import RawAnswer, RawRequest, half_open, hang_up, send
from support.servers import Orthanc
from support.tried_server import Mode, TriedServer, serving
from support.vitals import Bounds, Vitals, vitals

ANSWER_S = 120.0
QUIET_S = 30.0
BETWEEN_DISTURBANCES_S = 30.0
DISTURBED_S = 8.0
_MUTANTS = 200
_STREAM_ID = re.compile(r'"stream_id": ?"([^"]+)"')


@dataclass
class Tally:
    """What every kind of action came to, by many threads."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    slowest_s: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, action: str, outcome: str, seconds: float) -> None:
        """Count one."""
        with self._lock:
            self.outcomes.setdefault(action, Counter())[outcome] += 1
            self.slowest_s[action] = max(self.slowest_s.get(action, 0.0), seconds)

    def faults(self) -> list[str]:
        """Answers that no disturbance excuses."""
        return [
            f"{action}: {count} times {outcome}"
            for action, outcomes in self.outcomes.items()
            for outcome, count in outcomes.items()
            if outcome == "late" or (outcome.startswith("5") and outcome != "503")
        ]


class SoakClient:
    """One client that does one thing after the other, until told to stop."""

    def __init__(self, server: TriedServer, mutants: list[Mutant], tally: Tally, seed: int) -> None:
        self._server = server
        self._mutants = mutants
        self._tally = tally
        self._random = random.Random(seed)
        self._inference: str | None = None
        self._image = quote(server.image)

    def fill_caches(self, images: int) -> None:
        """Ask about ``images`` new ones, each of which the server keeps what it can of."""
        for number in range(images):
            self._form(
                "fill caches", "POST", "/infer/medreasoner?output=json",
                {"params": {"query": QUESTION, "slice": 1}},
                {"file": ("x.nii.gz", nifti(1_000 + number))},
            )  # fmt: skip

    def run(self, stop: threading.Event) -> None:
        """Act until ``stop`` is set."""
        actions = (self.ask, self.ask, self.leave, self.cancel, self.correct, self.label,
                   self.decide, self.bad_file, self.look_around, self.wrong_login,
                   self.half_open, self.session)  # fmt: skip
        while not stop.is_set():
            self._random.choice(actions)()
            stop.wait(self._random.uniform(0.0, 0.5))

    def ask(self) -> None:
        """Ask, and read the answer to its end."""
        params = {"query": QUESTION, "slice": self._random.randrange(3)}
        answer = self._form(
            "ask", "POST", f"/infer/medreasoner?output=json&image={self._image}", {"params": params}
        )
        if answer.status == 200:
            self._inference = json.loads(answer.body)["medreasoner"]["inference_id"]

    def leave(self) -> None:
        """Ask, and hang up before the answer is there."""
        read = self._random.choice((16, 300, 2_000))
        hang_up(self._server.url, self._question(), read, self._random.uniform(0.01, 3.0))
        self._tally.note("leave", "left", 0.0)

    def cancel(self) -> None:
        """Ask, cancel as soon as the stream has a name, and read what still comes."""
        question = self._question()
        try:
            with httpx.stream(
                question.method, self._server.url + question.target, content=question.body,
                headers=dict(question.headers), timeout=ANSWER_S,
            ) as answer:  # fmt: skip
                self._tally.note("ask to cancel", str(answer.status_code), 0.0)
                for line in answer.iter_lines():
                    if found := _STREAM_ID.search(line):
                        self._send("cancel", "DELETE", f"/medreasoner/streams/{found[1]}")
        except httpx.TransportError as error:
            late = isinstance(error, httpx.TimeoutException)
            self._tally.note("ask to cancel", "late" if late else "cut off", 0.0)

    def correct(self) -> None:
        """Segment by a point of one's own."""
        inside = [[self._random.uniform(-20.0, 20.0), self._random.uniform(-20.0, 20.0), 10.0]]
        self._json("correct", "POST", f"/medreasoner/streams/segment?image={self._image}",
                   {"plane": "axial", "position": inside[0], "inside": inside})  # fmt: skip

    def label(self) -> None:
        """Submit a label for the last answer."""
        params = {"inference_id": self._inference} if self._inference else {}
        self._form(
            "label", "PUT", f"/datastore/label?image={self._image}&tag=final", {"params": params},
            {"label": ("label.nii.gz", nifti_mask())},
        )  # fmt: skip

    def decide(self) -> None:
        """Reject the last answer."""
        if self._inference is not None:
            self._json(
                "decide", "PUT", f"/medreasoner/inferences/{self._inference}/decision",
                {"outcome": "rejected", "reason": "It shows another organ."},
            )  # fmt: skip

    def bad_file(self) -> None:
        """Ask about a damaged file."""
        mutant = self._random.choice(self._mutants)
        self._form(
            "bad file", "POST", "/infer/medreasoner?output=json",
            {"params": {"query": QUESTION, "slice": 1}},
            {"file": (f"x{mutant.extension}", mutant.content)},
        )  # fmt: skip

    def look_around(self) -> None:
        """What viewers ask when they start."""
        for target in ("/info/", "/datastore/?output=all",
                       f"/medreasoner/inferences?image={self._image}&limit=5"):  # fmt: skip
            self._send("look around", "GET", target)

    def wrong_login(self) -> None:
        """Guess a token."""
        guess = f"Bearer {self._random.randbytes(20).hex()}"
        request = RawRequest("GET", "/info/", (("Authorization", guess),))
        self._note("wrong login", request)

    def half_open(self) -> None:
        """Hold a connection whose request never ends."""
        half_open(self._server.url, self._random.uniform(1.0, 15.0))
        self._tally.note("half open", "closed", 0.0)

    def session(self) -> None:
        """Send an image, ask about it, and end the session."""
        image = ("sent.nii.gz", nifti(self._random.randrange(5)))
        answer = self._form("session", "PUT", "/session/?expiry=60", {}, {"files": image})
        if answer.status == 200:
            name = json.loads(answer.body)["session_id"]
            params = {"query": QUESTION, "slice": 1}
            target = f"/infer/medreasoner?output=json&session_id={name}"
            self._form("ask of session", "POST", target, {"params": params})
            self._send("end session", "DELETE", f"/session/{name}")

    def _question(self) -> RawRequest:
        body = json.dumps({"query": QUESTION, "slice": self._random.randrange(3)}).encode()
        target = f"/medreasoner/streams/ask?image={self._image}"
        return self._request("POST", target, body, "application/json")

    def _json(self, action: str, method: str, target: str, values: Mapping[str, Any]) -> RawAnswer:
        body = json.dumps(dict(values)).encode()
        return self._note(action, self._request(method, target, body, "application/json"))

    def _form(
        self,
        action: str,
        method: str,
        target: str,
        fields: Mapping[str, Any],
        files: Mapping[str, tuple[str, bytes]] | None = None,
    ) -> RawAnswer:
        form = valid_form(fields, files or {})
        return self._note(action, self._request(method, target, form.body(), form.content_type))

    def _send(self, action: str, method: str, target: str) -> RawAnswer:
        return self._note(action, self._request(method, target))

    def _request(self, method: str, target: str, body: bytes = b"", kind: str = "") -> RawRequest:
        headers = [*self._server.headers.items(), *([("Content-Type", kind)] if kind else [])]
        return RawRequest(method, target, tuple(headers), body)

    def _note(self, action: str, request: RawRequest) -> RawAnswer:
        answer = send(self._server.url, request, ANSWER_S)
        outcome = "late" if answer.is_late else str(answer.status or "cut off")
        self._tally.note(action, outcome, answer.seconds)
        return answer


class Disturber:
    """Takes away what the server relies on, one thing after the other, and brings it back."""

    def __init__(self, server: TriedServer, archive: Orthanc | None) -> None:
        self._root = server.root
        self._archive = archive
        self.done: Counter[str] = Counter()

    def run(self, stop: threading.Event) -> None:
        """Disturb until ``stop`` is set."""
        kinds: list[Callable[[threading.Event], None]] = [self.lock_database]
        if self._archive is not None:
            kinds += [self.pause_archive, self.kill_archive]
        while not stop.wait(BETWEEN_DISTURBANCES_S):
            disturb = kinds[sum(self.done.values()) % len(kinds)]
            disturb(stop)
            self.done[disturb.__name__] += 1

    def lock_database(self, stop: threading.Event) -> None:
        """Hold the write lock of the records."""
        for path in self._root.rglob("records.sqlite"):
            with sqlite3.connect(path, timeout=30.0, isolation_level=None) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                stop.wait(DISTURBED_S)
                connection.execute("ROLLBACK")
            connection.close()

    def pause_archive(self, stop: threading.Event) -> None:
        """An archive that does not answer."""
        assert self._archive is not None
        with self._archive.paused():
            stop.wait(DISTURBED_S)

    def kill_archive(self, stop: threading.Event) -> None:
        """An archive that is gone."""
        assert self._archive is not None
        self._archive.kill()
        stop.wait(DISTURBED_S)
        self._archive.start()


@dataclass
class Soaked:
    """What an hour came to."""

    samples: list[Vitals]
    after: Vitals | None
    tally: Tally
    disturbed: Counter[str]
    faults: list[str]


def soak(server: TriedServer, clients: int, minutes: float, bounds: Bounds, images: int) -> Soaked:
    """Let clients and disturbances run, look once a minute, and compare at the end."""
    tally, stop, disturber = Tally(), threading.Event(), Disturber(server, server.archive)
    mutants = [mutant for mutant in Mutants(0).draw(_MUTANTS) if len(mutant.content) < 1 << 20]
    SoakClient(server, mutants, tally, clients).fill_caches(images)
    actors = [SoakClient(server, mutants, tally, seed).run for seed in range(clients)]
    threads = [threading.Thread(target=act, args=(stop,)) for act in (*actors, disturber.run)]
    for thread in threads:
        thread.start()
    samples = []
    for _ in range(max(1, round(minutes))):
        time.sleep(60.0 if minutes >= 1 else 60.0 * minutes)
        samples.append(look(server))
    stop.set()
    for thread in threads:
        thread.join()
    time.sleep(QUIET_S)
    after = look(server)
    faults = tally.faults() + faults_after(server, samples[0], after, bounds)
    return Soaked(samples, after, tally, disturber.done, faults)


def look(server: TriedServer) -> Vitals:
    """What the server holds now."""
    return vitals(server.pid, server.scratch, [server.root])


def faults_after(server: TriedServer, before: Vitals, after: Vitals, bounds: Bounds) -> list[str]:
    """What has grown, what is not answered, what the log tells, and whether it starts again."""
    found = bounds.exceeded(before, after) + lasting_damage(server.url, server.headers)
    told = Counter(causes(server.log.read_text(errors="replace")))
    found += [f"traceback in the log, {count} times: {cause}" for cause, count in told.items()]
    try:
        server.restart()
    except AssertionError:
        return [*found, "the server does not start again"]
    return found + [f"after a restart {line}" for line in
                    lasting_damage(server.url, server.headers)]  # fmt: skip


def tables_of(soaked: Soaked, title: str) -> tuple[Table, Table]:
    """What was done, and what the server held."""
    actions = Table("action", "outcomes", "slowest s", title=title)
    for action, outcomes in sorted(soaked.tally.outcomes.items()):
        told = ", ".join(f"{outcome}: {count}" for outcome, count in outcomes.most_common())
        actions.add_row(action, told, f"{soaked.tally.slowest_s[action]:.1f}")
    held = Table("minute", *Vitals.__dataclass_fields__, title=title)
    for minute, sample in enumerate(soaked.samples, start=1):
        held.add_row(str(minute), *map(str, sample.to_dict().values()))
    if soaked.after is not None:
        held.add_row("quiet", *map(str, soaked.after.to_dict().values()))
    return actions, held


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 60.0,
    clients: Annotated[int, typer.Option(help="At once.")] = 10,
    images: Annotated[int, typer.Option(help="New images asked about first.")] = 1000,
    mode: Annotated[list[Mode] | None, typer.Option(help="Where the studies lie; both.")] = None,
    rss: Annotated[float, typer.Option(help="By which share memory may grow.")] = 0.1,
    threads: Annotated[int, typer.Option(help="By how many threads may grow.")] = 10,
    handles: Annotated[int, typer.Option(help="By how many open handles may grow.")] = 10,
    files: Annotated[int, typer.Option(help="By how many temporary files may grow.")] = 0,
    out: Annotated[Path, typer.Option(help="Gets the figures as JSON.")] = Path("soak.json"),
) -> None:
    """Soak, tell, and compare."""
    console, told, faults = Console(width=140), {}, 0
    bounds = Bounds(rss, threads, handles, 0, files)
    with tempfile.TemporaryDirectory() as scratch:
        for where in mode or Mode:
            with serving(Path(scratch) / where.value, where, login=True) as server:
                soaked = soak(server, clients, minutes, bounds, images)
            for table in tables_of(soaked, where.value):
                console.print(table)
            console.print(f"{where.value}: disturbed {dict(soaked.disturbed)}")
            for line in soaked.faults:
                console.print(line, markup=False)
            faults += len(soaked.faults)
            told[where.value] = _as_json(soaked)
            out.write_text(json.dumps(told, indent=1))
    raise typer.Exit(bool(faults))


def _as_json(soaked: Soaked) -> dict[str, Any]:
    return {
        "samples": [sample.to_dict() for sample in soaked.samples],
        "after_quiet": None if soaked.after is None else soaked.after.to_dict(),
        "outcomes": {action: dict(found) for action, found in soaked.tally.outcomes.items()},
        "slowest_s": soaked.tally.slowest_s,
        "disturbed": dict(soaked.disturbed),
        "faults": soaked.faults,
    }


if __name__ == "__main__":
    typer.run(main)
