# SPDX-License-Identifier: Apache-2.0
"""Thousands of damaged files: each is read or refused, in bounded time and memory.

``MEDREASONER_MUTATIONS=2000 pytest tests/test_imaging_mutations.py`` tries as many of each coding;
``benchmarks/mutated_images.py`` counts them by format.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.image_samples import SAMPLES
from support.mutations import mutants_of
from support.reading_mutants import run_in_child

from medreasoner_infer.imaging import load_volume

COUNT = int(os.environ.get("MEDREASONER_MUTATIONS", "400"))
SEED = int(os.environ.get("MEDREASONER_MUTATIONS_SEED", "20"))


def a_sample(name: str, folder: Path) -> Path:
    if name == "jpegls.dcm":
        pytest.importorskip("pillow_jpls")
    SAMPLES[name](folder / name)
    return folder / name


@pytest.mark.parametrize("name", SAMPLES)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    sample = a_sample(name, tmp_path)
    assert load_volume(sample).array.size
    run_in_child(sample, COUNT, SEED)


@pytest.mark.parametrize("name", SAMPLES)
def test_variants_are_many_and_the_same_for_the_same_seed(name: str, tmp_path: Path) -> None:
    sample = a_sample(name, tmp_path)
    variants = list(mutants_of(sample, 40, 3))
    assert variants == list(mutants_of(sample, 40, 3))
    assert len({*variants, sample.read_bytes()}) > 30


REAL = {
    "ct.dcm": "dcmqi/ct-3slice/01.dcm",
    "radiograph.dcm": "highdicom/dx_image.dcm",
    "mr.nii.gz": "totalsegmentator/example_mr_sm.nii.gz",
    "ultrasound.jpg": "real/busi/images/10025.jpg",
}


@pytest.mark.parametrize("name", REAL)
def test_a_damaged_real_file_is_read_or_refused(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    original = shared_data / REAL[name]
    if not original.is_file():
        pytest.skip(f"of the public test data {REAL[name]} is absent")
    (tmp_path / name).write_bytes(original.read_bytes())
    run_in_child(tmp_path / name, COUNT, SEED)


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_no_line_of_a_header_ends_the_process(kind: str) -> None:
    """``space origin: aaa…`` made ITK's parser write beyond a buffer, and the server was gone."""
    count = os.environ.get("MEDREASONER_MUTATIONS", "400")
    command = [sys.executable, "-m", "support.hostile_headers", kind, count, "7"]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = int(done.stdout.split()[0])
    assert 0 < read < int(count)
