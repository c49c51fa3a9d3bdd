# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/inferences``: what was asked, answered, submitted, decided and sent."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel

from medreasoner_infer.errors import InputError
from monailabel_app.app import MedReasonerApp
from monailabel_app.errors import UnknownRecordError
from monailabel_app.framework import (
    RBAC,
    RBAC_ANNOTATOR,
    RBAC_USER,
    User,
    app_instance,
    settings,
)
from monailabel_app.routes.readers import reader_of
from monailabel_app.routes.typed_errors import TypedErrorRoute
from monailabel_app.store import Decision, Outcome, RecordStore

MAX_LISTED = 1000

router = APIRouter(
    prefix="/medreasoner/inferences", tags=["MedReasoner"], route_class=TypedErrorRoute
)


class StatedOutcome(BaseModel):
    """The body of a decision; a rejection says why."""

    outcome: Outcome
    reason: str | None = None


def _records() -> RecordStore:
    instance: MedReasonerApp = app_instance()
    return instance.service.records


Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Admin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]
Records = Annotated[RecordStore, Depends(_records)]


@router.get("", summary=f"{RBAC_USER}Inferences on an image or a study, the latest first")
def list_inferences(
    user: Reader,
    records: Records,
    image: str = "",
    study: str = "",
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
) -> list[dict[str, Any]]:
    """Every inference on ``image``, or on all images of ``study``, with labels and decision."""
    if bool(image) == bool(study):
        raise InputError("Name either an 'image' or a 'study', a Study Instance UID.")
    found = records.list_for_study(study)[:limit] if study else records.list_for_image(image, limit)
    return [record.to_dict() for record in found]


@router.get("/export", summary=f"{RBAC_USER}All that is recorded of a study, as JSON")
def export_study(user: Reader, records: Records, study: str) -> dict[str, Any]:
    """Records of a study with their labels, decisions, and what the archive has of them."""
    return {
        "study": study,
        "exported_at": datetime.now(timezone.utc).isoformat(),
        "inferences": [record.to_dict() for record in records.list_for_study(study)],
    }


@router.delete("", summary="Delete all that is recorded of a study")
def delete_study(user: Admin, records: Records, study: str) -> dict[str, int]:
    """Delete records, masks and labels kept here; what the PACS has of the study stays there."""
    deleted = records.delete_study(study)
    return {"inferences": deleted.inferences, "labels": deleted.labels}


@router.get("/{inference_id}", summary=f"{RBAC_USER}One inference")
def get_inference(user: Reader, records: Records, inference_id: str) -> dict[str, Any]:
    """One inference with the labels that were joined to it."""
    return records.get(inference_id).to_dict()


@router.put("/{inference_id}/decision", summary=f"{RBAC_ANNOTATOR}Accept or reject an answer")
def decide(user: Annotator, inference_id: str, stated: StatedOutcome) -> dict[str, Any]:
    """Record what the reader makes of an answer; of a DICOM image the PACS gets a report."""
    instance: MedReasonerApp = app_instance()
    if stated.outcome is Outcome.REJECTED and not (stated.reason or "").strip():
        raise InputError("Say why the answer is rejected, in 'reason'.")
    now = datetime.now(timezone.utc)
    decision = Decision(stated.outcome, stated.reason, now, reader_of(user))
    return instance.results.decision(inference_id, decision).to_dict()


@router.get("/{inference_id}/mask", summary=f"{RBAC_USER}The mask of an inference")
def get_mask(user: Reader, records: Records, inference_id: str) -> FileResponse:
    """The mask as it was inferred, NIfTI on the image's grid; 404 once retention dropped it."""
    path = records.get(inference_id).mask_file
    if path is None:
        raise UnknownRecordError("The mask of this inference is not kept any more; ask again.")
    return FileResponse(path, media_type="application/gzip", filename=path.name)
