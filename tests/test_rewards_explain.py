# SPDX-License-Identifier: Apache-2.0
"""Explanations of the rewards, and their command."""

from __future__ import annotations

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from medreasoner_training.rewards import TermExplanation, explain
from monailabel_app.cli.app import app

TRUTH = {"bbox_2d": [0, 0, 100, 50], "point_2d": [[25, 25], [75, 25]]}
HALF = (
    '<think>Left lobe.</think><answer>{"bbox": [0, 0, 50, 50], "points_1": [25, 25], '
    '"points_2": [75, 25]}</answer>'
)
FLAT = '{"bbox": [0, 0, 50, 0], "points_1": [25, 25], "points_2": [75, 25]}'
WIDE_CONSOLE = {"COLUMNS": "300"}


def reasons(*arguments, **keywords) -> dict[str, str]:
    return {line.term: line.reason for line in explain(*arguments, **keywords)}


@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("format_think", ["10 characters"]),
        ("bbox_iou", ["IoU 0.5000", "0.6949", "0.5 and 0.5", "0.5906"]),
        ("bbox_align", ["0.1118", "0.9824", "0.8351"]),
        ("bbox_scale", ["0.9803", "0.3013", "0.2561"]),
        ("points_dice", ["Dice 1.0000", "agreement 1.0000"]),
        ("points_align", ["0.0000"]),
        ("points_angle", ["1.0000"]),
        ("bbox_position_valid", ["One of the two"]),
        ("bbox_area_valid", ["2500 px²", "5000 px²"]),
        ("points_position_valid", ["Both"]),
        ("points_spread_valid", ["50.0 px"]),
        ("score", ["8 terms"]),
    ],
)
def test_reasons_hold_the_numbers(term, parts):
    reason = reasons(HALF, TRUTH, "hard")[term]
    assert [part for part in parts if part not in reason] == []


@pytest.mark.parametrize(
    ("answer", "mode", "as_released", "term", "part"),
    [
        ("null", "soft", False, "bbox_iou", "null, but the target is present"),
        ("null", "soft", False, "format_seg", "The answer is null"),
        ("{}", "soft", False, "bbox_iou", "no bbox"),
        ("{}", "soft", True, "format_seg", "A key is missing"),
        ('{"bbox": [9, 0, 1, 5]}', "soft", False, "bbox_iou", "reversed corners"),
        (FLAT, "hard", True, "bbox_iou", "ZeroDivisionError"),
        ("liver", "hard", False, "points_angle", "not JSON"),
        ("liver", "base", True, "iou", "raises for every completion"),
        ("liver", "base", True, "segment", "is not JSON"),
        ("liver", "base", True, "points_l1", "no points"),
    ],
)
def test_reasons_name_the_fault(answer, mode, as_released, term, part):
    text = f"<think>Left lobe.</think><answer>{answer}</answer>"
    assert part in reasons(text, TRUTH, mode, as_released)[term]


def test_base_reasons_hold_the_numbers():
    found = reasons(HALF, TRUTH, "base")
    assert "IoU 0.5000" in found["iou"]
    assert "12.50 px" in found["bbox_l1"]
    assert "0.00 px, not both in" in found["points_l1"]


def test_reasons_of_an_absent_target():
    null = "<think>Not seen.</think><answer>null</answer>"
    assert reasons(null, None)["bbox_iou"].startswith("Rightly, the target is absent")
    assert "9 characters" in reasons(null, None)["format_think"]
    base = reasons(HALF, None, "base")
    assert base["iou"].startswith("The answer is wrong: the target is absent.")
    assert "the whole completion" in base["thinking"]
    assert "raises" in reasons(null, None, as_released=True)["score"]


@pytest.mark.parametrize(
    ("truth", "reason"),
    [
        (TRUTH, 'The answer is "not understood", but the target is present.'),
        (None, "The answer is wrong: the target is absent."),
        ('"not understood"', "Rightly, the question is not to be understood"),
    ],
)
def test_reasons_of_a_question_not_understood(truth, reason):
    text = '<think>Not seen.</think><answer>"not understood"</answer>'
    found = reasons(text, truth)
    assert found["format_think"] == "A <think> block of 9 characters."
    assert found["format_seg"] == 'The answer is "not understood".'
    assert found["bbox_iou"] == found["points_dice"] == found["bbox_area_valid"]
    assert found["bbox_iou"].startswith(reason)
    base = reasons(text, truth, "base")
    assert base["segment"] == 'The answer is "not understood".'
    assert base["iou"] == base["points_l1"] == found["bbox_iou"]


def test_an_explanation_is_frozen():
    line = explain(HALF, TRUTH)[0]
    assert line == TermExplanation("format_think", 1.0, "A <think> block of 10 characters.")
    with pytest.raises(dataclasses.FrozenInstanceError):
        line.value = 0.0


def run(*arguments: str, **keywords):
    return CliRunner(env=WIDE_CONSOLE).invoke(app, ["reward", "explain", *arguments], **keywords)


def test_command_prints_a_line_for_each_term():
    result = run(HALF, json.dumps(TRUTH), "--mode", "hard")
    assert result.exit_code == 0, result.output
    for line in explain(HALF, TRUTH, "hard"):
        printed = next(row for row in result.output.splitlines() if f" {line.term} " in row)
        assert f"{line.value:.4f}" in printed
        assert line.reason in printed


def test_command_reads_files_and_standard_input(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(TRUTH), encoding="utf-8")
    result = run("-", str(path), "--as-released", input=HALF)
    assert result.exit_code == 0, result.output
    assert "0.5906" in result.output


def test_command_takes_null_for_an_absent_target():
    result = run("<answer>null</answer>", "null", "--as-released")
    assert result.exit_code == 0, result.output
    assert "not scored" in result.output


def test_command_refuses_a_ground_truth_that_is_no_file():
    result = run(HALF, "nowhere.json")
    assert result.exit_code == 2
    assert "neither a JSON object" in result.output
