# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/studies``: the images of a folder, to ask about and look at without a PACS."""

from __future__ import annotations

import io
from typing import Annotated
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from PIL import Image

from medreasoner_infer.errors import InputError, ServiceError
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import (
    choose_window,
    default_plane,
    load_volume,
    slice_count,
    slice_image,
    slice_mapping,
    write_overlay,
)
from medreasoner_infer.output import overlay_content
from medreasoner_infer.request import MAX_QUERY_CHARACTERS
from medreasoner_infer.types import SliceImage
from monailabel_app.common.door import Name, Token
from monailabel_app.common.waiting import caller_has_left
from monailabel_app.errors import NotFoundError, UnknownRecordError
from monailabel_app.framework import settings
from monailabel_app.inference.call import ASK_TASK, Call
from monailabel_app.inference.params import InferParams
from monailabel_app.security.roles import Action
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.viewers.pages import TEMPLATES
from monailabel_app.web.routes.callers import Caller, MayAsk, MayRead
from monailabel_app.web.routes.records import visible_record
from monailabel_app.web.routes.typed_errors import TypedErrorRoute, withhold
from monailabel_app.web.services import App, Services

STUDIES_PATH = "/medreasoner/studies"
THUMBNAIL_PX = 320

router = APIRouter(
    prefix=STUDIES_PATH, include_in_schema=False, route_class=TypedErrorRoute, tags=["Others"]
)
_PAGES = Jinja2Templates(TEMPLATES)


def _of_folder(app: App) -> Services:
    """What the app provides, if it serves a folder.

    Raises:
        NotFoundError: it serves a PACS, which OHIF shows.
    """
    if not isinstance(app.site.studies, StudiesFolder):
        raise NotFoundError("The images of this server are those of the PACS; open /ohif/.")
    return app


OfFolder = Annotated[Services, Depends(_of_folder)]


@router.get("")
def studies(request: Request, caller: MayRead, app: OfFolder) -> Response:
    """Thumbnails of all images."""
    return page(request, "studies.html", images=sorted(app.site.studies.list_images()))


@router.get("/image")
def image_page(request: Request, caller: MayRead, app: OfFolder, image: Name) -> Response:
    """One image with its questions and answers, and a form to ask."""
    app.site.image_source(image)
    return _image_page(request, caller, app, image)


@router.post("/image")
def ask(
    request: Request, caller: MayAsk, app: OfFolder, image: Name, query: Annotated[str, Form()] = ""
) -> Response:
    """Ask, in the whole series; then show the image's page with the answer on top."""
    withhold(request, query)
    try:
        params = InferParams.parse({"query": query})
        call = Call(ASK_TASK, app.site.image_source(image), params, asked_by=caller.name)
        app.answering.answer(call, Hooks(cancelled=caller_has_left))
    except (InputError, ServiceError) as error:
        return _image_page(request, caller, app, image, problem=str(error))
    address = f"{_prefix()}/image?{urlencode({'image': image})}"
    return RedirectResponse(address, status_code=303)


@router.get("/thumbnail")
def thumbnail(caller: MayRead, app: OfFolder, image: Name) -> Response:
    """The middle slice as a small PNG."""
    volume = app.site.results.volume(image)
    plane = default_plane(volume)
    mapping = slice_mapping(volume, plane, slice_count(volume, plane) // 2)
    return _png(_small(slice_image(volume, mapping, choose_window(volume))))


@router.get("/overlay")
def overlay(caller: MayRead, app: OfFolder, inference: Annotated[Token, Query()]) -> Response:
    """What was answered, drawn over the slice that was read."""
    record = visible_record(caller, app.site.records, inference)
    if record.image_id is None:
        raise UnknownRecordError("This was asked about no image of the studies.")
    volume = app.site.results.volume(record.image_id)
    mask = np.zeros(volume.shape_ijk, np.uint8)
    if record.mask_file is not None:
        mask = load_volume(record.mask_file).array
    with app.site.scratch.file(".png") as path:
        write_overlay(overlay_content(record.result, mask, volume), path)
        return Response(path.read_bytes(), media_type="image/png")


def page(request: Request, name: str, status_code: int = 200, **values: object) -> Response:
    """One of our pages; every value is escaped."""
    return _PAGES.TemplateResponse(
        request, name, {"prefix": _prefix(), **values}, status_code=status_code
    )


def _image_page(
    request: Request, caller: Caller, app: Services, image: str, problem: str | None = None
) -> Response:
    asked_by = None if caller.may(Action.SEE_OTHERS) else caller.name
    records = app.site.records.list_for_image(image, asked_by=asked_by)
    return page(
        request,
        "image.html",
        200 if problem is None else 422,
        image=image,
        records=[record for record in records if record.query],
        problem=problem,
        max_characters=MAX_QUERY_CHARACTERS,
    )


def _prefix() -> str:
    return f"{settings.MONAI_LABEL_API_STR}{STUDIES_PATH}"


def _small(shown: SliceImage) -> Image.Image:
    """As large as the patient is: pixels need not be square."""
    height, width = shown.pixels.shape[:2]
    size_mm = np.array([width * shown.spacing_xy_mm[0], height * shown.spacing_xy_mm[1]])
    size_px = np.maximum(np.rint(size_mm * THUMBNAIL_PX / size_mm.max()), 1).astype(int)
    return Image.fromarray(shown.pixels).resize((int(size_px[0]), int(size_px[1])))


def _png(picture: Image.Image) -> Response:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return Response(content.getvalue(), media_type="image/png")
