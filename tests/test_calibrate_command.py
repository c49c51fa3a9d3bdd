# SPDX-License-Identifier: Apache-2.0
"""``medreasoner models calibrate``: a number that is kept only if it holds on unseen patients."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.evaluated import Scripted, answer_text
from support.umrg import SCHEMA, row
from typer.testing import CliRunner

pytest.importorskip("monailabel")

from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners.base import ground
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.types import Evidence, ReasonerAnswer
from monailabel_app.cli.app import app

ROWS = 140
RIGHT, WRONG = (10, 20, 50, 60), (50, 60, 80, 80)


class Telling(Scripted):
    """Right for every other question; its tokens' probability tells which, or nothing."""

    def __init__(self, texts: dict[str, str], tells: bool) -> None:
        super().__init__(texts)
        self.tells = tells

    def _sample(self, request, count, on_text, cancelled):
        text, number = self.texts[request.query], int(request.query.split()[-1])
        noise = np.random.default_rng(number).normal(size=7)
        values = noise + (4.0 * (number % 2) if self.tells else 0.0)
        grounding = ground(text, AnswerFrame(84), require_reasoning=False)
        return (ReasonerAnswer(text, grounding, 0.99, 1, evidence=Evidence(*values)),) * count


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [row(number, RIGHT, f"Where is organ {number}", "organ") for number in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


@pytest.fixture
def calibrate(data, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    texts = {}
    for number in range(ROWS):
        text = answer_text(RIGHT if number % 2 else WRONG, (60, 70), (70, 70))
        if number % 5 == 0:
            text = "<think>Nowhere.</think><answer>null</answer>"
        texts[f"Where is organ {number}"] = text

    def run(*options: str, reasoner: type = Telling, **made: bool):
        models = Pipeline(lambda: reasoner(texts, **made), lambda: None)
        monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: models)
        return CliRunner().invoke(app, ["models", "calibrate", "toy", str(data), *options])

    return run


def test_a_confidence_that_holds_on_unseen_patients_is_kept_for_the_weights(calibrate, tmp_path):
    result = calibrate(tells=True)
    assert result.exit_code == 0, result.output
    (kept,) = (tmp_path / "home" / "models" / "calibrations").iterdir()
    assert kept.stem == "ab" * 32
    told = json.loads(kept.read_text())["fitted_on"]
    assert f"{ROWS} answers about {ROWS} patients of data" in told
    assert "AUROC 1.0" in told


def test_a_reasoner_that_tells_no_probabilities_is_refused(calibrate, tmp_path):
    result = calibrate(reasoner=Scripted)
    assert result.exit_code != 0
    assert "tells no probabilities" in str(result.exception or result.output)
    assert not (tmp_path / "home" / "models" / "calibrations").exists()
