# SPDX-License-Identifier: Apache-2.0
"""``medreasoner evaluate``, killed five times, tells what an undisturbed one tells."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the extra 'train' is not installed")
pytest.importorskip("monailabel")

from pyarrow.parquet import read_table
from support import umrg
from support.evaluated import run_command

from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.embedded.reasoner.samples import sample_questions
from medreasoner_training.evaluation.predictions import JOURNAL_NAME

QUESTIONS, BATCH, KILLS = 40, 2, 5
LIMIT_S = 1200
PRELOADED = [
    "monailabel_app.cli.app",
    "medreasoner_infer.pipeline",
    "medreasoner_infer.reasoners.transformers_engine",
    "medreasoner_training.evaluation",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "monai.metrics",
    "matplotlib.figure",
    "pyarrow.parquet",
]


def phantom_rows() -> list[dict]:
    """Questions about synthetic torsos whose targets are there."""
    rows: list[dict] = []
    for seed in range(QUESTIONS):
        drawn = sample_questions(np.random.default_rng([2508, seed]), 6)
        picture = umrg.picture(np.repeat(drawn.image.grey[..., None], 3, axis=2))
        for asked in drawn.questions:
            if asked.truth is not None and len(rows) < QUESTIONS:
                name = known_targets()[asked.label].name
                rows.append(_row(len(rows), picture, asked.query, name, asked.truth))
    return rows


def _row(index: int, picture: dict, query: str, name: str, truth) -> dict:
    box, points = truth.bbox_xyxy_px, truth.points_xy_px
    told = {"bbox_2d": [*map(float, box)], "point_2d": [[*map(float, xy)] for xy in points]}
    return {
        **umrg.row(index, (1, 1, 9, 9), query, name),
        "images": [picture],
        "masks": [umrg.picture(np.where(truth.mask, 255, 0).astype(np.uint8))],
        "reward_model": {"style": "rule", "ground_truth": json.dumps(told)},
    }


@pytest.fixture(scope="module")
def started():
    """Starts the command in a process of its own, forked from one that has imported it only."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)

    def start(data: Path, out: Path) -> multiprocessing.Process:
        options = ["--batch", BATCH, "--device", "cpu", "--resamples", 100]
        arguments = ["evaluate", data, "--out", out, *options]
        process = context.Process(
            target=run_command, args=([*map(str, arguments)], f"{out}.txt"), daemon=True
        )
        process.start()
        return process

    return start


def lines_in(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def kill_at(lines: int, process: multiprocessing.Process, out: Path) -> None:
    """Send SIGKILL as soon as the journal has so many lines."""
    deadline_s = time.monotonic() + LIMIT_S
    while lines_in(out / JOURNAL_NAME) < lines:
        assert process.is_alive(), Path(f"{out}.txt").read_text()
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def finished(process: multiprocessing.Process, out: Path) -> list[str]:
    """The table that is shown; where the reports lie is left out."""
    process.join(LIMIT_S)
    said = Path(f"{out}.txt").read_text()
    assert process.exitcode == 0, said
    return [line for line in said.splitlines() if not line.startswith("wrote ")]


def untimed_rows(out: Path) -> list[dict]:
    rows = read_table(out / "predictions.parquet").to_pylist()
    return [{name: row[name] for name in row if not name.endswith("_s")} for row in rows]


def untimed_report(out: Path) -> dict:
    return {**json.loads((out / "report.json").read_text()), "seconds": None}


@pytest.mark.slow
@pytest.mark.timeout(5 * LIMIT_S)
def test_five_kills_of_the_command_change_no_digit(tmp_path, started) -> None:
    data = umrg.write(tmp_path / "data" / "test.parquet", phantom_rows())
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    expected = finished(started(data, quiet), quiet)
    moments = sorted(random.Random(2508).sample(range(1, QUESTIONS // BATCH), KILLS))
    for lines in moments:
        kill_at(lines, started(data, killed), killed)
        assert lines <= lines_in(killed / JOURNAL_NAME) < QUESTIONS // BATCH
        assert not (killed / "predictions.parquet").exists()
    assert finished(started(data, killed), killed) == expected
    assert untimed_rows(killed) == untimed_rows(quiet)
    assert untimed_report(killed) == untimed_report(quiet)
    assert len(untimed_rows(quiet)) == QUESTIONS
    assert any(row["dice"] for row in untimed_rows(quiet))
