# SPDX-License-Identifier: Apache-2.0
"""Peak memory and time of a question about a large CT, carried through the volume.

Run: ``python benchmarks/large_volume.py [--slices 600 --size 512]``. The volume is a generated
16-bit NIfTI of a torso section that is repeated with other noise; the question goes through
``medreasoner ask`` in a process of its own, whose peak resident memory is told.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import typer


def write_volume(path: Path, slices: int, size: int) -> None:
    """A torso's section, enlarged and repeated; int16 Hounsfield units."""
    import nibabel
    from scipy import ndimage

    from medreasoner_training.experiments.site_shift.site import USUAL, patient_volume

    patient = patient_volume(USUAL, 0, 0)
    section = patient.hu[len(patient.hu) // 2].astype(np.float32)
    large = ndimage.zoom(section, size / section.shape[0], order=1).astype(np.int16)
    rng, volume = np.random.default_rng(0), np.empty((size, size, slices), np.int16)
    for k in range(slices):
        volume[:, :, k] = (large + rng.normal(0, 10, large.shape)).astype(np.int16).T
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-0.7, -0.7, 1.0, 1.0])), path)


def main(slices: int = 600, size: int = 512, query: str = "Where is the liver?") -> None:
    """Ask and print one line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large_ct.nii.gz"
        write_volume(path, slices, size)
        command = [sys.executable, "-m", "monailabel_app.cli", "ask", str(path), query]
        command += ["--modality", "CT", "--slice", str(slices // 2), "--propagate"]
        command += ["--out", str(Path(folder) / "out")]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{size} x {size} x {slices}, 16 bit: {seconds:.1f} s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    typer.run(main)
