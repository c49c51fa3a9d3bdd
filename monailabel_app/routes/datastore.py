# SPDX-License-Identifier: Apache-2.0
"""Submitting a label, adding and downloading an image, off the event loop and with typed errors.

MONAI Label does this inside its event loop, where writing a DICOM segmentation or fetching a
series from the PACS stops everything else.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from fastapi.background import BackgroundTasks

from medreasoner_infer.errors import InputError
from monailabel_app.app import MedReasonerApp
from monailabel_app.errors import ConflictError
from monailabel_app.framework import (
    RBAC,
    RBAC_ANNOTATOR,
    RBAC_USER,
    DefaultLabelTag,
    User,
    add_image,
    app_instance,
    download_image,
    save_label,
    settings,
)
from monailabel_app.routes.inputs import parse_params
from monailabel_app.routes.readers import reader_of, signed
from monailabel_app.routes.typed_errors import TypedErrorRoute

router = APIRouter(prefix="/datastore", tags=["Datastore"], route_class=TypedErrorRoute)

_NAME = re.compile(r"[\w-][\w. -]*")

Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]


@router.put("/label", summary=f"{RBAC_ANNOTATOR}Submit a label")
def submit_label(
    background_tasks: BackgroundTasks,
    user: Annotator,
    image: str,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = DefaultLabelTag.FINAL.value,
) -> dict[str, Any]:
    """Save the label as MONAI Label does; the reply tells which inference it was joined to."""
    params = signed(parse_params(params), reader_of(user))
    instance: MedReasonerApp = app_instance()
    with instance.submitting:
        reply: dict[str, Any] = save_label(
            background_tasks, image, params, tag, label, user.username
        )
    return reply


@router.put("/", include_in_schema=False)
@router.put("/image", summary=f"{RBAC_ANNOTATOR}Upload new Image")
def put_image(
    background_tasks: BackgroundTasks,
    user: Annotator,
    file: Annotated[UploadFile, File()],
    image: str = "",
    params: Annotated[str, Form()] = "{}",
) -> dict[str, Any]:
    """Add an image; an id that is taken is refused, as MONAI Label would replace its file."""
    parse_params(params)
    instance: MedReasonerApp = app_instance()
    with instance.submitting:
        store = instance.datastore()
        image_id = image or _id_of(file.filename)
        if not _NAME.fullmatch(image_id):
            raise InputError(
                "The image's name cannot be used; expected letters, digits, '.', '-' and '_' only."
            )
        if image_id in store.list_images():
            raise ConflictError("The studies hold an image of this id already; choose another.")
        reply: dict[str, Any] = add_image(background_tasks, image_id, params, file, user.username)
    return reply


@router.get("/image", summary=f"{RBAC_USER}Download an image")
def get_image(user: Reader, image: str) -> Any:
    """The image as viewers read it; a DICOM series comes as NIfTI."""
    instance: MedReasonerApp = app_instance()
    instance.image_source(image)
    return download_image(image)


def _id_of(filename: str | None) -> str:
    name = PurePath(filename or "").name
    return name.removesuffix("".join(PurePath(name).suffixes))
