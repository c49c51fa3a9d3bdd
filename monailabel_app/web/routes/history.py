# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/history``: what the PACS itself has of a study's questions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from medreasoner_infer.errors import InputError
from monailabel_app.common.door import Name, Token
from monailabel_app.common.fields import is_uid
from monailabel_app.dicom.results import StoredResult
from monailabel_app.errors import UnknownRecordError
from monailabel_app.web.routes.callers import MayRead
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App
from monailabel_app.web.streaming.events import mask_event

router = APIRouter(prefix="/medreasoner/history", tags=["MedReasoner"], route_class=TypedErrorRoute)


@router.get("", summary="Questions about a study as the PACS has them, latest first")
def list_archived(caller: MayRead, app: App, study: Name) -> dict[str, list[Any]]:
    """Records in the form of ``/medreasoner/inferences``, and why others cannot be read."""
    found = app.site.results.history(_study_uid(study))
    records = [
        {**result.record.to_dict(), "version": result.header.version} for result in found.results
    ]
    return {"records": records[::-1], "unreadable": list(found.unreadable)}


@router.get("/{inference_id}/mask", summary="The mask that the PACS has of a question")
def get_archived_mask(
    caller: MayRead, app: App, inference_id: Token, study: Name
) -> dict[str, Any]:
    """The data of a ``mask`` event: the approved mask, all zero where nothing was approved."""
    found = app.site.results.history(_study_uid(study), inference_id)
    result: StoredResult | None = next(iter(found.results), None)
    if result is None:
        raise UnknownRecordError("The PACS has no readable record of this question.")
    return mask_event("volume", result.mask_ijk, result.source.volume.ijk_to_lps)


def _study_uid(study: str) -> str:
    if not is_uid(study):
        raise InputError("Name the 'study' by its Study Instance UID.")
    return study
