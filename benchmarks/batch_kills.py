# SPDX-License-Identifier: Apache-2.0
"""``medreasoner batch`` over many studies, killed at random moments: is each answered once?

Run: ``python benchmarks/batch_kills.py [--studies 200] [--kills 5] [--ray local]``. It writes
generated CT volumes, starts the command with two processes, kills it and its children as often as
told (each time at a random share of what is left), lets it end, and looks into journal and records.
The exit status is 1 where a study was answered twice or not at all.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from batch import QUESTION, SLICE, write_studies

from monailabel_app.store import RecordStore

_POLL_S = 0.2


def answered(out: Path) -> Counter[str]:
    """How often each pair was answered, by the journal; a line that a kill cut off is none."""
    found: Counter[str] = Counter()
    for path in (out / "journal").glob("*.jsonl"):
        for line in path.read_bytes().splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if "outcome" in told:
                found[told["key"]] += 1
    return found


def killed_at(process: subprocess.Popen[bytes], out: Path, answers: int) -> bool:
    """Kill the process group once there are so many answers; false where it ended before."""
    while answered(out).total() < answers:
        if process.poll() is not None:
            return False
        time.sleep(_POLL_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def main(
    studies: Annotated[int, typer.Option(min=10)] = 200,
    kills: Annotated[int, typer.Option(min=1)] = 5,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster, or local.")] = None,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill, finish, count."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = [path.name.partition(".")[0] for path in write_studies(root / "studies", studies)]
        (root / "questions.csv").write_text(f"question,slice\n{QUESTION},{SLICE}\n")
        out = root / "out"
        command = [
            sys.executable, "-m", "monailabel_app.cli", "batch", str(root / "questions.csv"),
            "--studies", str(root / "studies"), "--out", str(out), "--results", "dataset",
            "--processes", "2", *(() if ray is None else ("--ray", ray)),
        ]  # fmt: skip
        moments, done = [], 0
        with (root / "log").open("w") as log:

            def begin() -> subprocess.Popen[bytes]:
                return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

            for _ in range(kills):
                left = studies - answered(out).total()
                moment = answered(out).total() + rng.randint(1, max(1, left // 3))
                done += killed_at(begin(), out, moment)
                moments.append(answered(out).total())
            status = begin().wait()
        counted = answered(out)
        records = RecordStore(root / "studies" / ".medreasoner")
        recorded = Counter(len(records.list_for_image(name)) for name in names)
        records.close()
        log_end = (root / "log").read_text()[-1000:]
    print(f"{done} kills, at {moments} answers of {studies}; exit status {status}")
    print(f"answers by pair: {dict(Counter(counted.values()))}; records by study: {dict(recorded)}")
    if status or set(counted.values()) != {1} or recorded != {1: studies}:
        raise SystemExit(log_end or 1)


if __name__ == "__main__":
    typer.run(main)
