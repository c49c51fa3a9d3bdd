# SPDX-License-Identifier: Apache-2.0
"""What somebody types at a benchmark is explained or refused in a sentence, before any work."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[1] / "benchmarks"


def typed(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: str) -> SystemExit:
    """How the program ends that is started with these arguments."""
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PROGRAMS / program), run_name="__main__")
    return ended.value


def test_help_of_the_latency_benchmark_is_no_image(monkeypatch, capsys) -> None:
    assert typed(monkeypatch, "latency.py", "--help").code == 0
    assert "generated CT study" in capsys.readouterr().out


def test_doubt_of_one_answer_is_refused_before_any_model_is_loaded(monkeypatch, tmp_path) -> None:
    dump = tmp_path / "doubt.jsonl"
    ended = typed(
        monkeypatch, "doubt.py", "--data", str(tmp_path), "--samples", "1", "--dump", str(dump)
    )
    assert ended.code == "--samples is 1; expected 2 or more answers to compare."
    assert not dump.exists()


def test_what_ten_readers_were_too_few_to_measure_is_told_as_such(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    program = importlib.import_module("ten_readers")
    alone, together = program.Part(1, probed_s=[]), program.Part(2, probed_s=[0.5, 0.5])
    *_, (_, of_alone, of_together, ratio) = zip(
        *(column.cells for column in program.report(alone, together).columns), strict=True
    )
    assert (of_alone, of_together, ratio) == ("not measured", "0.50 / 0.50 / 0.50", "-")
