# SPDX-License-Identifier: Apache-2.0
"""Damaged image files by the ten thousand, through the reader of each format.

Run: ``PYTHONPATH=tests python benchmarks/mutated_images.py [--dicom 10000] [--others 5000]
[--seed 1] [--only PNG]``. Bits are flipped, bytes cut, moved and exchanged, numbers set to
extremes, elements of DICOM data sets given other values, and headers of NRRD and MetaImage hostile
lines. Each is read or refused in a typed sentence, in at most 10 s and 2 GB; the exit status is 1
where one is not. The variants of each coding are read in a process of their own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from support.image_samples import SAMPLES
from support.reading_mutants import Outcome, run_in_child

FORMATS = {
    "DICOM": (".dcm",),
    "NIfTI": (".nii", ".nii.gz"),
    "NRRD": (".nrrd",),
    "MHA": (".mha",),
    "PNG": (".png",),
    "JPEG": (".jpg",),
    "TIFF": (".tif",),
}


@dataclass
class Report:
    """What became of the variants of one format."""

    kind: str
    outcomes: list[Outcome] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        """Format, files, read, refused, longest call in s, most memory in MB, faults."""
        read = sum(outcome.read for outcome in self.outcomes)
        refused = sum(outcome.refused for outcome in self.outcomes)
        longest = max((outcome.longest_s for outcome in self.outcomes), default=0.0)
        held = max((outcome.held_kb for outcome in self.outcomes), default=0) // 1024
        figures = (read + refused, read, refused, longest, held, len(self.faults))
        return self.kind, *map(str, figures)


def try_format(kind: str, count: int, seed: int, folder: Path) -> Report:
    """Read ``count`` variants or a few more, as many of each coding of the format."""
    names = [name for name in SAMPLES if name.endswith(FORMATS[kind])]
    report = Report(kind)
    for name in names:
        SAMPLES[name](folder / name)
        try:
            report.outcomes.append(run_in_child(folder / name, -(-count // len(names)), seed))
        except AssertionError as fault:
            report.faults.append(str(fault))
    return report


def reports(kinds: Sequence[str], dicom: int, others: int, seed: int) -> Iterator[Report]:
    """One format after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            yield try_format(kind, dicom if kind == "DICOM" else others, seed, Path(folder))


def main(
    dicom: Annotated[int, typer.Option(help="Variants of DICOM files.")] = 10_000,
    others: Annotated[int, typer.Option(help="Variants of each other format.")] = 5_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same variants.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(FORMATS)}.")] = None,
) -> None:
    """Read the variants and print a table."""
    console = Console()
    table = Table("format", "files", "read", "refused", "longest s", "most MB", "faults")
    faults: list[str] = []
    for report in reports(only or list(FORMATS), dicom, others, seed):
        console.print(*report.row())
        table.add_row(*report.row())
        faults += report.faults
    console.print(table, *faults)
    raise typer.Exit(bool(faults))


if __name__ == "__main__":
    typer.run(main)
