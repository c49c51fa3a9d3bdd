# SPDX-License-Identifier: Apache-2.0
"""Load damaged variants of a file, in a process of its own: a decoder that crashes ends it.

``python -m support.reading_mutants FILE COUNT SEED`` prints what became of them as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from support.mutations import mutants_of

TESTS = Path(__file__).resolve().parents[1]
# Generous: most take a millisecond, and a busy machine is no failure.
LONGEST_S = 10.0
MOST_GROWTH_KB = 1 << 20
MOST_KB = 2 << 20
SECRETS = ("Doe", "4711")


@dataclass
class Outcome:
    """What became of the variants: how many, the longest call, memory at the end in kB."""

    read: int = 0
    refused: int = 0
    longest_s: float = 0.0
    grown_kb: int = 0
    held_kb: int = 0


def read_each(sample: Path, count: int, seed: int) -> Outcome:
    """Try the variants one after the other.

    Raises:
        AssertionError: one raised anything but a typed error, took too long, or named a patient.
    """
    before = _most_held_kb()
    outcome, messages = Outcome(), set[str]()
    variant = sample.with_name(f"variant-{sample.name}")
    for number, content in enumerate(mutants_of(sample, count, seed)):
        variant.write_bytes(content)
        started = time.monotonic()
        message = _read(variant, f"variant {number} of seed {seed}")
        longest = time.monotonic() - started
        assert longest < LONGEST_S, f"variant {number} of seed {seed} took {longest:.0f} s"
        outcome.longest_s = max(outcome.longest_s, round(longest, 3))
        outcome.read += message is None
        outcome.refused += message is not None
        messages.add(message or "")
    assert not [text for text in messages if any(secret in text for secret in SECRETS)]
    outcome.held_kb = _most_held_kb()
    outcome.grown_kb = outcome.held_kb - before
    return outcome


def _most_held_kb() -> int:
    """``ru_maxrss`` would be that of the process which started this one, where that held more."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return int(line.split()[1])


def _read(variant: Path, what: str) -> str | None:
    """The sentence with which a file is refused, ``None`` where it is read."""
    from medreasoner_infer.errors import MedReasonerError
    from medreasoner_infer.imaging import load_volume

    try:
        assert load_volume(variant).array.size, what
    except MedReasonerError as error:
        return str(error)
    except BaseException as error:
        raise AssertionError(what) from error
    return None


def run_in_child(sample: Path, count: int, seed: int) -> Outcome:
    """As :func:`read_each`, in a process of its own.

    Raises:
        AssertionError: it ended with a fault, or held more memory than it may.
    """
    command = [sys.executable, "-W", "ignore", "-m", "support.reading_mutants"]
    paths = os.pathsep.join((str(TESTS), *filter(None, sys.path)))
    run = subprocess.run(
        [*command, str(sample), str(count), str(seed)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert run.returncode == 0, f"{sample.name}: {run.stderr[-3000:]}"
    outcome = Outcome(**json.loads(run.stdout.splitlines()[-1]))
    assert outcome.grown_kb < MOST_GROWTH_KB, (sample.name, outcome)
    assert outcome.held_kb < MOST_KB, (sample.name, outcome)
    return outcome


if __name__ == "__main__":
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    print(json.dumps(asdict(read_each(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
