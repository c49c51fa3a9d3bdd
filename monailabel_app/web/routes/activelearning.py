# SPDX-License-Identifier: Apache-2.0
"""``POST /activelearning/{strategy}``: the next image to label, for viewers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body

from medreasoner_training.next_case import Strategy
from monailabel_app.common.door import DoorModel, Name
from monailabel_app.errors import UnknownTaskError
from monailabel_app.inference.strategies import STRATEGY
from monailabel_app.web.routes.callers import Caller, MayAsk
from monailabel_app.web.routes.typed_errors import TypedErrorRoute
from monailabel_app.web.services import App, Services

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
    """An image without a final label, with what the datastore knows of it; ``{}`` if none is.

    All strategies but ``random`` say the ``reason`` as well.
    """
    if strategy != STRATEGY:
        return _offered(app, _known(strategy), caller)
    studies = app.site.studies
    image_id = app.offered.next(studies.get_unlabeled_images())
    if image_id is None:
        return {}
    return {**studies.get_image_info(image_id), "id": image_id}


def _offered(app: Services, strategy: Strategy, caller: Caller) -> dict[str, Any]:
    offer = app.next_cases.offer(strategy, caller.name)
    if offer is None:
        return {}
    told = {"id": offer.image_id, "strategy": strategy.value, "reason": offer.reason}
    return {**app.next_cases.info(offer.image_id), **told}


def _known(name: str) -> Strategy:
    try:
        return Strategy(name)
    except ValueError:
        known = ", ".join((STRATEGY, *(each.value for each in Strategy)))
        raise UnknownTaskError(f"The app has no strategy of this name; it has: {known}.") from None
