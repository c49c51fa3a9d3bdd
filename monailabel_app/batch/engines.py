# SPDX-License-Identifier: Apache-2.0
"""Where the work is done: processes of this machine, or a Ray cluster."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, Protocol, TypeVar

from monailabel_app.batch.errors import BatchProcessError
from monailabel_app.batch.work import WorkerSettings
from monailabel_app.common.extras import needs_extra

_Task = TypeVar("_Task")
_Told = TypeVar("_Told")
LOCAL = "local"
_LOOPBACK = "127.0.0.1"


class Engine(Protocol):
    """Processes that live from ``__enter__`` to ``__exit__``."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *fault: object) -> None: ...

    def map(
        self, work: Callable[[WorkerSettings, _Task], _Told], tasks: Iterable[_Task]
    ) -> Iterator[tuple[_Task, _Told | None]]:
        """Do the work of each task; what is ready first comes first.

        A task is taken once a process is free for it. ``None`` is told of a task whose process has
        ended in the middle of it; others may have been lost with it.
        """


class Processes:
    """Processes of this machine.

    Args:
        settings: of each.
        count: how many.
    """

    def __init__(self, settings: WorkerSettings, count: int) -> None:
        self._settings, self._count = settings, count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *fault: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(
        self, work: Callable[[WorkerSettings, _Task], _Told], tasks: Iterable[_Task]
    ) -> Iterator[tuple[_Task, _Told | None]]:
        """As :meth:`Engine.map`; processes that have ended are replaced."""
        waiting = iter(tasks)
        running: dict[Future[_Told], _Task] = {}
        while True:
            for task in islice(waiting, self._count - len(running)):
                running[self._submit(work, task)] = task
            if not running:
                return
            wait(running, return_when=FIRST_COMPLETED)
            for future in [each for each in running if each.done()]:
                yield running.pop(future), self._told(future)

    def _told(self, future: Future[_Told]) -> _Told | None:
        try:
            return future.result()
        except BrokenProcessPool:
            self._pool = None
            return None

    def _submit(self, work: Callable[[WorkerSettings, _Task], _Told], task: _Task) -> Future[_Told]:
        if self._pool is None:
            # A fork would copy the threads' locks of what is loaded here.
            self._pool = ProcessPoolExecutor(
                self._count, mp_context=get_context("spawn"), initializer=_begin
            )
        try:
            return self._pool.submit(work, self._settings, task)
        except BrokenProcessPool:
            self._pool = None
            return self._submit(work, task)


def _begin() -> None:
    """Leave the interrupt key to the process that began this one, and end when that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None  # nosec B101 # for type checkers

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


class Ray:
    """A Ray cluster, or an instance of Ray on this machine that nobody else reaches.

    Args:
        settings: of each process; folders must be reachable under the same names on all machines.
        address: of the cluster, ``local`` for an instance of its own.
        count: processes at a time; ``None`` for as many as the cluster has cores, or graphics cards
            where the models may use them.

    Raises:
        MissingExtraError: Ray is not installed.
        BatchProcessError: an instance of its own would listen to other machines.
    """

    def __init__(self, settings: WorkerSettings, address: str, count: int | None) -> None:
        # Both are read when Ray is imported: nothing about a site goes to its makers, and an
        # instance of its own listens on this machine alone, as where Ray knows no clusters.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if address == LOCAL:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        with needs_extra("ray", "ray"):
            import ray
        self._ray: Any = ray
        self._settings, self._address, self._count = settings, address, count

    def __enter__(self) -> Ray:
        own = {"num_cpus": self._count, "include_dashboard": False}
        self._ray.init(
            self._address,
            log_to_driver=False,
            logging_level="ERROR",
            **(own if self._address == LOCAL else {}),
        )
        if self._address == LOCAL and self._ray.util.get_node_ip_address() != _LOOPBACK:
            self._ray.shutdown()
            raise BatchProcessError(
                "This Ray would listen to other machines. Take --processes, or a cluster of your "
                "own by its address."
            )
        return self

    def __exit__(self, *fault: object) -> None:
        self._ray.shutdown()

    def map(
        self, work: Callable[[WorkerSettings, _Task], _Told], tasks: Iterable[_Task]
    ) -> Iterator[tuple[_Task, _Told | None]]:
        """As :meth:`Engine.map`; Ray replaces processes that have ended."""
        remote, count = self._remote(work)
        waiting = iter(tasks)
        running: dict[Any, _Task] = {}
        while True:
            for task in islice(waiting, count - len(running)):
                running[remote.remote(self._settings, task)] = task
            if not running:
                return
            (ready,), _ = self._ray.wait(list(running), num_returns=1)
            yield running.pop(ready), self._told(ready)

    def _remote(self, work: Callable[..., Any]) -> tuple[Any, int]:
        """The work as Ray's, on a core or a card of its own, and how much is done at a time."""
        found = self._ray.cluster_resources()
        cards = 0 if self._settings.device == "cpu" else int(found.get("GPU", 0))
        places = cards or int(found.get("CPU", 1))
        # A task that was begun may have been recorded, so that it is not Ray who begins it again.
        options = {"num_cpus": 1, "num_gpus": 1 if cards else 0, "max_retries": 0}

        def call(settings: WorkerSettings, task: Any) -> Any:
            return work(settings, task)

        return self._ray.remote(**options)(call), min(self._count or places, places)

    def _told(self, ready: Any) -> Any:
        faults = self._ray.exceptions
        try:
            return self._ray.get(ready)
        except (faults.WorkerCrashedError, faults.OutOfMemoryError, faults.NodeDiedError):
            return None
        except faults.RayTaskError as error:
            raise error.cause from error
