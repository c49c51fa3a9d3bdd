# SPDX-License-Identifier: Apache-2.0
"""How often the gate errs, on candidates whose truth is known; writes the table of docs/gate.md.

Run: ``python benchmarks/gate_simulation.py [--gates 1000] [--gain 0.0] [--write]``. Judged are a
spoiled candidate, one that is the live model, ten lucky ones in a row that are no better, one that
is better by 0.05, and two that are better and do harm behind a guard; see
``medreasoner_training.experiments.gate_simulation`` for the site. Of the harmful ones there are a
quarter as many. Intervals are of 999 draws where the product's are of 9,999; an attempt at
promotion draws more often where its confidence demands it, as in the product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from medreasoner_training.embedded.marked_text import write_marked
from medreasoner_training.experiments.gate_simulation import (
    BETTER,
    FAILING,
    HARMFUL,
    LABEL,
    LUCKY,
    NO_OP,
    SPOILED,
    Site,
    Tally,
    Truth,
    tally,
)
from medreasoner_training.gate import GateConfig
from medreasoner_training.markdown import table_lines

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "gate.md"
MODULE = "benchmarks/gate_simulation.py"
ATTEMPTS, RESAMPLES = 10, 999
_GUARDS = {"absence": "absence", f"label {LABEL}": "one label", "former site": "the former site"}


def rows(site: Site, config: GateConfig, gates: int, seed: int) -> Iterable[tuple[str, ...]]:
    """What happens, how often it happens, and how often it may."""

    def judged(truth: Truth, count: int = gates, **how: Any) -> Tally:
        return tally(truth, site, config, gates=count, seed=seed, **how)

    for name, truth in (("0.10 worse", SPOILED), ("the live model itself", NO_OP)):
        yield f"{name}, promoted", _share(judged(truth).promoted, gates), "0 %"
    lucky = judged(LUCKY, attempts=ATTEMPTS)
    yield "no better, the first of ten promoted", _share(lucky.at_once, gates), "at most 1.25 %"
    yield "no better, one of ten promoted", _share(lucky.promoted, gates), "at most 2.5 %"
    better = judged(BETTER, judge_all=True)
    yield "0.05 better, promoted", _share(better.promoted, gates), "at least 80 %"
    yield "0.05 better, refused by a guard", _share(better.guarded, gates), "at most 10 %"
    harms = max(gates // 4, 1)
    harmful = judged(HARMFUL, harms, judge_all=True)
    for rule, name in _GUARDS.items():
        missed = _share(harms - harmful.broken[rule], harms)
        yield f"a loss of 0.10 in {name}, missed", missed, "at most 15 %"
    missed = harms - judged(FAILING, harms, judge_all=True).broken["failures"]
    yield "0.05 more failures, missed", _share(missed, harms), "at most 15 %"
    spread = float(np.median(better.patient_sds))
    yield "standard deviation of patients' mean differences", f"{spread:.3f}", ""


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}"


def main(
    gates: Annotated[int, typer.Option(help="Candidates of each kind.")] = 1000,
    patients: Annotated[int, typer.Option(help="Held out.")] = Site.patients,
    gain: Annotated[float, typer.Option(help="gate.gain")] = GateConfig.gain,
    guard_confidence: Annotated[
        float, typer.Option(help="gate.guard_confidence")
    ] = GateConfig.guard_confidence,
    seed: Annotated[int, typer.Option(help="The same seed makes the same candidates.")] = 0,
    write: Annotated[
        bool, typer.Option("--write", help="Put the table into docs/gate.md.")
    ] = False,
) -> None:
    """Simulate the gate and print a table of its errors."""
    site = dataclasses.replace(Site(), patients=patients)
    config = GateConfig(gain=gain, guard_confidence=guard_confidence, resamples=RESAMPLES)
    found = []
    for row in rows(site, config, gates, seed):
        typer.echo("  ".join(row))
        found.append(row)
    header = (f"{gates} candidates of each kind, {patients} patients", "measured", "aim")
    body = "\n".join(table_lines(header, found))
    if write:
        write_marked(DOCUMENT, MODULE, f"{body}\n")
    typer.echo(body)


if __name__ == "__main__":
    typer.run(main)
