# SPDX-License-Identifier: Apache-2.0
"""What a run's comparison with the live model will be able to show, told before it trains."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from medreasoner_infer.models.store import ReasonerStore, StoreDamagedError
from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.gate import USUAL_PATIENT_SD, Power


def store_of(config: FineTuneConfig, run_dir: Path) -> ReasonerStore:
    """The store that a run's candidate goes to."""
    folder = config.promotion.store
    return ReasonerStore(None if folder is None else run_dir / folder)


def expected_power(
    store: ReasonerStore, config: FineTuneConfig, patients: int, run: str | None = None
) -> Power:
    """The power of a run's attempt against the live model.

    Args:
        store: knows the attempts so far, and the spread that the newest comparison has measured.
        config: of the run.
        patients: held out, two or more.
        run: the run's :attr:`~medreasoner_training.finetune.record.RunRecord.fingerprint`, if it
            has one already.

    Raises:
        StoreDamagedError: the store's list of attempts cannot be read.
    """
    measured = _measured_sd(store, sd_name(config))
    return Power(
        patients=patients,
        attempt=store.attempt_number(run),
        patient_sd=USUAL_PATIENT_SD if measured is None else measured,
        measured=measured is not None,
        config=config.gate,
    )


def sd_name(config: FineTuneConfig) -> str:
    """Under which name a candidate's provenance holds the spread of its comparison."""
    return f"{config.gate.primary}_patient_sd"


def _measured_sd(store: ReasonerStore, name: str) -> float | None:
    """Of the newest candidate that was compared; nothing differed where it is 0."""
    found = []
    for each in store.names():
        with suppress(StoreDamagedError):
            candidate = store.candidate(each)
            if candidate.provenance.metrics.get(name):
                found.append((candidate.created_at, candidate.provenance.metrics[name]))
    return max(found)[1] if found else None
