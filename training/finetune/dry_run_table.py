# SPDX-License-Identifier: Apache-2.0
"""A dry run as tables, on the terminal and in a document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.earlier_files import is_json_with
from medreasoner_training.finetune.memory.estimate import Phase

if TYPE_CHECKING:
    from medreasoner_training.finetune.dry_run import DryRun
    from medreasoner_training.finetune.memory.reckoning import Reckoning

_HEADS = ("", "answering, GB", "learning, GB", "reckoned as")


def memory_table(reckoning: Reckoning) -> Table:
    """What lies on one GPU in either phase, and the sums."""
    table = Table(*_HEADS, box=SIMPLE, padding=(0, 1, 0, 0), caption=Text(reckoning.verdict))
    for column in table.columns[1:3]:
        column.justify = "right"
    for row in memory_rows(reckoning):
        table.add_row(*map(Text, row))
    return table


def memory_rows(reckoning: Reckoning) -> Iterator[tuple[str, str, str, str]]:
    """The cells of the table, row by row."""
    for item in reckoning.items:
        size = _gigabytes(item.bytes)
        answering = "" if item.phase is Phase.LEARNING else size
        learning = "" if item.phase is Phase.ANSWERING else size
        yield item.name, answering, learning, item.how
    card = reckoning.card_bytes
    of_card = "" if card is None else f"of {card / 1e9:g} GB"
    answered, learnt = reckoning.total(Phase.ANSWERING), reckoning.total(Phase.LEARNING)
    yield "together", _gigabytes(answered), _gigabytes(learnt), of_card


def _gigabytes(size: int) -> str:
    """With two digits that mean something."""
    return f"{size / 1e9:.1f}" if size >= 1e8 else f"{size / 1e9:.3f}"


def findings_table(found: DryRun) -> Table:
    """The checks, and how long the texts are."""
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    lengths = found.lengths
    at_most = "" if lengths.counted else "at most "
    told = f"{at_most}{lengths.prompt:,} tokens of prompt, {lengths.completion:,} of rollout"
    table.add_row("model", "", Text(found.model))
    table.add_row("lengths", "", Text(told))
    for each in found.findings:
        table.add_row(each.what, each.weight.value, Text(each.sentence))
    return table


def show(found: DryRun, out: Path | None = None) -> int:
    """Print both tables, and write a file if one is named.

    Args:
        found: what is shown.
        out: JSON of everything, or the memory as a table for a document if it ends with ``.md``.

    Returns:
        The exit code: 0, or 1 where something speaks against the run.
    """
    console = Console()
    console.print(findings_table(found))
    console.print(memory_table(found.reckoning))
    if out is not None:
        is_document = out.suffix == ".md"
        write_durably(out, as_markdown(found.reckoning) if is_document else as_json(found))
    return 0 if found.passed else 1


def is_dry_run(file: Path) -> bool:
    """Whether a file is what :func:`show` wrote.

    Raises:
        OSError: it cannot be read.
    """
    if file.suffix == ".md":
        return file.read_bytes().startswith(f"{_markdown_row(_HEADS)}\n".encode())
    return is_json_with(file, ("model", "prompt_tokens", "findings", "passed"))


def as_json(found: DryRun) -> str:
    """Everything that was found."""
    return json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n"


def as_markdown(reckoning: Reckoning) -> str:
    """The table of one GPU for a document."""
    rows = [_HEADS, ("---", "---:", "---:", "---"), *memory_rows(reckoning)]
    return "\n".join(map(_markdown_row, rows)) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
