# SPDX-License-Identifier: Apache-2.0
"""``medreasoner models calibrate-doubt``: what is fitted is what the next answer tells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.evaluated import BoxFiller, Scripted, answer_text
from support.umrg import SCHEMA, row
from typer.testing import CliRunner

pytest.importorskip("monailabel")

from medreasoner_infer.imaging import Volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.base import ground
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.request import AskRequest
from medreasoner_infer.types import ReasonerAnswer
from monailabel_app.cli.app import app

ROWS = 120
RIGHT, WRONG, OTHER = (10, 20, 50, 60), (50, 60, 80, 80), (2, 2, 9, 9)


class Wavering(Scripted):
    """Where its greedy answer is wrong, its samples point elsewhere."""

    def _sample(self, request, count, on_text, cancelled):
        is_right = int(request.query.split()[-1]) % 2 == 1
        wavers = request.temperature > 0 and not is_right
        text = answer_text(OTHER, (3, 3), (4, 4)) if wavers else self.texts[request.query]
        grounding = ground(text, AnswerFrame(84), require_reasoning=False)
        return (ReasonerAnswer(text, grounding, 0.9, 1),) * count


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [row(number, RIGHT, f"Where is organ {number}", "organ") for number in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


@pytest.fixture
def pipeline_of(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    texts = {
        f"Where is organ {number}": answer_text(RIGHT if number % 2 else WRONG, (15, 25), (20, 30))
        for number in range(ROWS)
    }
    return lambda: Pipeline(lambda: Wavering(texts), BoxFiller)


def calibrated(pipeline, data, monkeypatch, *options: str):
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pipeline)
    return CliRunner().invoke(app, ["models", "calibrate-doubt", "toy", str(data), *options])


def test_what_is_fitted_is_what_the_next_answer_tells(pipeline_of, data, monkeypatch):
    pipeline = pipeline_of()
    result = calibrated(pipeline, data, monkeypatch)
    assert result.exit_code == 0, result.output
    assert "AUROC of the agreement 1.0" in result.output
    picture = Volume(np.zeros((84, 84, 1), np.uint8), np.eye(4), "OT", "k", data, is_picture=True)
    told = {
        number: pipeline.ask(picture, AskRequest(f"Where is organ {number}", samples=3)).doubt
        for number in (1, 2)
    }
    assert told[1].probability > 0.8
    assert told[2].probability < 0.2


def test_the_file_says_what_it_was_fitted_on_and_is_of_both_weights(
    pipeline_of, data, monkeypatch, tmp_path
):
    calibrated(pipeline_of(), data, monkeypatch)
    kept = tmp_path / "home" / "models" / "doubt_calibrations" / ("ab" * 32)
    (file,) = kept.iterdir()
    assert file.stem == "ab" * 32
    told = json.loads(file.read_text())["fitted_on"]
    assert f"{ROWS} masks of {ROWS} patients of data, 3 answers each" in told


def test_a_single_answer_tells_no_doubt_and_is_refused(pipeline_of, data, monkeypatch, tmp_path):
    result = calibrated(pipeline_of(), data, monkeypatch, "--samples", "1")
    assert result.exit_code != 0
    assert not (tmp_path / "home").exists()
