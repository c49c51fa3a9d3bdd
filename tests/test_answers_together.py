# SPDX-License-Identifier: Apache-2.0
"""Questions of several readers as one batch: each gets their own answer, fault, text and leave.

The reasoner here writes what it was asked, one word at a time and when the test says so; the thread
in which models compute, the line and the device are the real ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar

import numpy as np
import pytest
from support.waiting import eventually

from medreasoner_infer.errors import CancelledError, InputError
from medreasoner_infer.hooks import Hooks, Question, Work
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.types import Grounding, ModelIdentity, ReasonerAnswer, ReasonerRequest
from monailabel_app.inference.compute_thread import ComputeThread
from monailabel_app.inference.device import Device
from monailabel_app.inference.measures import Measures

WAIT_S = 20
WORDS = 4


class Writing(Reasoner):
    """Repeats each question ``WORDS`` times, a word a step, and polls until the test lets it go on.

    Attributes:
        batches: the questions of each batch, in the order of its rows.
        may_end: so many of the first batches may come to their end.
        fails: a question that is refused.
        breaks: a question for which a whole batch breaks behind its first word, as of a bug.
    """

    identity = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")
    input_size = 8
    image_encoding = "rgb"

    def __init__(self, most_together: int = 8) -> None:
        self.most_together = most_together
        self.batches: list[list[str]] = []
        self.threads: set[threading.Thread] = set()
        self.may_end = 0
        self.fails = self.breaks = ""

    def let_all_go(self) -> None:
        self.may_end = 1000

    def _sample(self, request, count, on_text, cancelled):
        raise AssertionError("a question was not put to answer_each")

    def answer_each(self, questions, *, between=None):
        self.threads.add(threading.current_thread())
        number = len(self.batches)
        self.batches.append([question.request.query for question in questions])
        left: set[int] = set()
        for word in range(WORDS):
            for row, question in enumerate(questions):
                if row not in left and question.on_text is not None:
                    question.on_text(f"{question.request.query} {word};")
                if question.cancelled is not None and question.cancelled():
                    left.add(row)
            if self.breaks in self.batches[-1]:
                raise ZeroDivisionError(self.breaks)
            while True:
                between()
                if self.may_end > number:
                    break
                time.sleep(0.002)
        return tuple(
            CancelledError("left") if row in left else self._answer(question)
            for row, question in enumerate(questions)
        )

    def _answer(self, question: Question):
        query = question.request.query
        if query == self.fails:
            return InputError(f"{query} is refused")
        return ReasonerAnswer(query, Grounding("seen", None, None), None, WORDS)


class Readers:
    """Readers who ask at a device, in threads of their own."""

    def __init__(self) -> None:
        self.measures = Measures()
        self.device = Device(self.measures, thread=ComputeThread())
        self.told: dict[str, str] = {}
        self._pool = ThreadPoolExecutor(32)

    def ask(self, reasoner: Reasoner, query: str, reader: str | None = None, cancelled=None):
        """Ask, and wait until the question stands in the line or is worked at."""
        before = self.device.waiting

        def on_text(piece: str) -> None:
            self.told[query] = self.told.get(query, "") + piece

        hooks = self.device.hooks_of(reader or query, Hooks(text=on_text, cancelled=cancelled))
        asked = self._pool.submit(hooks.answer, reasoner, request_of(query))
        eventually(lambda: self.device.waiting > before or query in self.told or asked.done())
        return asked

    def work(self, work: Work, piece: Callable[[], object], reader: str = "other") -> Future:
        hooks = self.device.hooks_of(reader, Hooks())
        return self._pool.submit(hooks.compute, work, lambda _: piece())

    def close(self) -> None:
        self._pool.shutdown()


def request_of(query: str) -> ReasonerRequest:
    return ReasonerRequest(np.zeros((8, 8, 3), np.uint8), query, query)


def whole(query: str) -> str:
    return "".join(f"{query} {word};" for word in range(WORDS))


@pytest.fixture
def reasoner() -> Iterator[Writing]:
    writing = Writing()
    yield writing
    writing.let_all_go()


@pytest.fixture
def readers(reasoner) -> Iterator[Readers]:
    made = Readers()
    yield made
    reasoner.let_all_go()
    made.close()


def test_what_waits_is_one_batch_and_each_reader_gets_their_own_answer(readers, reasoner) -> None:
    asked = {f"question {n}": None for n in range(7)}
    for query in asked:
        asked[query] = readers.ask(reasoner, query)
    reasoner.let_all_go()
    for query, future in asked.items():
        assert future.result(WAIT_S).completion == query
        assert readers.told[query] == whole(query)
    first, *others = asked
    assert reasoner.batches == [[first], others]
    count = readers.measures.registry.get_sample_value
    assert count("medreasoner_stage_seconds_count", {"stage": "reasoner"}) == len(asked)
    assert count("medreasoner_wait_seconds_count", {"stage": "reasoner"}) == len(asked)
    assert readers.device.waiting == 0


def test_no_batch_is_larger_than_the_engine_takes_and_readers_take_turns_in_it(readers) -> None:
    small = Writing(most_together=3)
    asked = [readers.ask(small, "first", "ann")]
    asked += [readers.ask(small, f"much {n}", "ann") for n in range(3)]
    asked += [readers.ask(small, query, query) for query in ("bob", "eve")]
    small.let_all_go()
    for future in asked:
        future.result(WAIT_S)
    assert [sorted(batch) for batch in small.batches] == [
        ["first"], ["bob", "eve", "much 0"], ["much 1", "much 2"],
    ]  # fmt: skip


def test_questions_to_another_model_are_another_batch(readers, reasoner) -> None:
    other = Writing()
    other.let_all_go()
    asked = [readers.ask(reasoner, "held")]
    asked += [readers.ask(to, f"{n}") for n, to in enumerate([reasoner, other, reasoner, other])]
    reasoner.let_all_go()
    assert [future.result(WAIT_S).completion for future in asked] == ["held", "0", "1", "2", "3"]
    assert reasoner.batches == [["held"], ["0", "2"]]
    assert other.batches == [["1", "3"]]


def test_a_question_that_is_refused_fails_no_other(readers, reasoner) -> None:
    reasoner.fails = "bad"
    held = readers.ask(reasoner, "held")
    asked = [readers.ask(reasoner, query) for query in ("one", "bad", "two")]
    reasoner.let_all_go()
    one, bad, two = asked
    with pytest.raises(InputError, match="bad is refused"):
        bad.result(WAIT_S)
    assert [future.result(WAIT_S).completion for future in (held, one, two)] == [
        "held", "one", "two",
    ]  # fmt: skip


def test_a_bug_in_one_question_is_that_readers_alone_and_no_text_is_told_twice(
    readers, reasoner
) -> None:
    reasoner.breaks = "broken"
    held = readers.ask(reasoner, "held")
    one, broken, two = [readers.ask(reasoner, query) for query in ("one", "broken", "two")]
    reasoner.let_all_go()
    with pytest.raises(ZeroDivisionError):
        broken.result(WAIT_S)
    for query, future in (("held", held), ("one", one), ("two", two)):
        assert future.result(WAIT_S).completion == query
        assert readers.told[query] == whole(query)


@pytest.mark.parametrize("leaver", range(4))
def test_who_leaves_while_it_is_written_keeps_nobody(readers, reasoner, leaver: int) -> None:
    """The first is a batch of its own; of the others the first does the work for all three."""
    left = [threading.Event() for _ in range(4)]
    asked = [
        readers.ask(reasoner, f"question {number}", cancelled=gone.is_set)
        for number, gone in enumerate(left)
    ]
    if leaver:
        reasoner.may_end = 1
        eventually(lambda: len(readers.told) == 4)
    left[leaver].set()
    reasoner.let_all_go()
    with pytest.raises(CancelledError):
        asked[leaver].result(WAIT_S)
    for number, future in enumerate(asked):
        if number != leaver:
            assert future.result(WAIT_S).completion == f"question {number}"
    assert reasoner.batches == [["question 0"], ["question 1", "question 2", "question 3"]]
    assert readers.device.waiting == 0
    assert readers.ask(reasoner, "after").result(WAIT_S).completion == "after"


def test_a_mask_is_made_in_the_same_thread_while_a_batch_is_written(readers, reasoner) -> None:
    asked = readers.ask(reasoner, "held")
    made = readers.work(Work.SLICE, threading.current_thread)
    assert {made.result(WAIT_S)} == reasoner.threads
    assert not asked.done()
    propagation = readers.work(Work.PROPAGATION, threading.current_thread)
    eventually(lambda: readers.device.waiting == 1)
    reasoner.let_all_go()
    assert asked.result(WAIT_S).completion == "held"
    assert {propagation.result(WAIT_S)} == reasoner.threads


def test_all_work_of_all_readers_is_in_one_thread_with_the_context_of_its_caller() -> None:
    thread, said = ComputeThread(), ContextVar("said", default="nothing")
    inside = thread.run(threading.current_thread)

    def look() -> tuple[str, threading.Thread]:
        return said.get(), thread.run(threading.current_thread)

    def ask(word: str) -> tuple[str, threading.Thread]:
        said.set(word)
        return thread.run(look)

    with ThreadPoolExecutor(8) as pool:
        words = [f"word {n}" for n in range(40)]
        assert list(pool.map(ask, words)) == [(word, inside) for word in words]
    assert inside is not threading.current_thread()


def test_a_fault_in_the_thread_is_its_callers_and_the_thread_lives_on() -> None:
    thread = ComputeThread()
    with pytest.raises(ZeroDivisionError):
        thread.run(lambda: 1 / 0)
    assert thread.run(lambda: "well") == "well"


def test_a_remote_reasoners_questions_are_asked_beside_each_other_in_their_own_threads() -> None:
    readers, barrier = Readers(), threading.Barrier(3)
    readers.device = Device(readers.measures, reasons=False, thread=ComputeThread())

    class Remote(Writing):
        def answer(self, request, *, on_text=None, cancelled=None):
            barrier.wait(WAIT_S)
            return (self._answer(Question(request)),)

    remote = Remote()
    hooks = [readers.device.hooks_of(f"{n}", Hooks()) for n in range(3)]
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(h.answer, remote, request_of(f"{n}")) for n, h in enumerate(hooks)]
        assert [future.result(WAIT_S).completion for future in asked] == ["0", "1", "2"]
    readers.close()


def test_the_models_are_loaded_in_the_thread_in_which_they_compute(tmp_path) -> None:
    pytest.importorskip("monailabel")
    from medreasoner_infer.pipeline import Pipeline
    from monailabel_app.images.volumes import VolumeCache
    from monailabel_app.inference.service import AnsweringService
    from monailabel_app.store import RecordStore

    loaded: list[threading.Thread] = []
    pipeline = Pipeline(
        lambda: loaded.append(threading.current_thread()) or Writing(),
        lambda: loaded.append(threading.current_thread()) or Writing(),
    )
    readers, records = Readers(), RecordStore(tmp_path)
    AnsweringService(
        pipeline, VolumeCache(1 << 20), records, readers.device, 1, 1, readers.measures
    ).load()
    computing = readers.work(Work.PROPAGATION, threading.current_thread).result(WAIT_S)
    assert loaded == [computing, computing]
    records.close()
    readers.close()
