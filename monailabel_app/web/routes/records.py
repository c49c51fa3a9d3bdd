# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/inferences``: what was asked, answered, submitted, decided and sent."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import FileResponse
from pydantic import Field

from medreasoner_infer.errors import InputError
from monailabel_app.common.door import CleanText, DoorModel, GivenName, Name, Token
from monailabel_app.errors import UnknownRecordError
from monailabel_app.security.roles import Action
from monailabel_app.store import Decision, InferenceRecord, Outcome, RecordStore, Target
from monailabel_app.web.routes.callers import (
    Caller,
    MayDelete,
    MayExport,
    MayLabel,
    MayRead,
)
from monailabel_app.web.routes.label_words import StatedTarget
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

MAX_LISTED = 1000
MAX_REASON_CHARACTERS = 2000

router = APIRouter(
    prefix="/medreasoner/inferences", tags=["MedReasoner"], route_class=TypedErrorRoute
)


class StatedOutcome(DoorModel):
    """The body of a decision; a rejection says why."""

    outcome: Annotated[Outcome, Field(strict=False)]
    reason: Annotated[CleanText, Field(max_length=MAX_REASON_CHARACTERS)] | None = None
    target: StatedTarget | None = None


def _records(app: App) -> RecordStore:
    return app.site.records


Records = Annotated[RecordStore, Depends(_records)]


@router.get("", summary="Inferences on an image or a study, the latest first")
def list_inferences(
    caller: MayRead,
    records: Records,
    image: Annotated[GivenName, Query()] = None,
    study: Annotated[GivenName, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
) -> list[dict[str, Any]]:
    """Inferences on ``image``, or on all images of ``study``, with labels and decision.

    Who may not see what others asked gets their own.
    """
    asked_by = None if caller.may(Action.SEE_OTHERS) else caller.name
    if study is not None and image is None:
        found = records.list_for_study(study, asked_by=asked_by)[:limit]
    elif image is not None and study is None:
        found = records.list_for_image(image, limit, asked_by=asked_by)
    else:
        raise InputError("Name either an 'image' or a 'study', a Study Instance UID.")
    return [record.to_dict() for record in found]


@router.get("/export", summary="All that is recorded of a study, as JSON")
def export_study(
    caller: MayExport, records: Records, study: Annotated[Name, Query()]
) -> dict[str, Any]:
    """Records of a study with their labels, decisions, and what the archive has of them."""
    return {
        "study": study,
        "exported_at": datetime.now(timezone.utc).isoformat(),
        "inferences": [record.to_dict() for record in records.list_for_study(study)],
    }


@router.delete("", summary="Delete all that is recorded of a study")
def delete_study(
    caller: MayDelete, records: Records, study: Annotated[Name, Query()]
) -> dict[str, int]:
    """Delete records, masks and labels kept here; what the PACS has of the study stays there."""
    deleted = records.delete_study(study)
    return {"inferences": deleted.inferences, "labels": deleted.labels}


@router.get("/{inference_id}", summary="One inference")
def get_inference(caller: MayRead, records: Records, inference_id: Token) -> dict[str, Any]:
    """One inference with the labels that were joined to it."""
    return visible_record(caller, records, inference_id).to_dict()


@router.put("/{inference_id}/decision", summary="Accept or reject an answer")
def decide(
    caller: MayLabel, app: App, records: Records, inference_id: Token, stated: StatedOutcome
) -> dict[str, Any]:
    """Record what the reader makes of an answer; of a DICOM image the PACS gets a report."""
    if stated.outcome is Outcome.REJECTED and not (stated.reason or "").strip():
        raise InputError("Say why the answer is rejected, in 'reason'.")
    require_own(caller, visible_record(caller, records, inference_id))
    now = datetime.now(timezone.utc)
    decision = Decision(stated.outcome, stated.reason, now, caller.name)
    target = None if stated.target is None else Target.of(stated.target.model_dump())
    return app.site.results.decision(inference_id, decision, target).to_dict()


@router.get("/{inference_id}/mask", summary="The mask of an inference")
def get_mask(caller: MayRead, records: Records, inference_id: Token) -> FileResponse:
    """The mask as it was inferred, NIfTI on the image's grid; 404 once retention dropped it."""
    path = visible_record(caller, records, inference_id).mask_file
    if path is None:
        raise UnknownRecordError("The mask of this inference is not kept any more; ask again.")
    return FileResponse(path, media_type="application/gzip", filename=path.name)


def visible_record(caller: Caller, records: RecordStore, inference_id: str) -> InferenceRecord:
    """The inference of that id.

    Raises:
        UnknownRecordError: if there is none that the caller may see.
    """
    record = records.get(inference_id)
    if not caller.sees(record.asked_by):
        raise UnknownRecordError("No inference of this id is recorded here.")
    return record


def require_own(caller: Caller, record: InferenceRecord) -> None:
    """Let a reader decide on their own answers, a reviewer on all.

    Raises:
        HTTPException: 403 if another reader asked.
    """
    if caller.name not in (None, record.asked_by) and not caller.may(Action.REVIEW):
        raise HTTPException(403, f"Your role may not {Action.REVIEW.value}.")
