# SPDX-License-Identifier: Apache-2.0
"""What the routes work with; the app makes it and puts it into the server's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from monailabel_app.inference.batch import BatchRun
from monailabel_app.inference.measures import Measures
from monailabel_app.inference.service import AnsweringService
from monailabel_app.inference.strategies import OfferedImages
from monailabel_app.site.opening import Site
from monailabel_app.site.sessions import Sessions
from monailabel_app.strategies.next_cases import NextCases
from monailabel_app.training.task import ReasonerTrainTask


@dataclass(frozen=True)
class Services:
    """Everything that a request may need of the app.

    Attributes:
        site: studies, records and results.
        answering: answers questions.
        measures: what the server counts and times.
        models: names of the models that may be asked.
        sessions: images that viewers sent.
        batch: one question asked of many images.
        offered: chooses a random image to be labelled next.
        next_cases: chooses the image by doubt, coverage and novelty.
        trainers: by the name of the model that they train.
        info: what viewers ask first, as MONAI Label tells it.
    """

    site: Site
    answering: AnsweringService
    measures: Measures
    models: tuple[str, ...]
    sessions: Sessions
    batch: BatchRun
    offered: OfferedImages
    next_cases: NextCases
    trainers: Mapping[str, ReasonerTrainTask]
    info: Callable[[], dict[str, Any]]


def provide(server_state: Any, services: Services) -> None:
    """Let the routes work with ``services`` from now on; MONAI Label's ``/reload`` makes anew."""
    earlier: Services | None = getattr(server_state, "services", None)
    if earlier is not None:
        earlier.site.results.stop()
    server_state.services = services
    services.site.results.start()


def services_of(request: Request) -> Services:
    """What the app has provided."""
    services: Services = request.app.state.services
    return services


App = Annotated[Services, Depends(services_of)]
