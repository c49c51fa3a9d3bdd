# SPDX-License-Identifier: Apache-2.0
"""Annotations that every promised version of Python can evaluate."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("medreasoner_infer", "training", "monailabel_app")


def class_variables_without_a_type(source: str) -> Iterator[int]:
    """Lines that annotate with a bare ``ClassVar``: pydantic cannot read it on Python 3.10."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).endswith("ClassVar"):
            yield node.lineno


@pytest.mark.parametrize("package", PACKAGES)
def test_every_class_variable_has_a_type(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        for line in class_variables_without_a_type(path.read_text("utf-8"))
    }
    assert found == set()


def test_one_without_a_type_is_found() -> None:
    assert [*class_variables_without_a_type("class A:\n    b: ClassVar = 1\n")] == [2]
