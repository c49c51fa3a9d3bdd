# SPDX-License-Identifier: Apache-2.0
"""What ``medreasoner batch`` saves over ``medreasoner ask`` image by image, on this machine.

Run: ``python benchmarks/batch.py [--studies 200] [--asked 10] [--out figures.json]``. It writes
generated CT volumes, asks the first ``--asked`` of them by ``medreasoner ask``, one after another,
and scales that to all; then it asks all of them by ``medreasoner batch`` with one process and with
two. Every figure is the seconds of the whole command, with starting Python and loading the models.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from rich.console import Console
from rich.table import Table

from medreasoner_training.embedded.phantom import torso_ct

QUESTION, SLICE = "Where is the liver?", 5
SPACING_MM, MATRIX = (3.2, 3.2, 40.0), 96
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_studies(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"ct{seed:04d}.nii.gz" for seed in range(count)]
    for seed, path in enumerate(paths):
        phantom = torso_ct(seed, spacing_mm=SPACING_MM, matrix=MATRIX)
        voxels_ijk = phantom.hu.transpose(2, 1, 0).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels_ijk, _LPS_TO_RAS @ phantom.ijk_to_lps), path)
    return paths


def seconds_of(*arguments: object) -> float:
    command = [sys.executable, "-m", "monailabel_app.cli", *map(str, arguments)]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def measured(folder: Path, studies: int, asked: int) -> dict[str, float]:
    """Seconds by way of asking, for all studies."""
    images = write_studies(folder / "studies", studies)
    questions = folder / "questions.csv"
    questions.write_text(f"question,slice\n{QUESTION},{SLICE}\n")
    found = {}
    ask = [
        seconds_of("ask", image, QUESTION, "--slice", SLICE, "--out", folder / image.stem)
        for image in images[:asked]
    ]
    found["ask"] = sum(ask) / asked * studies
    for processes in (1, 2):
        found[f"batch, {processes}"] = seconds_of(
            "batch", questions, "--studies", folder / "studies",
            "--out", folder / f"out{processes}", "--processes", processes,
        )  # fmt: skip
    return found


def main() -> None:
    """Measure, print the table, and keep the figures where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--asked", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), options.studies, min(options.asked, options.studies))
    title = f"{options.studies} studies, {os.cpu_count()} cores, load before {load:.1f}"
    table = Table("way", "seconds", "per study", "times as fast as ask", title=title)
    for way, seconds in found.items():
        ratio = found["ask"] / seconds
        table.add_row(way, f"{seconds:.1f}", f"{seconds / options.studies:.2f}", f"{ratio:.1f}")
    console = Console()
    console.print(table)
    scaling = found["batch, 1"] / found["batch, 2"]
    console.print(
        f"ask was measured on {min(options.asked, options.studies)} and scaled; two processes are "
        f"{scaling:.2f} times as fast as one."
    )
    if options.out is not None:
        told = {"studies": options.studies, "load_before": load, "seconds": found}
        options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
