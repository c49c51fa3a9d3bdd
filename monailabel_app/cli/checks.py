# SPDX-License-Identifier: Apache-2.0
"""What was checked of an answer, on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from medreasoner_infer.checks import Checks, Verdict

MARKS: dict[Verdict, tuple[str, str]] = {
    "holds": ("✓", "green"),
    "does not hold": ("✗", "red"),
    "cannot be checked": ("?", "dim"),
}


def checks_as_lines(checks: Checks, reasoning: str) -> Iterator[Text]:
    """Each statement in the model's own words with its verdict and what was measured."""
    for statement in checks.statements:
        mark, style = MARKS[statement.verdict]
        said = reasoning[statement.start : statement.end]
        yield Text.assemble(
            (f"  {mark} {statement.verdict}: ", style),
            (f"“{said}”", "bold"),
            f" ({statement.claim}): {statement.measured}",
        )
    if checks.removal is not None:
        style = "green" if checks.removal.depends else "bold red"
        yield Text(checks.removal.explanation, style)
