# SPDX-License-Identifier: Apache-2.0
"""``POST /infer/{model}``: MONAI Label's route, off the event loop and with typed errors."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.background import BackgroundTasks

from monailabel_app.answering import Cancelled
from monailabel_app.app import MedReasonerApp
from monailabel_app.dicom_seg import write_dicom_seg
from monailabel_app.fields import read_bool
from monailabel_app.framework import (
    RBAC,
    RBAC_USER,
    ResultType,
    User,
    app_instance,
    send_response,
    settings,
)
from monailabel_app.routes.inputs import (
    TemporaryFiles,
    parse_params,
    session_image,
    store_upload,
)
from monailabel_app.routes.serving import run_in_thread
from monailabel_app.routes.typed_errors import TypedErrorRoute, withhold
from monailabel_app.tasks import CALL_KEY, Call

router = APIRouter(tags=["Infer"], route_class=TypedErrorRoute)

Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]


@router.post("/infer/{model}", summary=f"{RBAC_USER}Run inference for a model")
async def infer_model(
    request: Request,
    background_tasks: BackgroundTasks,
    user: Reader,
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Answer as MONAI Label does; every error is JSON, ``{"detail": sentence}``.

    ``label`` is accepted for the sake of stock clients and not used.
    """
    values = parse_params(params)
    withhold(request, str(values.get("query") or ""))
    instance: MedReasonerApp = app_instance()

    def work(cancelled: Cancelled) -> Any:
        """Find the image, infer, and put the answer's files in order."""
        with TemporaryFiles(background_tasks) as temporary:
            if file is not None:
                source = store_upload(file, temporary)
            elif session_id:
                source = session_image(instance.sessions(), session_id)
            else:
                source = instance.image_source(image)
            wants_mask = output != ResultType.json or read_bool(values, "save_label") is True
            call = Call(source, cancelled, wants_mask)
            answer = instance.infer({**values, "model": model, CALL_KEY: call})
            if answer["file"] is not None:
                temporary.add(answer["file"])
            if output == ResultType.dicom_seg:
                seg = write_dicom_seg(answer["file"], source, values.get("label_info"))
                answer["dicom_seg"] = temporary.add(str(seg))
            return send_response(instance.datastore(), answer, output, background_tasks)

    return await run_in_thread(request, work)
