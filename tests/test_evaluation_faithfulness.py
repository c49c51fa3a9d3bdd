# SPDX-License-Identifier: Apache-2.0
"""The faithfulness of a model that answers by the question alone, in report and page."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")
pytest.importorskip("monai")

from support import umrg
from support.evaluated import BoxFiller, Scripted, answer_text

from medreasoner_training.evaluation import Run, RunSettings, evaluate, open_rows
from medreasoner_training.gate import GateConfig

BOX, POINTS = (10, 20, 50, 40), ((20, 30), (40, 30))
TEXTS = {
    "right": answer_text(BOX, *POINTS).replace("There.", "On the left side of the image."),
    "wrong": answer_text((60, 60, 80, 80), (65, 65), (75, 75)),
    "absent": "<think>Nothing.</think><answer>null</answer>",
}


@pytest.fixture
def run(tmp_path):
    rows = [umrg.row(n, BOX, question, "liver") for n, question in enumerate(TEXTS)]
    source = open_rows(str(umrg.write(tmp_path / "data" / "test.parquet", rows)))
    return Run(source, Scripted(TEXTS), BoxFiller(), RunSettings(), tmp_path / "out")


def test_a_model_that_reads_no_image_depends_on_none(run) -> None:
    evaluate(run, GateConfig(resamples=100), faithfulness=10)
    report = json.loads((run.folder / "report.json").read_text())["faithfulness"]
    assert report["answers"] == 2  # with a box
    assert report["removal_flips"] == {"yes": 0, "n": 1, "share": 0.0}  # of the right one
    assert report["shuffled_same_box"] == {"yes": 1, "n": 1, "share": 1.0}
    assert report["shuffled_same_trace"]["share"] == 1.0
    assert report["statements_hold"] == {"yes": 1, "n": 1, "share": 1.0}
    assert report["by_kind"] == {"position": {"yes": 1, "n": 1, "share": 1.0}}
    page = (run.folder / "report.html").read_text()
    assert "Faithfulness" in page
    assert "right answers whose box comes for another patient" in page


def test_nothing_is_asked_again_unless_it_is_wanted(run) -> None:
    report = evaluate(run, GateConfig(resamples=100))
    assert report.faithfulness is None
    assert sum(run.reasoner.batches) == len(TEXTS)
    assert json.loads((run.folder / "report.json").read_text())["faithfulness"] is None
    assert "Faithfulness" not in (run.folder / "report.html").read_text()
