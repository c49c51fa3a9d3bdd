# SPDX-License-Identifier: Apache-2.0
"""``make mutants`` finds the code that it changes and the tests that must notice."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PLAN = yaml.safe_load((ROOT / "scripts/mutants.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("area", PLAN["areas"].values(), ids=PLAN["areas"])
def test_modules_and_tests_of_each_area_are_there(area) -> None:
    found = [path for pattern in area["modules"] for path in ROOT.glob(pattern)]
    assert all(list(ROOT.glob(pattern)) for pattern in area["modules"])
    assert {path.name for path in found} >= set(area.get("except", ()))
    assert all((ROOT / test).is_file() for test in area["tests"])


def test_each_equivalent_names_a_mutated_module_and_a_line_that_is_not_there_yet() -> None:
    modules = {
        path.relative_to(ROOT).as_posix()
        for area in PLAN["areas"].values()
        for pattern in area["modules"]
        for path in ROOT.glob(pattern)
    }
    for known in PLAN["equivalent"]:
        assert set(known) == {"module", "line", "why"}
        assert known["module"] in modules
        lines = (ROOT / known["module"]).read_text(encoding="utf-8").splitlines()
        assert known["line"] not in map(str.strip, lines)
