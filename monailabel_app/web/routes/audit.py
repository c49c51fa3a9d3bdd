# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/audit``, which the site opens by ``MEDREASONER_ADMIN_ROUTES=1``."""

from __future__ import annotations

import io
import zipfile
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from monailabel_app.audit.collecting import collect
from monailabel_app.audit.figures import charts
from monailabel_app.audit.report import wanted_days, write_report
from monailabel_app.audit.tables import Told
from monailabel_app.common.door import GivenName
from monailabel_app.errors import UnknownRecordError
from monailabel_app.web.routes.callers import MayAdminister
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

MOST_BASELINE_WEEKS = 520

router = APIRouter(prefix="/medreasoner/audit", tags=["MedReasoner"], route_class=TypedErrorRoute)


@router.get("", summary="What was asked, answered and decided, by weeks, as a ZIP archive")
def get_audit(
    caller: MayAdminister,
    app: App,
    study: Annotated[GivenName, Query()] = None,
    model: Annotated[GivenName, Query()] = None,
    since: date | None = None,
    until: date | None = None,
    baseline_weeks: Annotated[int, Query(ge=2, le=MOST_BASELINE_WEEKS)] = 12,
    identifiers: bool = False,
    questions: bool = False,
) -> Response:
    """The files of ``medreasoner audit``, whose options the parameters are.

    Raises:
        UnknownRecordError: no answer that is asked for is recorded, or none can be read.
    """
    found = collect(app.site.records, wanted_days(study, model, since, until))
    if not found.answers:
        raise UnknownRecordError(
            f"No answer that is asked for is recorded; {len(found.damaged)} records cannot be read."
        )
    told = Told(identifiers, questions)
    packed = io.BytesIO()
    with (
        app.site.scratch.place() as folder,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for path in write_report(found, charts(found.answers, baseline_weeks), folder, told):
            archive.write(path, path.name)
    disposition = {"Content-Disposition": 'attachment; filename="audit.zip"'}
    return Response(packed.getvalue(), media_type="application/zip", headers=disposition)
