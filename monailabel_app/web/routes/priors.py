# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/priors``: earlier examinations of a patient, and what has changed since."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from medreasoner_infer.errors import InputError
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.imaging.side_by_side import write_side_by_side
from medreasoner_infer.priors import Comparison, Examination, compare
from medreasoner_infer.priors.comparing import Keep
from medreasoner_infer.priors.telling import change_rows, describe_alignment, side_by_side
from medreasoner_infer.request import AskRequest
from medreasoner_infer.result import InferenceResult
from monailabel_app.common.door import Name, Token
from monailabel_app.common.waiting import caller_has_left
from monailabel_app.dicom.change_report import change_documents
from monailabel_app.dicom.errors import DicomResultError
from monailabel_app.dicom.source import SourceSeries, open_source
from monailabel_app.errors import UnknownRecordError
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.call import ASK_TASK, Call
from monailabel_app.inference.params import InferParams, QuestionBody
from monailabel_app.site.opening import open_archive
from monailabel_app.store import InferenceRecord
from monailabel_app.studies.priors import find_priors, source_facts
from monailabel_app.web.routes.callers import Caller, MayAsk, MayLabel, MayRead
from monailabel_app.web.routes.records import require_own, visible_record
from monailabel_app.web.routes.typed_errors import TypedErrorRoute, withhold
from monailabel_app.web.services import App, Services

router = APIRouter(prefix="/medreasoner/priors", tags=["MedReasoner"], route_class=TypedErrorRoute)


class ComparisonBody(QuestionBody):
    """A question about an image, and the image of the prior examination.

    ``same_patient`` is the reader's word where the images do not tell whose they are,
    ``same_space`` that patient positions of both agree.
    """

    prior: Name
    same_patient: bool = False
    same_space: bool = False


@router.get("", summary="Earlier examinations of an image's patient, the latest first")
def list_priors(caller: MayRead, app: App, image: Name) -> list[dict[str, str]]:
    """Series of the same patient, modality and body part; none where no header tells whose."""
    return [asdict(prior) for prior in find_priors(app.site.studies, image)]


@router.post("", summary="Ask an image and a prior the same question; tells what has changed")
def compare_with_prior(
    request: Request, caller: MayAsk, app: App, image: Name, body: ComparisonBody
) -> dict[str, Any]:
    """Both answers are recorded, that about the prior with the change (``prior_of``)."""
    withhold(request, body.query)
    params = InferParams.of(body)
    if params.query is None:
        raise InputError("The question is missing; type it into 'query'.")
    if body.prior == image:
        raise InputError("The prior is the image itself; name an earlier one.")
    sources = app.site.image_source(image), app.site.image_source(body.prior)
    current, prior = (Examination(_volume(app, each), source_facts(each)) for each in sources)

    def ask(volume: Volume, asked: AskRequest, keep: Keep) -> InferenceResult:
        """Of the one or the other, as any question."""
        source = sources[0] if volume is current.volume else sources[1]
        of_this = replace(
            params,
            selection=asked.selection,
            propagate=True,
            clicks=asked.clicks,
            about=asked.about,
        )
        call = Call(ASK_TASK, source, of_this, asked_by=caller.name, keep=keep)
        return app.answering.answer(call, Hooks(cancelled=caller_has_left)).result

    question = Call(ASK_TASK, sources[0], params).request(current.volume)
    assert isinstance(question, AskRequest)  # nosec B101 # for type checkers
    found = compare(
        ask,
        current,
        prior,
        question,
        segment=lambda volume, wanted: app.answering.segment(
            volume, wanted, caller.name, Hooks(cancelled=caller_has_left)
        ),
        same_patient=body.same_patient,
        same_space=body.same_space,
    )
    return _told(found)


@router.get("/{inference_id}", summary="What has changed, of the answer about a prior")
def get_comparison(caller: MayRead, app: App, inference_id: Token) -> dict[str, Any]:
    """As it was told when both were asked."""
    return _told(_comparison(caller, app, inference_id)[0])


@router.get("/{inference_id}/picture", summary="Both slices beside each other, as PNG")
def get_picture(caller: MayRead, app: App, inference_id: Token) -> Response:
    """One scale in mm and one window for both."""
    found, records = _comparison(caller, app, inference_id)
    volumes = [_volume(app, _source(app, record)) for record in records]
    with app.site.scratch.file(".png") as path:
        write_side_by_side(side_by_side(found, *volumes), path)
        return Response(path.read_bytes(), media_type="image/png")


@router.post("/{inference_id}/report", summary="Store a comparison in the PACS")
def store_report(caller: MayLabel, app: App, inference_id: Token) -> dict[str, Any]:
    """Report and both masks, marked as not reviewed; to store once more changes nothing."""
    found, records = _comparison(caller, app, inference_id)
    for record in records:
        require_own(caller, record)
    series = [_series(app, record) for record in records]
    documents = change_documents(found, series[0], series[1])
    archive = open_archive(app.site.paths, studies=app.site.studies)
    archive.store(list(documents.values()))
    return {"stored": sorted(documents), "study": series[0].study_uid}


def _told(found: Comparison) -> dict[str, Any]:
    told = found.told
    return {
        "current": told.current_inference_id,
        "prior": found.prior.inference_id,
        "current_date": told.current_date,
        "prior_date": told.prior_date,
        "change": asdict(told.change),
        "rows": [asdict(row) for row in change_rows(told.change)],
        "alignment": {**asdict(told.alignment), "told": describe_alignment(told.alignment)},
    }


def _comparison(
    caller: Caller, app: Services, inference_id: str
) -> tuple[Comparison, tuple[InferenceRecord, InferenceRecord]]:
    """A recorded one, and the records of the current and of the prior examination.

    Raises:
        UnknownRecordError: there is none that the caller may see.
    """
    prior = visible_record(caller, app.site.records, inference_id)
    told = prior.result.prior_of
    if told is None:
        raise UnknownRecordError("This answer was not asked of a prior examination.")
    current = visible_record(caller, app.site.records, told.current_inference_id)
    found = Comparison(_with_mask(current), _with_mask(prior), told)
    return found, (current, prior)


def _with_mask(record: InferenceRecord) -> InferenceResult:
    if record.mask_file is None:
        raise UnknownRecordError("A mask of the comparison is not kept any more; compare again.")
    mask = np.asfortranarray(load_volume(record.mask_file).array).astype(np.uint8)
    return InferenceResult.of(record.result, mask)


def _source(app: Services, record: InferenceRecord) -> ImageSource:
    if record.image_id is None:
        raise UnknownRecordError("This was asked about no image of the studies.")
    return app.site.image_source(record.image_id)


def _series(app: Services, record: InferenceRecord) -> SourceSeries:
    source = _source(app, record)
    if source.dicom_folder is None:
        raise DicomResultError("The image is no DICOM series, so no DICOM can refer to it.")
    return open_source(source.dicom_folder, _volume(app, source), source.series_uid)


def _volume(app: Services, source: ImageSource) -> Volume:
    return app.site.volumes.get(source)
