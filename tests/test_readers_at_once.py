# SPDX-License-Identifier: Apache-2.0
"""Many readers at once on a reasoner's server that is slow: real HTTP, real pipeline, real records.

Nothing is timed: what is proved is how many questions the server holds at once, and the order of
what happens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from prometheus_client import generate_latest
from support.slow_reasoner import SlowReasoner, slow_reasoner
from support.waiting import eventually

pytest.importorskip("monailabel")
pytest.importorskip("openai")

from medreasoner_infer.errors import CancelledError
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners import PromptTemplate, connect_vllm_reasoner
from medreasoner_infer.request import Click, SliceSelection
from medreasoner_infer.types import ModelIdentity, SliceMask
from monailabel_app.errors import ServerBusyError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.call import ASK_TASK, CLICK_TASK, Call
from monailabel_app.inference.device import Device
from monailabel_app.inference.measures import Measures
from monailabel_app.inference.params import InferParams
from monailabel_app.inference.service import Answer, AnsweringService
from monailabel_app.store import RecordStore

WAIT_S = 30
SIZE = 56
SLICES = 6
MODEL = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")


class SteppedSegmenter:
    """Marks the whole slice; follows a target through all slices, each when the test says so.

    Attributes:
        done: what was made, ``(value of the slice, slice)``; the value tells whose image it is.
        held: of which image the propagation stops before each slice, until :meth:`step`.
    """

    identity = MODEL

    def __init__(self) -> None:
        self.done: list[tuple[int, str]] = []
        self.held: set[int] = set()
        self.reached = threading.Semaphore(0)
        self._steps = threading.Semaphore(0)

    def step(self) -> None:
        self._steps.release()

    def segment_slice(self, image, prompt):
        self.done.append((reader_of(image), "mask"))
        return SliceMask(np.ones(image.pixels.shape[:2], bool), 0.9)

    def propagate(self, frames, start_index, prompt, *, progress=None, cancelled=None):
        first = self.segment_slice(frames[start_index], prompt)
        yield start_index, first
        for index in range(len(frames)):
            if index != start_index:
                reader = reader_of(frames[index])
                if reader in self.held:
                    self.reached.release()
                    assert self._steps.acquire(timeout=WAIT_S)
                self.done.append((reader, f"slice {index}"))
                yield index, SliceMask(first.mask, 0.9)


def reader_of(image) -> int:
    """The number of the reader whose image it is; see :func:`image_of`."""
    return int(image.pixels.any(axis=0).sum())


def image_of(number: int, folder: Path) -> ImageSource:
    """An image of its own for each reader: as many bright columns as their number."""
    voxels = np.full((32, 32, SLICES), -2000, np.int16)
    voxels[:number] = 2000
    path = folder / f"image-{number}.nii.gz"
    if not path.exists():
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return ImageSource(path, path.stem, "CT")


@pytest.fixture
def slow() -> Iterator[SlowReasoner]:
    with slow_reasoner() as server:
        yield server


class Readers:
    """Readers by number, who ask and click at a service in threads of their own."""

    def __init__(self, slow: SlowReasoner, folder: Path, at_once: int, max_waiting: int) -> None:
        self.segmenter = SteppedSegmenter()
        self.records = RecordStore(folder / "records")
        self._folder = folder
        self._pool = ThreadPoolExecutor(32)
        self.measures = Measures()
        self.device = Device(self.measures, reasons=False)
        prompt = PromptTemplate("Ground.", "{query}")
        pipeline = Pipeline(
            lambda: connect_vllm_reasoner(
                slow.url, "tiny", input_size=SIZE, prompt=prompt, model_type="qwen2_5_vl"
            ),
            lambda: self.segmenter,
        )
        self.service = AnsweringService(
            pipeline,
            VolumeCache(1 << 24),
            self.records,
            self.device,
            at_once,
            max_waiting,
            self.measures,
        )

    def ask(self, reader: int, question: str, hooks=None, **params) -> Future[Answer]:
        """Ask about slice 2 of the reader's own image, unless another selection is given."""
        asked = {"selection": SliceSelection(index=2), **params}
        return self._call(ASK_TASK, reader, InferParams(query=question, **asked), hooks)

    def click(self, reader: int, **params) -> Future[Answer]:
        clicks = (Click((4.0, 4.0, 3.0)),)
        return self._call(CLICK_TASK, reader, InferParams(clicks=clicks, **params), None)

    def _call(self, task: str, reader: int, params: InferParams, hooks) -> Future[Answer]:
        source = image_of(reader, self._folder)
        call = Call(task, source, params, asked_by=f"reader-{reader}")
        return self._pool.submit(self.service.answer, call, hooks or Hooks())

    def close(self) -> None:
        self._pool.shutdown()
        self.records.close()


@pytest.fixture
def readers(slow, tmp_path) -> Iterator[Callable[..., Readers]]:
    made: list[Readers] = []

    def make(at_once: int = 16, max_waiting: int = 32) -> Readers:
        made.append(Readers(slow, tmp_path, at_once, max_waiting))
        return made[-1]

    yield make
    slow.let_all_go()
    for each in made:
        for _ in range(100):
            each.segmenter.step()
        each.close()


def test_ten_readers_are_answered_beside_each_other_and_each_their_own(readers, slow) -> None:
    site = readers()
    asked = [site.ask(n, f"question {n}", propagate=True) for n in range(1, 11)]
    eventually(lambda: len(slow.at_once) == 10)
    slow.let_all_go()
    for number, future in enumerate(asked, start=1):
        answer = future.result(WAIT_S)
        assert answer.result.query == f"question {number}"
        assert answer.result.reasoning == f"You ask: question {number}"
        assert answer.volume.array[:, 0, 0].tolist() == [2000] * number + [-2000] * (32 - number)
        assert answer.result.propagated
        assert answer.result.mask_ijk.all()
        (record,) = site.records.list_for_image(f"image-{number}.nii")
        assert record.result.reasoning == f"You ask: question {number}"
        assert record.asked_by == f"reader-{number}"
    # Each reader's volume was gone through, however their slices took turns.
    for number in range(1, 11):
        own = [what for reader, what in site.segmenter.done if reader == number]
        assert own == ["mask", *(f"slice {index}" for index in range(SLICES) if index != 2)]


def test_no_more_are_asked_at_once_than_the_site_allows(readers, slow) -> None:
    site = readers(at_once=3)
    asked = [site.ask(n, f"question {n}") for n in range(1, 8)]
    eventually(lambda: len(slow.at_once) == 3)
    slow.let_all_go()
    assert all(future.result(WAIT_S).result.present for future in asked)
    assert slow.most_at_once == 3


def test_a_reader_who_asks_much_does_not_keep_the_others_waiting(readers, slow) -> None:
    site = readers(at_once=1)
    first = [site.ask(1, "much 0")]
    eventually(lambda: slow.at_once == ["much 0"])
    for number in (1, 2, 3):
        first.append(site.ask(1, f"much {number}"))
        eventually(lambda: site.service.waiting == len(first) - 1)
    other = site.ask(2, "little")
    eventually(lambda: site.service.waiting == 4)
    slow.let_go("much 0")
    eventually(lambda: len(slow.asked) == 2)
    assert slow.asked == ["much 0", "little"]
    slow.let_all_go()
    for future in (*first, other):
        future.result(WAIT_S)


def test_a_click_waits_for_one_slice_of_anothers_propagation_and_for_no_question(
    readers, slow
) -> None:
    site = readers()
    site.segmenter.held = {1}
    slow.let_go("through the volume")
    propagating = site.ask(1, "through the volume", propagate=True)
    assert site.segmenter.reached.acquire(timeout=WAIT_S)  # within the first further slice
    held = site.ask(2, "held by the server")
    searching = site.ask(3, "held in a search", selection=SliceSelection())
    eventually(lambda: len(slow.at_once) >= 2)
    clicking = site.click(4)
    eventually(lambda: site.device.waiting == 1)
    site.segmenter.step()
    assert clicking.result(WAIT_S).result.present
    assert site.segmenter.done == [(1, "mask"), (1, "slice 0"), (4, "mask")]
    for _ in range(SLICES - 2):
        site.segmenter.step()
    assert propagating.result(WAIT_S).result.mask_ijk.all()
    assert not held.done()
    assert not searching.done()


def test_clicks_are_let_in_while_the_line_of_questions_is_full(readers, slow) -> None:
    site = readers(at_once=1, max_waiting=0)
    asked = site.ask(1, "question")
    eventually(lambda: slow.at_once == ["question"])
    with pytest.raises(ServerBusyError):
        site.ask(2, "too much").result(WAIT_S)
    assert site.click(3).result(WAIT_S).result.present
    slow.let_all_go()
    asked.result(WAIT_S)


def test_who_leaves_while_the_server_is_silent_frees_the_place_and_the_server(
    readers, slow
) -> None:
    site = readers(at_once=1)
    gone = threading.Event()
    leaving = site.ask(1, "left behind", Hooks(cancelled=gone.is_set))
    eventually(lambda: slow.at_once == ["left behind"])
    staying = site.ask(2, "stays")
    eventually(lambda: site.service.waiting == 1)
    gone.set()
    with pytest.raises(CancelledError):
        leaving.result(WAIT_S)
    eventually(lambda: slow.left == ["left behind"] and slow.at_once == ["stays"])
    slow.let_all_go()
    assert staying.result(WAIT_S).result.reasoning == "You ask: stays"
    assert site.records.list_for_image("image-1.nii") == []


def test_who_leaves_the_line_is_not_asked_for(readers, slow) -> None:
    site = readers(at_once=1)
    gone = threading.Event()
    first = site.ask(1, "first")
    eventually(lambda: slow.at_once == ["first"])
    leaving = site.ask(2, "left behind", Hooks(cancelled=gone.is_set))
    eventually(lambda: site.service.waiting == 1)
    gone.set()
    with pytest.raises(CancelledError):
        leaving.result(WAIT_S)
    slow.let_all_go()
    first.result(WAIT_S)
    assert slow.asked == ["first"]


def test_who_leaves_while_waiting_for_the_device_frees_it(readers, slow) -> None:
    site = readers()
    site.segmenter.held = {1}
    slow.let_all_go()
    propagating = site.ask(1, "through the volume", propagate=True)
    assert site.segmenter.reached.acquire(timeout=WAIT_S)
    gone = threading.Event()
    leaving = site.ask(2, "left behind", Hooks(cancelled=gone.is_set))
    eventually(lambda: site.device.waiting == 1)
    gone.set()
    with pytest.raises(CancelledError):
        leaving.result(WAIT_S)
    assert site.device.waiting == 0
    for _ in range(SLICES):
        site.segmenter.step()
    assert propagating.result(WAIT_S).result.propagated
    assert site.click(3).result(WAIT_S).result.present


def test_what_is_measured_tells_how_much_and_of_nobody(readers, slow) -> None:
    site = readers(at_once=1, max_waiting=0)
    asked = site.ask(7, "secret question", propagate=True)
    eventually(lambda: slow.at_once == ["secret question"])
    with pytest.raises(ServerBusyError):
        site.ask(8, "too much").result(WAIT_S)
    slow.let_all_go()
    asked.result(WAIT_S)
    site.click(9).result(WAIT_S)
    told = site.measures.registry.get_sample_value
    counts = {
        stage: told("medreasoner_stage_seconds_count", {"stage": stage})
        for stage in ("reasoner", "search", "segmenter", "propagation", "record")
    }
    # The last turn of a propagation finds that no slice is left.
    assert counts == {
        "reasoner": 1, "search": None, "segmenter": 2, "propagation": SLICES, "record": 2,
    }  # fmt: skip
    present = {"outcome": "present"}
    assert told("medreasoner_answers_total", {"kind": "ask"} | present) == 1
    assert told("medreasoner_answers_total", {"kind": "segment"} | present) == 1
    assert told("medreasoner_faults_total", {"kind": "ServerBusyError"}) == 1
    assert told("medreasoner_wait_seconds_count", {"stage": "question"}) == 1
    text = generate_latest(site.measures.registry).decode()
    assert not any(word in text for word in ("secret", "too much", "reader-", "image-", ".nii"))
