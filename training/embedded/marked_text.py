# SPDX-License-Identifier: Apache-2.0
"""Texts in which a script writes the figures: all between two marker lines is its own."""

from __future__ import annotations

from pathlib import Path

from medreasoner_infer.atomic import write_durably

END = "<!-- end of figures -->"


def begin_marker(module: str) -> str:
    """The line that opens the part that ``module`` writes."""
    return f"<!-- figures: written by {module}, not by hand -->"


def write_marked(path: Path, module: str, body: str) -> None:
    """Replace what stands between a text's markers; atomic.

    Raises:
        ValueError: if the text does not hold both markers.
    """
    text, begin = path.read_text(encoding="utf-8"), begin_marker(module)
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"{path} must hold the lines {begin!r} and {END!r}.")
    write_durably(path, f"{before}{begin}\n\n{body}\n{END}{after}")
