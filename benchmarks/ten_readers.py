# SPDX-License-Identifier: Apache-2.0
"""Ten readers at once, each on a study of their own, against one reader alone.

Run: ``python benchmarks/ten_readers.py [--data FOLDER] [--readers 10] [--rounds 3]``. ``FOLDER``
holds public test images (``totalsegmentator/example_ct.nii.gz`` and others); without it, and for
what it lacks, phantoms are asked about. Every answer is checked: it is recorded for the reader's
own study, its mask lies on that study's grid, and equals what the same question gets alone.

The server is ours with the embedded models, in a process of its own. Readers alone and together
take turns, on different slices, so that both meet the same load of the machine, and no answer is
quicker because its slice was read before.

``--remote`` (with ``PYTHONPATH=tests``) puts a reasoner's server in place of the embedded reasoner,
which answers any question after a second, as many at a time as are asked; and it measures clicks
and ``/info/`` while others search and propagate.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import nibabel
import numpy as np
import typer
from beside_others import Reader, Seconds, measure
from rich.console import Console
from rich.table import Table
from serving import START_TIMEOUT_S, serving

from monailabel_app.viewers.slicer.MedReasoner.MedReasonerLib.client import Client, Server, Target

QUESTIONS = (
    "Which organ makes bile and fills the right upper abdomen?",
    "Which organ filters aged red blood cells?",
    "Where would a stone cause left flank pain?",
    "Which vessel carries blood from the heart to the legs?",
)
PROBE_EVERY_S = 0.5
REMOTE_LATENCY_S = 1.0
_FIRST_SHARE, _LAST_SHARE = 0.3, 0.7


@dataclass(frozen=True)
class Study:
    """A NIfTI file in the server's folder; ``source`` says what it was made of."""

    image_id: str
    shape_ijk: tuple[int, int, int]
    ijk_to_lps: np.ndarray
    source: str


@dataclass(frozen=True)
class Ask:
    """One question of one reader, on the slice through an axial position (LPS mm)."""

    study: Study
    question: str
    position_lps_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Told:
    """What came back: seconds to the first piece of reasoning, to the mask, to the record."""

    first_text_s: float
    mask_s: float | None
    record_s: float
    inference_id: str
    reasoning: str
    mask: dict[str, Any] | None


def write_studies(folder: Path, data: Path | None, count: int) -> list[Study]:
    """``count`` different images: parts of the real ones first, phantoms after them."""
    images = [*(_real_parts(data) if data else ()), *_phantoms(count)][:count]
    return [_write(folder, number, *image) for number, image in enumerate(images)]


def _real_parts(data: Path) -> Iterator[tuple[nibabel.Nifti1Image, str]]:
    """Overlapping thirds of each image along its slices, every other pixel of the largest."""
    folder = data / "totalsegmentator"
    for name, parts in (("example_ct.nii.gz", 5), ("example_mr_sm.nii.gz", 3)):
        if (folder / name).is_file():
            image = nibabel.load(folder / name)
            slices = image.shape[2]
            length = slices // 2
            for start in np.linspace(0, slices - length, parts).astype(int):
                part = image.slicer[:, :, start : start + length]
                yield part, f"{name}, slices {start} to {start + length - 1}"
    if any((folder / "example_ct_dicom").glob("*.dcm")):
        from medreasoner_infer.imaging import load_volume

        volume = load_volume(folder / "example_ct_dicom")
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.ijk_to_lps
        image = nibabel.Nifti1Image(np.asarray(volume.array, dtype=np.int16), affine)
        yield image.slicer[::2, ::2, :], "example_ct_dicom, every other pixel"


def _phantoms(count: int) -> Iterator[tuple[nibabel.Nifti1Image, str]]:
    from medreasoner_training.embedded.phantom import torso_ct

    for seed in range(count):
        study = torso_ct(seed, spacing_mm=(3.0, 3.0, 10.0), matrix=128 + 4 * seed)
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ study.ijk_to_lps
        voxels = study.hu.transpose(2, 1, 0).astype(np.int16)
        yield nibabel.Nifti1Image(voxels, affine), f"phantom of seed {seed}"


def _write(folder: Path, number: int, image: nibabel.Nifti1Image, source: str) -> Study:
    image_id = f"study_{number:02d}"
    nibabel.save(image, folder / f"{image_id}.nii.gz")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    return Study(image_id, image.shape[:3], affine, source)


def questions_of(studies: Sequence[Study], rounds: int) -> list[list[Ask]]:
    """One list per round, with one question per study, on another slice each round."""
    shares = np.linspace(_FIRST_SHARE, _LAST_SHARE, rounds)
    return [
        [
            Ask(study, QUESTIONS[(number + index) % len(QUESTIONS)], _position(study, share))
            for index, study in enumerate(studies)
        ]
        for number, share in enumerate(shares)
    ]


def _position(study: Study, share: float) -> tuple[float, float, float]:
    i, j, k = study.shape_ijk
    index = np.array([i / 2, j / 2, round(share * (k - 1)), 1.0])
    x, y, z = (study.ijk_to_lps @ index)[:3]
    return float(x), float(y), float(z)


def answer(client: Client, ask: Ask) -> Told:
    """Ask once and time what comes.

    Raises:
        ServerError: if the server refuses.
        RuntimeError: if the stream tells of a fault.
    """
    started = time.perf_counter()
    first = mask_at = None
    pieces: list[str] = []
    mask = record = None
    values = {"query": ask.question, "position": ask.position_lps_mm, "plane": "axial"}
    for event in client.ask(Target(ask.study.image_id), values):
        now = time.perf_counter() - started
        if event.name == "text":
            first = first or now
            pieces.append(event.data["text"])
        elif event.name == "mask":
            mask, mask_at = event.data, now
        elif event.name == "record":
            record, record_at = event.data, now
        elif event.name == "error":
            raise RuntimeError(event.data["detail"])
    if record is None or first is None:
        raise RuntimeError("The stream ended without reasoning or record.")
    return Told(first, mask_at, record_at, record["inference_id"], "".join(pieces), mask)


def fault_of(client: Client, ask: Ask, told: Told, alone: Told) -> str | None:
    """Why an answer is not the reader's own, ``None`` if it is."""
    study = ask.study
    recorded = {record["inference_id"]: record for record in client.history(study.image_id)}
    if told.inference_id not in recorded:
        return f"{study.image_id}: recorded for another study"
    if recorded[told.inference_id]["result"]["query"] != ask.question:
        return f"{study.image_id}: recorded for another question"
    if told.mask is not None and (
        tuple(told.mask["shape_ijk"]) != study.shape_ijk
        or not np.allclose(told.mask["ijk_to_lps"], study.ijk_to_lps, atol=1e-3)
    ):
        return f"{study.image_id}: the mask lies on another study's grid"
    if told.reasoning != alone.reasoning:
        return f"{study.image_id}: other reasoning than alone to {ask.question!r}"
    if told.mask != alone.mask:
        return f"{study.image_id}: another mask than alone for {ask.question!r}"
    return None


class Probe:
    """Asks ``/info/`` all the while: a server whose event loop stands still answers late."""

    def __init__(self, server: Server) -> None:
        self.seconds: list[float] = []
        self._url = f"{server.address}/info/"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(timeout=START_TIMEOUT_S) as client:
            while not self._stop.wait(PROBE_EVERY_S):
                started = time.perf_counter()
                client.get(self._url).raise_for_status()
                self.seconds.append(time.perf_counter() - started)


@dataclass
class Part:
    """Answers under one number of readers, and how long ``/info/`` took meanwhile."""

    readers: int
    told: list[Told] = field(default_factory=list)
    probed_s: list[float] = field(default_factory=list)

    def ask(self, server: Server, asks: Sequence[Ask]) -> list[Told]:
        """Ask the questions, as many at a time as there are readers."""
        clients = [Client(server) for _ in asks]
        with Probe(server) as probe, ThreadPoolExecutor(self.readers) as pool:
            told = list(pool.map(answer, clients, asks))
        self.told += told
        self.probed_s += probe.seconds
        return told


def run(server: Server, studies: Sequence[Study], rounds: int) -> tuple[Part, Part, list[str]]:
    """Take turns; returns the answers alone, those together, and what was wrong with the latter."""
    alone, together, faults = Part(1), Part(len(studies)), []
    first, *asks = questions_of(studies, 2 * rounds + 1)
    client = Client(server)
    answer(client, first[0])  # what is loaded at the first question is no reader's fault
    for single, several in zip(asks[0::2], asks[1::2], strict=True):
        alone.ask(server, single)
        for ask, told in zip(several, together.ask(server, several), strict=True):
            fault = fault_of(client, ask, told, answer(client, ask))
            faults += [] if fault is None else [fault]
    return alone, together, faults


def report(alone: Part, together: Part) -> Table:
    """Percentiles of both beside each other, and how many times longer it takes together."""
    several = f"{together.readers} at once p50 / p95 / p99"
    table = Table("", "alone p50 / p95 / p99", several, "p50 ratio")
    measures: dict[str, Callable[[Part], list[float]]] = {
        "question to first words, s": lambda part: [told.first_text_s for told in part.told],
        "question to mask, s": lambda part: [t.mask_s for t in part.told if t.mask_s is not None],
        "question to record, s": lambda part: [told.record_s for told in part.told],
        "/info/ meanwhile, s": lambda part: part.probed_s,
    }
    for name, of in measures.items():
        single, all_of_them = of(alone), of(together)
        # Few questions may all be answered without a mask, or before /info/ is asked once.
        ratio = "-"
        if single and all_of_them:
            ratio = f"{statistics.median(all_of_them) / statistics.median(single):.1f}"
        table.add_row(name, percentiles(single), percentiles(all_of_them), ratio)
    return table


def busy_report(idle: Seconds, busy: Seconds) -> Table:
    """What a click and ``/info/`` take, idle and while others search and propagate."""
    table = Table("", "idle p50 / p95", "others search and propagate p50 / p95", "p95 ratio")
    for name, alone, beside in (
        ("click to mask, s", idle.clicks, busy.clicks),
        ("/info/, s", idle.info, busy.info),
    ):
        ratio = np.percentile(beside, 95) / np.percentile(alone, 95)
        told = (
            " / ".join(f"{value:.3f}" for value in np.percentile(values, (50, 95)))
            for values in (alone, beside)
        )
        table.add_row(name, *told, f"{ratio:.1f}")
    return table


def beside_others(server: Server, studies: Sequence[Study]) -> tuple[Seconds, Seconds]:
    """One clicks on the first study; two search and two propagate on others."""
    clicking, *others = [
        Reader(study.image_id, _position(study, 0.5), question)
        for study, question in zip(studies[:5], (*QUESTIONS, QUESTIONS[0]), strict=False)
    ]
    return measure(server, clicking, others)


@contextmanager
def slow_reasoner() -> Iterator[str]:
    """The address of a reasoner's server that answers after a second."""
    from support.slow_reasoner import answers_after
    from support.vllm_stub import card, running, serves

    with running() as stub:
        stub.models_reply = serves(card("embedded", max_model_len=4096))
        stub.reply = answers_after(REMOTE_LATENCY_S)
        yield stub.url


def percentiles(values: Sequence[float]) -> str:
    if not values:
        return "not measured"
    return " / ".join(f"{value:.2f}" for value in np.percentile(values, (50, 95, 99)))


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of public test images.")] = None,
    readers: Annotated[int, typer.Option(help="Studies, and readers at once.")] = 10,
    rounds: Annotated[int, typer.Option(help="Questions per reader, alone and together.")] = 3,
    remote: Annotated[bool, typer.Option(help="Ask a server of one second latency.")] = False,
) -> None:
    """Ask alone, then all at once; compare the answers and tell the latencies."""
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "studies"
        folder.mkdir()
        studies = write_studies(folder, data, readers)
        for study in studies:
            console.print(f"{study.image_id} {study.shape_ijk} {study.source}")
        with slow_reasoner() if remote else nullcontext() as reasoner_url:
            given = () if reasoner_url is None else ("--reasoner-url", reasoner_url)
            with serving(Path(scratch) / "home", "--studies", str(folder), *given) as url:
                alone, together, faults = run(Server(url), studies, rounds)
                busy = beside_others(Server(url), studies) if remote else None
    console.print(report(alone, together))
    if busy is not None:
        console.print(busy_report(*busy))
    masks = sum(told.mask is not None for told in together.told)
    console.print(
        f"{len(together.told)} answers at once, {masks} with a mask, {len(faults)} wrong; load of "
        f"the machine {os.getloadavg()[2]:.0f} on {os.cpu_count()} cores"
    )
    for fault in faults:
        console.print(fault)
    raise typer.Exit(bool(faults))


if __name__ == "__main__":
    typer.run(main)
