# SPDX-License-Identifier: Apache-2.0
"""``GET /medreasoner/inferences``: what was asked, answered and submitted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse

from monailabel_app.app import MedReasonerApp
from monailabel_app.errors import UnknownRecordError
from monailabel_app.framework import RBAC, RBAC_USER, User, app_instance, settings
from monailabel_app.routes.typed_errors import TypedErrorRoute
from monailabel_app.store import RecordStore

MAX_LISTED = 1000

router = APIRouter(
    prefix="/medreasoner/inferences", tags=["MedReasoner"], route_class=TypedErrorRoute
)


def _records() -> RecordStore:
    instance: MedReasonerApp = app_instance()
    return instance.service.records


Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Records = Annotated[RecordStore, Depends(_records)]


@router.get("", summary=f"{RBAC_USER}Inferences on an image, the latest first")
def list_inferences(
    user: Reader,
    records: Records,
    image: str,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
) -> list[dict[str, Any]]:
    """Every inference on ``image`` with the labels that were joined to it."""
    return [record.to_dict() for record in records.list_for_image(image, limit)]


@router.get("/{inference_id}", summary=f"{RBAC_USER}One inference")
def get_inference(user: Reader, records: Records, inference_id: str) -> dict[str, Any]:
    """One inference with the labels that were joined to it."""
    return records.get(inference_id).to_dict()


@router.get("/{inference_id}/mask", summary=f"{RBAC_USER}The mask of an inference")
def get_mask(user: Reader, records: Records, inference_id: str) -> FileResponse:
    """The mask as it was inferred, NIfTI on the image's grid; 404 once retention dropped it."""
    path = records.get(inference_id).mask_file
    if path is None:
        raise UnknownRecordError("The mask of this inference is not kept any more; ask again.")
    return FileResponse(path, media_type="application/gzip", filename=path.name)
