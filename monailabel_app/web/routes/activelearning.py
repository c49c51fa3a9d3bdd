# SPDX-License-Identifier: Apache-2.0
"""``POST /activelearning/{strategy}``: the next image to label, for Slicer's *Next Sample*."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body

from monailabel_app.common.door import DoorModel, Name
from monailabel_app.errors import UnknownTaskError
from monailabel_app.inference.strategies import STRATEGY
from monailabel_app.web.routes.callers import MayAsk
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App

router = APIRouter(prefix="/activelearning", tags=["ActiveLearning"], route_class=TypedErrorRoute)


class SampleBody(DoorModel):
    """What viewers send; none of it changes which image comes next."""

    client_id: Any = None
    label_tag: Any = None
    labels: Any = None


@router.post("/{strategy}", summary="Run Active Learning strategy to get next sample")
def next_sample(
    caller: MayAsk,
    app: App,
    strategy: Name,
    params: Annotated[SampleBody | None, Body()] = None,
) -> dict[str, Any]:
    """An image without a final label, with what the datastore knows of it; ``{}`` if none is."""
    if strategy != STRATEGY:
        raise UnknownTaskError(f"The app has no strategy of this name; it has: {STRATEGY}.")
    studies = app.site.studies
    image_id = app.offered.next(studies.get_unlabeled_images())
    if image_id is None:
        return {}
    return {**studies.get_image_info(image_id), "id": image_id}
