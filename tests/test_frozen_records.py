# SPDX-License-Identifier: Apache-2.0
"""Records do not change: every dataclass is frozen but the few that collect something."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("medreasoner_infer", "monailabel_app", "training")
COLLECTING = {
    "Counting", "LeftOut", "LenientReader", "Repairs", "SplitCounts", "Tally", "TogetherChecks",
    "Waiting", "_Found", "_Known", "_Pictures", "_Replica", "_Sample",
}  # fmt: skip


def dataclasses() -> Iterator[tuple[str, bool]]:
    """Name of each dataclass, and whether it is frozen, as the source says."""
    for package in PACKAGES:
        for module in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_bytes())):
                for decorator in getattr(node, "decorator_list", ()):
                    text = ast.unparse(decorator)
                    if text.split("(")[0].split(".")[-1] == "dataclass":
                        yield node.name, "frozen=True" in text


def test_only_what_collects_something_changes() -> None:
    found = list(dataclasses())
    assert len(found) > 100
    assert {name for name, frozen in found if not frozen} == COLLECTING
