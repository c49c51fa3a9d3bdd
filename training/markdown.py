# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown, for model cards and documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_lines(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a pipe table; every row has as many cells as the header."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]
