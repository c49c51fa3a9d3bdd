# SPDX-License-Identifier: Apache-2.0
"""``/batch/infer``: one question asked of all images, opened by ``MEDREASONER_ADMIN_ROUTES=1``.

MONAI Label starts a process for it, with the question on its command line and a path of the
caller's on its ``PYTHONPATH``; here it is a thread of the server.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Body

from medreasoner_infer.errors import InputError
from monailabel_app.common.door import Name
from monailabel_app.framework import DefaultLabelTag
from monailabel_app.inference.batch import Batch
from monailabel_app.inference.params import InferBody, InferParams
from monailabel_app.web.routes.callers import MayAdminister, MayRead
from monailabel_app.web.routes.infer import require_model
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

router = APIRouter(prefix="/batch/infer", tags=["Infer"], route_class=TypedErrorRoute)


class Images(str, Enum):
    """Which images a batch asks."""

    ALL = "all"
    LABELED = "labeled"
    UNLABELED = "unlabeled"


@router.get("", summary="Get Status of Batch Inference Task")
def get_status(
    caller: MayRead, app: App, all: bool = False, check_if_running: bool = False
) -> dict[str, Any]:
    """What the latest batch does."""
    return app.batch.status()


@router.post("/{model}", summary="Run Batch Inference Task")
def start(
    caller: MayAdminister,
    app: App,
    model: Name,
    images: Images = Images.ALL,
    params: Annotated[InferBody | None, Body()] = None,
    run_sync: bool = False,
) -> dict[str, Any]:
    """Ask of each image in turn, and keep each mask as a label of the tag ``original``."""
    if run_sync:
        raise InputError("A batch takes long and never answers in the request; omit 'run_sync'.")
    require_model(app, model)
    store = app.site.studies
    found = {
        Images.ALL: store.list_images,
        Images.LABELED: store.get_labeled_images,
        Images.UNLABELED: store.get_unlabeled_images,
    }[images]()
    asked = InferParams.of(params or InferBody())
    batch = Batch(model, sorted(found), asked, DefaultLabelTag.ORIGINAL.value, caller.name)
    return app.batch.start(batch)


@router.delete("", summary="Stop Batch Inference Task")
def stop(caller: MayAdminister, app: App) -> dict[str, Any]:
    """Stop at the next step; what was answered is kept."""
    return app.batch.stop()
