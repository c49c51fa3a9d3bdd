# SPDX-License-Identifier: Apache-2.0
"""What an answer, a list or a start costs as the work grows, and with which power it grows.

Run: ``PYTHONPATH=tests python benchmarks/growth.py [--what studies --what history] [--rounds 3]``.
Each cost is measured at several sizes (medians of the rounds) and gets the exponent of the power
law through them: 0 where the size does not matter, 1 where twice the work takes twice the time.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import nibabel
import numpy as np
import typer
from large_volume import write_volume
from rich.console import Console
from rich.table import Table
from serving import serving
from support.results import make_result

from medreasoner_infer.imaging import load_volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, Click, SegmentRequest, SliceSelection
from monailabel_app.inference.call import ASK_TASK, CLICK_TASK
from monailabel_app.store import RecordStore

Curve = tuple[str, list[tuple[int, float]]]
"""What is measured, and seconds by size."""
_MATRIX = 128


def exponent(points: list[tuple[int, float]]) -> float:
    """Slope of a line through sizes and seconds on logarithmic axes, least squares."""
    sizes, seconds = np.log(np.array(points, float)).T
    return float(np.polyfit(sizes, seconds, 1)[0])


def median_of(rounds: int, work: Callable[[], object]) -> float:
    """Median seconds of ``work``."""
    return statistics.median(_timed(work) for _ in range(rounds))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def slices(rounds: int) -> Iterator[Curve]:
    """A click carried through a volume whose every slice shows the target."""
    pipeline, found = Pipeline.from_registry(device="cpu"), []
    with tempfile.TemporaryDirectory() as folder:
        for count in (32, 64, 128, 256):
            path = Path(folder) / f"{count}.nii.gz"
            write_volume(path, count, _MATRIX)
            volume = load_volume(path)
            place = Click((_MATRIX * 0.35, _MATRIX * 0.4, count / 2))
            request = SegmentRequest(clicks=(place,), propagate=True)

            def click(volume=volume, request=request) -> None:
                pipeline.segment(volume, request)

            click()
            found.append((count, median_of(rounds, click)))
    yield "a click, through a volume of so many slices", found


def targets(rounds: int) -> Iterator[Curve]:
    """Questions about one slice, one after the other."""
    names = ("liver", "spleen", "aorta", "left kidney", "right kidney", "stomach", "pancreas")
    questions = [f"Where is the {name}?" for name in (*names, "gallbladder")]
    pipeline, found = Pipeline.from_registry(device="cpu"), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.nii.gz"
        write_volume(path, 24, _MATRIX)
        volume = load_volume(path)

    def ask(count: int) -> None:
        for question in questions[:count]:
            pipeline.ask(volume, AskRequest(question, SliceSelection(index=12)))

    ask(1)
    for count in (1, 2, 4, 8):
        found.append((count, median_of(rounds, lambda count=count: ask(count))))
    yield "so many targets of one slice", found


def readers(rounds: int) -> Iterator[Curve]:
    """Questions of several readers at once, until the last has its mask."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "studies").mkdir()
        write_volume(root / "studies" / "ct.nii.gz", 200, _MATRIX)
        with serving(root / "home", "--studies", str(root / "studies")) as url:
            fresh = iter(range(200))

            def ask(index: int) -> None:
                question = {"query": "Where is the liver?", "slice": index}
                _post(url, ASK_TASK, question)

            ask(next(fresh))
            for count in (1, 2, 4, 8):

                def at_once(count=count) -> None:
                    with ThreadPoolExecutor(count) as pool:
                        list(pool.map(ask, [next(fresh) for _ in range(count)]))

                found.append((count, median_of(rounds, at_once)))
    yield "so many readers at once, one reasoner in the server, to the last mask", found


def studies(rounds: int) -> Iterator[Curve]:
    """A server on a folder of so many images."""
    measured: dict[str, list[tuple[int, float]]] = {}
    for count in (10, 100, 1000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            _write_images(root / "studies", count)
            start = time.perf_counter()
            with serving(root / "home", "--studies", str(root / "studies")) as url:
                up = time.perf_counter() - start
                measured.setdefault("start of a server", []).append((count, up))
                for name, path in _REQUESTS.items():
                    seconds = median_of(rounds, lambda url=url, path=path: _get(f"{url}{path}"))
                    measured.setdefault(name, []).append((count, seconds))
                click = partial(_post, url, CLICK_TASK, {"foreground": [[4, 4, 4]]})
                click()
                seconds = median_of(rounds, click)
                measured.setdefault("a click, to the record", []).append((count, seconds))
    for name, points in measured.items():
        yield f"{name}, so many images in the folder", points


_REQUESTS = {
    "/info/": "/info/",
    "list of all images": "/datastore/",
    "one image's entry": "/datastore/image/info?image=ct",
}


def _write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    voxels = np.random.default_rng(0).integers(-100, 200, (16, 16, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / "ct.nii.gz")
    content = (folder / "ct.nii.gz").read_bytes()
    for number in range(1, count):
        (folder / f"ct{number:05d}.nii.gz").write_bytes(content)


def _get(url: str) -> None:
    httpx.get(url, timeout=600).raise_for_status()


def _post(url: str, model: str, params: dict[str, object]) -> None:
    form = {"params": json.dumps(params)}
    query = {"image": "ct", "output": "json"}
    httpx.post(f"{url}/infer/{model}", params=query, data=form, timeout=600).raise_for_status()


def history(rounds: int) -> Iterator[Curve]:
    """Records of one image: one more, and the newest hundred."""
    added, listed = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(Path(folder))

        def add() -> None:
            result = make_result(str(uuid.uuid4()))
            store.add_inference(result, task="medreasoner", image_id="ct", study_uid="1.2")

        count = 0
        for size in (10, 100, 1000, 10_000):
            while count < size:
                add()
                count += 1
            added.append((size, median_of(rounds * 5, add)))
            listed.append((size, median_of(rounds * 5, lambda: store.list_for_image("ct"))))
            count += rounds * 5
        store.close()
    yield "one more record, so many before it", added
    yield "the newest hundred of an image, of so many", listed


CURVES = {each.__name__: each for each in (slices, targets, readers, studies, history)}


def main(
    what: Annotated[list[str] | None, typer.Option(help=f"Of: {', '.join(CURVES)}.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Measure and print a line for each cost."""
    table = Table("seconds of", "at each size", "exponent")
    for name in what or CURVES:
        for title, points in CURVES[name](rounds):
            told = ", ".join(f"{size:,}: {seconds:.3g}" for size, seconds in points)
            table.add_row(title, told, f"{exponent(points):.2f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
