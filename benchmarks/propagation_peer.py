# SPDX-License-Identifier: Apache-2.0
"""One click carried through a volume: ours beside MONAI Label's own ``sam_3d``, on equal weights.

Run: ``python benchmarks/propagation_peer.py IMAGE --at 60 40 50 --runs 3``. Both load the embedded
segmenter, take the same click (voxel IJK) and write a NIfTI mask; each run is a process of its own,
in turn. ``sam_3d`` is the task of MONAI Label 0.8.5 as its radiology app makes it.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

OURS, PEER = "medreasoner", "sam_3d"
Voxel = tuple[int, int, int]


def ours(image: Path, at: Voxel) -> dict[str, Any]:
    """Seconds from the click to the file, the first time and again, and slices with a mask."""
    from medreasoner_infer.imaging import load_volume, write_mask
    from medreasoner_infer.pipeline import Pipeline
    from medreasoner_infer.request import Click, SegmentRequest

    pipeline = Pipeline.from_registry("embedded", "embedded", device="cpu")
    pipeline.segmenter.identity  # noqa: B018 - the weights are there before the clock starts

    def click() -> Any:
        volume = load_volume(image)
        request = SegmentRequest(clicks=(Click(at, True),), propagate=True)
        mask = pipeline.segment(volume, request).mask_ijk
        with tempfile.TemporaryDirectory() as folder:
            write_mask(mask, volume, Path(folder) / "mask.nii.gz")
        return mask

    return timed(click, at)


def peer(image: Path, at: Voxel) -> dict[str, Any]:
    """Likewise of MONAI Label's task."""
    from monailabel.config import settings

    with tempfile.TemporaryDirectory() as folder:
        settings.MONAI_LABEL_DATASTORE_CACHE_PATH = folder
        task = sam_3d(Path(folder))

        def click() -> Any:
            import nibabel

            file, _ = task({"image": str(image), "foreground": [list(at)], "device": "cpu"})
            mask = nibabel.load(file).get_fdata() > 0
            Path(file).unlink()
            return mask

        return timed(click, at)


def sam_3d(folder: Path) -> Any:
    """The task with the embedded segmenter in the place of what it would download."""
    import torch
    import yaml
    from monailabel.config import settings
    from safetensors.torch import load_file

    from medreasoner_infer.models.registry import resolve_model

    source = Path(resolve_model("segmenter", "embedded").source)
    models = folder / "models"
    models.mkdir()
    torch.save({"model": load_file(source / "model.safetensors")}, models / "peer.pt")
    config = {"model": yaml.safe_load((source / "config.yaml").read_text())["model"]}
    (models / "peer.yaml").write_text(yaml.safe_dump(config))
    settings.MONAI_SAM_MODEL_PT, settings.MONAI_SAM_MODEL_CFG = "/peer.pt", "/peer.yaml"
    from monailabel.interfaces.tasks.infer_v2 import InferType
    from monailabel.sam2.infer import Sam2InferTask

    return Sam2InferTask(model_dir=str(models), type=InferType.DEEPGROW, dimension=3)


def timed(click: Any, at: Voxel) -> dict[str, Any]:
    """Call twice, and tell how far the mask reaches from the click's slice."""
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        mask = click()
        seconds.append(round(time.perf_counter() - started, 3))
    found = [int(k) for k in range(mask.shape[2]) if mask[:, :, k].any()]
    return {
        "first_s": seconds[0],
        "again_s": seconds[1],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "slices_below": sum(k < at[2] for k in found),
        "slices_above": sum(k > at[2] for k in found),
    }


def measure(engine: str, image: Path, at: Voxel) -> dict[str, Any]:
    """One engine in a process of its own."""
    command = [sys.executable, __file__, str(image), "--at", *map(str, at), "--engine", engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main(
    image: Path,
    at: Annotated[tuple[int, int, int], typer.Option(help="Voxel IJK of the click.")],
    runs: int = 3,
    engine: Annotated[str | None, typer.Option(help="Measure it in this process.")] = None,
    threads: int = 1,
) -> None:
    """Measure both in turn and print the table of medians."""
    if engine is not None:
        import torch

        torch.set_num_threads(threads)
        print(json.dumps((ours if engine == OURS else peer)(image, at)))
        return
    found: dict[str, list[dict[str, Any]]] = {OURS: [], PEER: []}
    for _ in range(runs):
        for name, rows in found.items():
            rows.append(measure(name, image, at))
    names = list(found[OURS][0])
    table = Table("", *names)
    medians = {
        name: [statistics.median(r[n] for r in rows) for n in names] for name, rows in found.items()
    }
    for name, values in medians.items():
        table.add_row(name, *(f"{value:g}" for value in values))
    ratios = [
        p / o if o else float("nan") for o, p in zip(medians[OURS], medians[PEER], strict=True)
    ]
    table.add_row(f"{PEER} / {OURS}", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
