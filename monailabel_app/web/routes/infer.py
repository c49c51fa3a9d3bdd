# SPDX-License-Identifier: Apache-2.0
"""``POST /infer/{model}``: MONAI Label's route, off the event loop and with typed errors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from requests_toolbelt import MultipartEncoder

from medreasoner_infer.errors import InputError
from medreasoner_infer.hooks import Cancelled, Hooks
from monailabel_app.common.door import GivenName, GivenToken, Name, decode_object, read_model
from monailabel_app.errors import UnknownTaskError
from monailabel_app.framework import DefaultLabelTag, ResultType, get_mime_type
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.call import Call
from monailabel_app.inference.correction import EarlierAnswer
from monailabel_app.inference.dicom_seg import dicom_seg_of, require_series
from monailabel_app.inference.params import InferBody, InferParams
from monailabel_app.inference.replies import answer_file, keep_as_label, result_params
from monailabel_app.web.routes.callers import Caller, MayAsk, client_of
from monailabel_app.web.routes.earlier import earlier_record, kept_answer
from monailabel_app.web.routes.inputs import session_image, store_upload
from monailabel_app.web.routes.serving import run_in_thread
from monailabel_app.web.routes.typed_errors import TypedErrorRoute, withhold
from monailabel_app.web.services import App, Services

router = APIRouter(tags=["Infer"], route_class=TypedErrorRoute)


@router.post("/infer/{model}", summary="Run inference for a model", response_model=None)
async def infer_model(
    request: Request,
    caller: MayAsk,
    app: App,
    model: Name,
    image: Annotated[GivenName, Query()] = None,
    session_id: Annotated[GivenToken, Query()] = None,
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Response:
    """Answer as MONAI Label does; every error is JSON, ``{"detail": sentence}``.

    ``label`` is accepted for the sake of stock clients and not used.
    """
    values = decode_object(params, "the form field 'params'")
    withhold(request, str(values.get("query") or ""))
    body = read_model(InferBody, values, "'params'")
    asked, form = InferParams.of(body), _Form(output, _tag_of(body), body.label_info)
    require_model(app, model)

    def source_of(folder: Path) -> ImageSource:
        if file is not None:
            return store_upload(file, folder)
        if session_id is not None:
            return session_image(app.sessions, session_id, caller)
        return app.site.image_source(image)

    def work(cancelled: Cancelled) -> Response:
        """Find the image, infer, and read the answer's files before their folder goes."""
        with app.site.scratch.place() as folder:
            source = source_of(folder)
            earlier = _earlier(app, caller, source, asked)
            about = earlier_record(caller, app, source, body)
            call = Call(model, source, asked, earlier, caller.name, about)
            return _answered(app, call, Hooks(cancelled=cancelled), folder, form)

    return await run_in_thread(request, work, client_of(request, caller))


def _earlier(
    app: Services, caller: Caller, source: ImageSource, asked: InferParams
) -> EarlierAnswer | None:
    """The answer that clicks join; a question is asked anew.

    Raises:
        UnknownRecordError: there is none that the caller may see, or its mask is not kept.
        InputError: it is about another image.
    """
    if asked.inference_id is None or asked.query is not None:
        return None
    return EarlierAnswer(*kept_answer(caller, app, source, asked.inference_id, "inference_id"))


@dataclass(frozen=True)
class _Form:
    """What becomes of an answer: the reply's form, and the tag of the label that is kept of it."""

    output: ResultType | None
    save_as: str | None
    label_info: list[dict[str, Any]] | None


def _answered(app: Services, call: Call, hooks: Hooks, folder: Path, form: _Form) -> Response:
    """Infer; keep the mask if that is wanted; the files in ``folder`` are read before they go."""
    if form.output == ResultType.dicom_seg:
        require_series(call.source)
    answer = app.answering.answer(call, hooks)
    mask = None
    if form.save_as is not None or form.output not in (ResultType.json, ResultType.dicom_seg):
        mask = answer_file(answer, call, folder)
    if form.save_as is not None and mask is not None:
        keep_as_label(app.site.studies, answer, call, mask, form.save_as)
    if form.output == ResultType.dicom_seg:
        seg = dicom_seg_of(answer.result, answer.volume, call.source, form.label_info)
        return Response(seg, media_type="application/dicom")
    return _response(result_params(answer.result), mask, form.output)


def require_model(app: Services, model: str) -> None:
    """Check that there is such a model.

    Raises:
        UnknownTaskError: there is none of this name.
    """
    if model not in app.models:
        names = ", ".join(app.models)
        raise UnknownTaskError(f"The app has no model of this name; it has: {names}.")


def _tag_of(body: InferBody) -> str | None:
    """The tag under which the mask is kept as a label, if at all.

    Raises:
        InputError: if it is the one of masks that a reader approved.
    """
    if not body.save_label:
        return None
    if body.label_tag == DefaultLabelTag.FINAL.value:
        raise InputError("'label_tag' is 'final', which only a label that a reader submits has.")
    return body.label_tag or DefaultLabelTag.ORIGINAL.value


def _response(params: dict[str, Any], mask: Path | None, output: ResultType | None) -> Response:
    """``json``: the params; ``image``: the mask's file; otherwise both as multipart."""
    if mask is None or output == ResultType.json:
        return JSONResponse(params)
    kind = get_mime_type(str(mask))
    if output == ResultType.image:
        named = {"Content-Disposition": f'attachment; filename="{mask.name}"'}
        return Response(mask.read_bytes(), media_type=kind, headers=named)
    fields = {
        "params": (None, json.dumps(params), "application/json"),
        "image": (mask.name, mask.read_bytes(), kind),
    }
    encoder = MultipartEncoder(fields=fields)
    return Response(encoder.to_string(), media_type=encoder.content_type)
