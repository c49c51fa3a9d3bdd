# SPDX-License-Identifier: Apache-2.0
"""The line and the device: urgent work first, readers in turn, and who leaves frees the place."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import eventually

from medreasoner_infer.errors import CancelledError
from medreasoner_infer.hooks import Work
from monailabel_app.errors import ServerBusyError
from monailabel_app.inference.device import Device
from monailabel_app.inference.line import MOST_PASSED, Line
from monailabel_app.inference.measures import Measures

WAIT_S = 20


class Queueing:
    """Lets readers queue one after the other while a place is held; notes who comes in when."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.order: list[Hashable] = []
        self._threads: list[threading.Thread] = []

    def queue(self, reader: Hashable, urgency: int = 0, name: Hashable = None) -> None:
        def work() -> None:
            with self.line.place(reader, urgency):
                self.order.append(reader if name is None else name)

        before = self.line.waiting
        self._threads.append(threading.Thread(target=work, daemon=True))
        self._threads[-1].start()
        eventually(lambda: self.line.waiting == before + 1)

    def done(self) -> list[Hashable]:
        for thread in self._threads:
            thread.join(WAIT_S)
        return self.order


def test_among_equals_who_came_first_is_first() -> None:
    line = Line()
    queueing = Queueing(line)
    with line.place("holder"):
        for number in range(5):
            queueing.queue(number)
    assert queueing.done() == [0, 1, 2, 3, 4]


def test_a_reader_who_asks_for_much_waits_for_their_own_work() -> None:
    line = Line()
    queueing = Queueing(line)
    with line.place("holder"):
        for number in range(4):
            queueing.queue("much", name=f"much {number}")
        queueing.queue("ann")
        queueing.queue("bob")
    assert queueing.done() == ["much 0", "ann", "bob", "much 1", "much 2", "much 3"]


def test_who_holds_places_yields_to_who_holds_none() -> None:
    line = Line(limit=2)
    queueing = Queueing(line)
    line.enter("ann")
    with line.place("bob"):
        pass  # so that it is longer ago that ann was admitted
    with line.place("eve"):
        queueing.queue("ann")
        queueing.queue("bob")
    assert queueing.done() == ["bob", "ann"]


def test_what_is_urgent_goes_first_and_what_waits_is_never_starved() -> None:
    line = Line()
    queueing = Queueing(line)
    with line.place("holder"):
        queueing.queue("patient", urgency=3)
        for number in range(MOST_PASSED + 3):
            queueing.queue(f"urgent {number}", urgency=0)
    order = queueing.done()
    assert order.index("patient") == MOST_PASSED


@given(limit=st.integers(1, 4), readers=st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_no_more_than_the_limit_are_in_and_each_comes_in(limit: int, readers: list[str]) -> None:
    line, inside, most = Line(limit), [], []

    def work(reader: str) -> str:
        with line.place(reader):
            inside.append(reader)
            most.append(len(inside))
            inside.remove(reader)
        return reader

    with ThreadPoolExecutor(len(readers)) as pool:
        assert list(pool.map(work, readers)) == readers
    assert max(most) <= limit
    assert (line.held, line.waiting) == (0, 0)


def test_a_full_line_refuses_and_recovers() -> None:
    line = Line(max_waiting=1)
    queueing = Queueing(line)
    with line.place("ann"):
        queueing.queue("bob")
        with pytest.raises(ServerBusyError, match="1 questions are waiting"), line.place("eve"):
            pass
    assert queueing.done() == ["bob"]
    with line.place("eve"):
        pass


def test_who_leaves_the_line_frees_the_place() -> None:
    line, left = Line(max_waiting=1), threading.Event()
    with line.place("ann"), ThreadPoolExecutor() as pool:
        waiting = pool.submit(line.enter, "bob", 0, left.is_set)
        eventually(lambda: line.waiting == 1)
        left.set()
        with pytest.raises(CancelledError):
            waiting.result(WAIT_S)
        assert line.waiting == 0
    assert line.held == 0


def test_who_is_admitted_while_leaving_gives_the_place_to_the_next() -> None:
    line = Line()
    line.enter("ann")

    def left() -> bool:
        line.leave("ann")  # so that the place falls to who is about to leave
        return True

    with pytest.raises(CancelledError):
        line.enter("bob", cancelled=left)
    assert (line.held, line.waiting) == (0, 0)


def test_a_fault_inside_frees_the_place() -> None:
    line = Line(max_waiting=0)
    with pytest.raises(KeyError), line.place("ann"):
        raise KeyError("fault")
    with line.place("ann"):
        pass


# --- the device ----------------------------------------------------------------------------------


class Working:
    """Pieces of work on a device, each in a thread of its own and as long as the test wants."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.order: list[str] = []
        self._pool = ThreadPoolExecutor(16)
        self._ends: dict[str, threading.Event] = {}

    def begin(self, name: str, work: Work, reader: str | None = None, cancelled=None) -> Future:
        """Queue a piece of work; it lasts until :meth:`end`, polling all the while."""
        end = self._ends[name] = threading.Event()
        before, count = self.device.waiting, len(self.order)

        def run() -> None:
            with self.device.turns_of(reader or name, cancelled)(work) as poll:
                self.order.append(name)
                while not end.wait(0.005):
                    if poll is not None and poll():
                        raise CancelledError("left")

        future = self._pool.submit(run)
        eventually(lambda: self.device.waiting > before or len(self.order) > count)
        return future

    def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()

    def end_all(self, *futures: Future) -> None:
        self.end(*self._ends)
        wait(futures, WAIT_S)
        for future in futures:
            future.result(0)


def test_a_mask_goes_before_answers_and_these_before_searches_and_propagations() -> None:
    working = Working(Device(Measures()))
    begun = [
        working.begin("held", Work.PROPAGATION),
        working.begin("propagation", Work.PROPAGATION),
        working.begin("answer", Work.ANSWER),
        working.begin("mask", Work.SLICE),
    ]
    assert working.order == ["held"]
    working.end_all(*begun)
    assert working.order == ["held", "mask", "answer", "propagation"]


@pytest.mark.parametrize("work", [Work.ANSWER, Work.SEARCH])
def test_a_mask_is_made_while_a_reasoner_writes_and_nothing_else_is(work: Work) -> None:
    working = Working(Device(Measures()))
    writing = working.begin("writing", work)
    others = [
        working.begin("answer", Work.ANSWER),
        working.begin("propagation", Work.PROPAGATION),
    ]
    mask = working.begin("mask", Work.SLICE)
    working.end("mask")
    mask.result(WAIT_S)
    assert working.order == ["writing", "mask"], "the reasoner has gone on by itself"
    assert not writing.done()
    working.end_all(writing, *others)


def test_two_propagations_take_turns_slice_by_slice() -> None:
    device, order = Device(Measures()), []
    barrier = threading.Barrier(2)

    def propagate(reader: str) -> None:
        turn = device.turns_of(reader, None)
        barrier.wait(WAIT_S)
        for _ in range(20):
            with turn(Work.PROPAGATION):
                order.append(reader)
                # Held until the other one waits, or has had its last turn.
                eventually(lambda: device.waiting == 1 or order.count(reader) == 20)

    with ThreadPoolExecutor() as pool:
        list(pool.map(propagate, "ab"))
    assert "".join(order) in ("ab" * 20, "ba" * 20)


def test_a_remote_reasoner_takes_no_turn() -> None:
    working = Working(Device(Measures(), reasons=False))
    begun = [working.begin(f"{n}", work) for n, work in enumerate([Work.ANSWER, Work.SEARCH] * 3)]
    begun.append(working.begin("mask", Work.SLICE))
    assert working.order == ["0", "1", "2", "3", "4", "5", "mask"]
    working.end_all(*begun)


@pytest.mark.parametrize("work", Work)
def test_who_leaves_while_waiting_for_the_device_frees_the_place(work: Work) -> None:
    working, left = Working(Device(Measures())), threading.Event()
    held = working.begin("held", Work.ANSWER, cancelled=lambda: False)
    # A mask would be let pass while the reasoner is asked whether its reader has left.
    working.begin("mask", Work.SLICE)
    leaving = working.begin("leaving", work, cancelled=left.is_set)
    left.set()
    with pytest.raises(CancelledError):
        leaving.result(WAIT_S)
    working.end_all(held)
    assert working.device.waiting == 0
    after = working.begin("after", work)
    working.end_all(after)
    assert "leaving" not in working.order
