# SPDX-License-Identifier: Apache-2.0
"""``/train``: MONAI Label's routes, with typed refusals and a stop that keeps the checkpoint.

MONAI Label itself would write the options on a command line, knows only of the process that it
started last, and ends that by SIGKILL.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body

from medreasoner_infer.errors import InputError
from monailabel_app.common.door import Name
from monailabel_app.errors import UnknownTaskError
from monailabel_app.inference.call import ASK_TASK
from monailabel_app.training.background import RUNNING, STOPPED
from monailabel_app.training.errors import NothingTrainsError
from monailabel_app.training.lock import running_error
from monailabel_app.training.stopping import stop_training
from monailabel_app.training.task import ReasonerTrainTask
from monailabel_app.web.routes.callers import MayRead, MayTrain
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App, Services

_END_S = 30.0

router = APIRouter(prefix="/train", tags=["Train"], route_class=TypedErrorRoute)

Options = Annotated[dict[str, Any] | None, Body()]


@router.get("/", summary="Get Status of Training Task")
def get_status(caller: MayRead, app: App, all: bool = False, check_if_running: bool = False) -> Any:
    """As MONAI Label answers; also of a training that another process started."""
    task = _task(app, ASK_TASK)
    ours = task.background.running if check_if_running else task.background.last
    if ours is not None:
        return [ours.to_dict()] if all else ours.to_dict()
    holder = task.training.folder.lock.holder()
    if holder is None:
        raise NothingTrainsError("No training runs, and none was started since the server was.")
    told = task.stats()
    return {"id": holder.folder.name, "status": RUNNING, "request": {}, "details": [told["line"]]}


@router.post("/", summary="Run All Training Tasks", include_in_schema=False)
def run_all(caller: MayTrain, app: App, params: Options = None, run_sync: bool = False) -> Any:
    """What OHIF posts: options by the name of the model."""
    options = (params or {}).get(ASK_TASK, {})
    if not isinstance(options, dict):
        raise InputError(f"{ASK_TASK!r} is no object; expected the options of its training.")
    return {ASK_TASK: {"result": _start(app, ASK_TASK, options, run_sync), "detail": None}}


@router.post("/{model}", summary="Run Training Task for specific model")
def run_model(
    caller: MayTrain, app: App, model: Name, params: Options = None, run_sync: bool = False
) -> Any:
    """Start a training; refused with 409 while one runs, whoever started it."""
    return _start(app, model, params or {}, run_sync)


@router.delete("/", summary="Stop Training Task")
def stop(caller: MayTrain, app: App) -> Any:
    """Stop what trains, with a checkpoint, also if a killed server left it behind."""
    task = _task(app, ASK_TASK)
    ours = task.background.running
    if ours is not None:
        ours.mark_stopped()
    folder = task.training.folder
    if folder.lock.holder() is None and ours is not None:
        # Its process still starts, so that there is nothing to lose yet.
        ours.kill()
    else:
        stop_training(folder)
    if ours is None:
        return {"id": None, "status": STOPPED, "request": {}, "details": []}
    # So that the next start finds nothing running.
    ours.wait(_END_S)
    return ours.to_dict()


def _start(app: Services, model: str, options: dict[str, Any], run_sync: bool) -> Any:
    if run_sync:
        raise InputError("Training takes long and never answers in the request; omit 'run_sync'.")
    task = _task(app, model)
    task.options(options)
    holder = task.training.folder.lock.holder()
    if holder is not None:
        raise running_error(holder)
    return task.background.start(options).to_dict()


def _task(app: Services, model: str) -> ReasonerTrainTask:
    task = app.trainers.get(model)
    if task is None:
        raise UnknownTaskError(f"Nothing of this name can be trained; expected {ASK_TASK}.")
    return task
