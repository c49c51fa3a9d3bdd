# SPDX-License-Identifier: Apache-2.0
"""``/train``: MONAI Label's routes, with typed refusals and a stop that keeps the checkpoint.

MONAI Label itself knows only of the process that it started last, and ends it by SIGKILL.
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends

from medreasoner_infer.errors import InputError
from monailabel_app.app import MedReasonerApp
from monailabel_app.door import Name
from monailabel_app.errors import ConflictError, UnknownTaskError
from monailabel_app.framework import (
    AsyncTask,
    app_instance,
    task_processes,
)
from monailabel_app.routes.callers import Caller, require
from monailabel_app.routes.typed_errors import TypedErrorRoute
from monailabel_app.security.roles import Action
from monailabel_app.tasks import ASK_TASK
from monailabel_app.training.errors import NothingTrainsError
from monailabel_app.training.lock import running_error
from monailabel_app.training.stopping import stop_training
from monailabel_app.training.task import ReasonerTrainTask

METHOD = "train"
RUNNING, STOPPED = "RUNNING", "STOPPED"
_END_S, _POLL_S = 30.0, 0.2

router = APIRouter(prefix="/train", tags=["Train"], route_class=TypedErrorRoute)

Reader = Annotated[Caller, Depends(require(Action.READ))]
Trainer = Annotated[Caller, Depends(require(Action.TRAIN))]
Options = Annotated[dict[str, Any] | None, Body()]


@router.get("/", summary="Get Status of Training Task")
def get_status(caller: Reader, all: bool = False, check_if_running: bool = False) -> Any:
    """As MONAI Label answers; also of a training that another process started."""
    found, _ = AsyncTask.status(METHOD, all, check_if_running)
    if found is not None:
        return found
    task = _task(ASK_TASK)
    holder = task.training.folder.lock.holder()
    if holder is None:
        raise NothingTrainsError("No training runs, and none was started since the server was.")
    told = task.stats()
    return {"id": holder.folder.name, "status": RUNNING, "request": {}, "details": [told["line"]]}


@router.post("/", summary="Run All Training Tasks", include_in_schema=False)
def run_all(caller: Trainer, params: Options = None, run_sync: bool = False) -> Any:
    """What OHIF posts: options by the name of the model."""
    options = (params or {}).get(ASK_TASK, {})
    if not isinstance(options, dict):
        raise InputError(f"{ASK_TASK!r} is no object; expected the options of its training.")
    return {ASK_TASK: {"result": _start(ASK_TASK, options, run_sync), "detail": None}}


@router.post("/{model}", summary="Run Training Task for specific model")
def run_model(caller: Trainer, model: Name, params: Options = None, run_sync: bool = False) -> Any:
    """Start a training; refused with 409 while one runs, whoever started it."""
    return _start(model, params or {}, run_sync)


@router.delete("/", summary="Stop Training Task")
def stop(caller: Trainer) -> Any:
    """Stop what trains, with a checkpoint, also if a killed server left it behind."""
    ours, _ = AsyncTask.status(METHOD, check_if_running=True)
    if ours is not None:
        ours["status"] = STOPPED
    folder = _task(ASK_TASK).training.folder
    if folder.lock.holder() is None and ours is not None:
        # Its process still builds the app, so that there is nothing to lose yet.
        return AsyncTask.stop(METHOD) or ours
    stop_training(folder)
    _await_end()
    return ours or {"id": None, "status": STOPPED, "request": {}, "details": []}


def _await_end() -> None:
    """Until MONAI Label's process is gone too, so that the next start finds nothing running."""
    deadline = time.monotonic() + _END_S
    while task_processes(METHOD) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _start(model: str, options: dict[str, Any], run_sync: bool) -> Any:
    if run_sync:
        raise InputError("Training takes long and never answers in the request; omit 'run_sync'.")
    task = _task(model)
    task.options(options)
    holder = task.training.folder.lock.holder()
    if holder is not None:
        raise running_error(holder)
    started, _ = AsyncTask.run(METHOD, request={"model": model}, params=options)
    if started is None:
        pids = ", ".join(str(process.pid) for process in task_processes(METHOD).values())
        raise ConflictError(f"A training is being started already (process {pids}).")
    return started


def _task(model: str) -> ReasonerTrainTask:
    instance: MedReasonerApp = app_instance()
    task = instance._trainers.get(model)
    if not isinstance(task, ReasonerTrainTask):
        raise UnknownTaskError(f"Nothing of this name can be trained; expected {ASK_TASK}.")
    return task
