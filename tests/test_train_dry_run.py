# SPDX-License-Identifier: Apache-2.0
"""``medreasoner train --dry-run`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("monailabel")
pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytest.importorskip("peft", reason="the extra 'train' is not installed")

from medreasoner_training.finetune.replay import phantom_sample
from medreasoner_training.samples import TRAIN, VALIDATION, LeftOut, writing_dataset
from monailabel_app.cli.app import app


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    with writing_dataset(tmp_path / "data", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
        found = (phantom_sample(index, 128) for index in range(100))
        present = (sample for sample in found if sample.present)
        for index in range(6):
            writer.add(next(present), TRAIN if index < 4 else VALIDATION)
    return tmp_path / "data"


def train(*arguments):
    return CliRunner().invoke(app, ["train", "--dry-run", *map(str, arguments)])


def test_a_data_set_is_looked_at_and_not_written(data, tmp_path):
    out = tmp_path / "found.json"
    small = ("--set", "grpo.prompts_per_step=2", "--gpu-gb", 8)
    found = train("--dataset", data, "--out", out, *small)
    assert found.exit_code == 0, found.output
    told = json.loads(out.read_text())
    sentence = next(each["sentence"] for each in told["findings"] if each["what"] == "data")
    assert sentence.startswith("train 4 rows, validation 2 rows.")
    assert told["prompt_is_counted"]
    assert told["fits"]
    assert {path.name for path in tmp_path.iterdir()} <= {"data", "home", "found.json"}


def test_too_few_rows_and_a_small_card_are_told_with_status_1(data, tmp_path):
    out = tmp_path / "found.json"
    found = train(
        "--dataset", data, "--out", out, "--gpu-gb", 0.5, "--set", "grpo.prompts_per_step=5"
    )
    assert found.exit_code == 1
    told = json.loads(out.read_text())
    assert told["verdict"].startswith("Does not fit: ")
    faults = [each for each in told["findings"] if each["weight"] == "fault"]
    assert [each["what"] for each in faults] == ["data"]


def test_a_table_for_a_document_is_written_by_its_ending(tmp_path):
    out = tmp_path / "found.md"
    assert train("--config", "gpu_24gb", "--out", out).exit_code == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "|  | answering, GB | learning, GB | reckoned as |"
    assert lines[-1].startswith("| together | ")
    assert lines[-1].endswith(" | of 24 GB |")


@pytest.mark.parametrize("name", ["found.json", "found.md"])
def test_a_dry_run_s_file_is_made_anew_and_no_other_is_replaced(tmp_path, name):
    out = tmp_path / name
    assert [train("--config", "gpu_24gb", "--out", out).exit_code for _ in range(2)] == [0, 0]
    found = out.read_bytes()
    for other in (b"", b"# Notes", b"[1]", b'{"model": "mine"}'):
        out.write_bytes(other)
        refused = train("--config", "gpu_24gb", "--out", out)
        assert (refused.exit_code, out.read_bytes()) == (2, other)
        assert "--overwrite" in refused.output
    assert train("--config", "gpu_24gb", "--out", out, "--overwrite").exit_code == 0
    assert out.read_bytes() == found
