# SPDX-License-Identifier: Apache-2.0
"""A run ends by telling what it could not test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.skips import closing_line

RUN = """
import pytest

def test_with_images():
    pytest.skip("the public test data are absent: no folder /x; set SOME_FOLDER")

def test_with_other_images():
    pytest.skip("the public test data are absent: no folder /y; set SOME_FOLDER")

def test_with_an_archive():
    pytest.skip("Orthanc is absent; install it")

def test_that_runs():
    pass
"""


def ending(tmp_path: Path, code: str) -> list[str]:
    """The last lines of pytest's output."""
    (tmp_path / "test_it.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "support.skips", "-q", "-rs", "test_it.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()[-2:]


def test_the_line_stands_behind_all_other_summaries(tmp_path: Path) -> None:
    line, counts = ending(tmp_path, RUN)
    assert line == (
        "3 skipped: 2 for want of the public test data (set SOME_FOLDER), "
        "1 for want of Orthanc (install it)."
    )
    assert counts.startswith("1 passed, 3 skipped in ")


def test_a_run_that_skips_nothing_says_nothing(tmp_path: Path) -> None:
    assert "skipped" not in "".join(ending(tmp_path, "def test_that_runs(): pass"))


def test_packages_are_counted_by_name_and_what_nobody_can_get_apart() -> None:
    reasons = [
        "Skipped: could not import 'trl': No module named 'trl'",
        "Skipped: could not import 'trl.trainer': No module named 'trl'",
        "Skipped: the extra 'train' is not installed",
        "Skipped: graph cut comes with the extra 'train'",
        "Skipped: this machine has CUDA",
        "Skipped: openssl is absent",
        "Skipped: the served model's folder is absent: /models/x",
    ]
    assert closing_line(reasons) == (
        "7 skipped: 2 for want of the package trl, 2 for want of the extra 'train', "
        "1 for want of openssl, 1 for want of the served model's folder, 1 for other reasons."
    )
    assert closing_line(["Skipped: this machine has CUDA"]) == "1 skipped: 1 for other reasons."
    assert closing_line([]) == ""
