# SPDX-License-Identifier: Apache-2.0
"""Runs over many studies with models that take no time, and what such a run has left behind.

As a program: ``batches.py LIST STUDIES OUT RESULTS ENGINE`` runs in a process that a test may kill.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from support.bright import BRIGHT_IJK, SHAPE_IJK, BrightReasoner, BrightSegmenter

from medreasoner_infer.pipeline import Pipeline
from monailabel_app.batch import worker
from monailabel_app.batch.engines import Engine, Processes, Ray
from monailabel_app.batch.journal import ProcessJournal
from monailabel_app.batch.questions import read_questions
from monailabel_app.batch.report import Report, write_report
from monailabel_app.batch.results import Results
from monailabel_app.batch.running import Batch, run_batch
from monailabel_app.batch.work import WorkerSettings
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

AFFINE = np.diag([-2.0, -1.5, 4.0, 1.0])
GRID = CtGrid((2.0, 1.5, 4.0), (0, 0, 0), np.eye(3))
# A process ends at once, the first time that it comes here: "begun", "answered", or an image's id.
DIE_AT = "MEDREASONER_TEST_DIE_AT"


def voxels(seed: int = 0) -> np.ndarray:
    """A bright block (I, J, K) in the dark; each seed makes another image."""
    values = np.full(SHAPE_IJK, -500, np.int16)
    values[BRIGHT_IJK] = 900
    values[0, 0, 0] = seed
    return values


def write_studies(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        image = nibabel.Nifti1Image(voxels(number), AFFINE)
        nibabel.save(image, folder / f"ct{number}.nii.gz")
    return folder


def write_series(folder: Path, seed: int = 3) -> Path:
    return write_ct_series(voxels(seed).transpose(2, 1, 0), GRID, folder, seed)


class InThisProcess:
    """An engine without processes."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings

    def __enter__(self) -> InThisProcess:
        worker._worker.cache_clear()
        return self

    def __exit__(self, *fault: object) -> None:
        worker._worker.cache_clear()

    def map(self, work: Callable, tasks: Iterable) -> Iterator[tuple[Any, Any]]:
        for task in tasks:
            yield task, work(self._settings, task)


class WithToys:
    """An engine whose processes have the models that take no time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> WithToys:
        self._engine.__enter__()
        return self

    def __exit__(self, *fault: object) -> None:
        self._engine.__exit__(*fault)

    def map(self, work: Callable, tasks: Iterable) -> Iterator[tuple[Any, Any]]:
        return self._engine.map(partial(with_toys, work), tasks)


def toys(*_: object, **__: object) -> Pipeline:
    return Pipeline(BrightReasoner, BrightSegmenter)


def with_toys(work: Callable, settings: WorkerSettings, task: object) -> object:
    """What a process does with the toys, or where it dies."""
    Pipeline.from_registry = toys  # type: ignore[assignment,method-assign]
    where, marker = os.environ.get(DIE_AT), settings.out.with_name("died")
    if where in ("begun", "answered"):
        kept = getattr(ProcessJournal, where)

        def die_once(journal: ProcessJournal, *told: object) -> None:
            if where == "begun":
                kept(journal, *told)
            _die_once(marker)
            if where != "begun":
                kept(journal, *told)

        if not marker.exists():
            setattr(ProcessJournal, where, die_once)
    elif where and getattr(task, "image_id", None) == where:
        os._exit(1)
    return work(settings, task)


def _die_once(marker: Path) -> None:
    if not marker.exists():
        marker.touch()
        os._exit(1)


def settings_of(studies: Path, out: Path, results: Results = Results.FILES) -> WorkerSettings:
    return WorkerSettings(str(studies), studies / ".medreasoner", out, results, device="cpu")


def lines_of(out: Path) -> list[dict[str, Any]]:
    """All lines of a run's journal, a cut one at the end left out; read by no code of ours."""
    texts = [path.read_text() for path in (out / "journal").glob("*.jsonl")]
    return [json.loads(line) for text in texts for line in text.split("\n")[:-1]]


def answers_by_key(out: Path) -> Counter[str]:
    return Counter(line["key"] for line in lines_of(out) if "outcome" in line)


def run(
    questions: Path, settings: WorkerSettings, engine: Engine | None = None, **options: Any
) -> Report:
    """A run, and its report written as the command does."""
    asked = read_questions(questions)
    report = run_batch(Batch(asked, settings, engine or InThisProcess(settings), **options))
    write_report(report, settings.out)
    return report


def main() -> None:
    questions, studies, out = map(Path, sys.argv[1:4])
    settings = settings_of(studies, out, Results(sys.argv[4]))
    engine = Processes(settings, 2) if sys.argv[5] == "processes" else Ray(settings, "local", 2)
    run(questions, settings, WithToys(engine))


if __name__ == "__main__":
    main()
