# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/streams``: a question or a correction, answered step by step as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from sse_starlette import EventSourceResponse

from medreasoner_infer.errors import InputError, PromptError
from medreasoner_infer.hooks import Cancelled
from medreasoner_infer.imaging import load_volume
from monailabel_app.common.door import GivenName, GivenToken, Token
from monailabel_app.errors import UnknownRecordError
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.call import ASK_TASK, CLICK_TASK, Call
from monailabel_app.inference.correction import Correction, PlacedPoint, SentMask
from monailabel_app.inference.params import CorrectionBody, InferParams, QuestionBody
from monailabel_app.inference.replies import result_params
from monailabel_app.web.routes.callers import MayAsk, MayRead, client_of
from monailabel_app.web.routes.earlier import earlier_record
from monailabel_app.web.routes.inputs import session_image
from monailabel_app.web.routes.records import visible_record
from monailabel_app.web.routes.typed_errors import TypedErrorRoute, withhold
from monailabel_app.web.services import App, Services
from monailabel_app.web.streaming.events import Emit, EventFollower, doubt_event, mask_event
from monailabel_app.web.streaming.running import RunningStreams, Work

router = APIRouter(prefix="/medreasoner", tags=["MedReasoner"], route_class=TypedErrorRoute)


# Looked up in the work's own thread: a PACS may have to be asked.
FindSource = Callable[[], ImageSource]


def _streams(request: Request) -> RunningStreams:
    state = request.app.state
    if not hasattr(state, "medreasoner_streams"):
        state.medreasoner_streams = RunningStreams()
    streams: RunningStreams = state.medreasoner_streams
    return streams


def _source(
    caller: MayAsk,
    app: App,
    image: Annotated[GivenName, Query()] = None,
    session_id: Annotated[GivenToken, Query()] = None,
) -> FindSource:
    """What finds the image of the studies, or the one that was sent for a session."""
    if session_id:
        found = session_image(app.sessions, session_id, caller)
        return lambda: found
    return lambda: app.site.image_source(image)


Streams = Annotated[RunningStreams, Depends(_streams)]
Source = Annotated[FindSource, Depends(_source)]


@router.post("/streams/ask", summary="Ask a question; the answer comes as events")
async def ask(
    request: Request, caller: MayAsk, app: App, streams: Streams, source: Source, body: QuestionBody
) -> EventSourceResponse:
    """The body holds what ``params`` of ``/infer`` holds; see streaming/events.py for events."""
    params = InferParams.of(body)
    withhold(request, params.query)
    if params.query is None:
        raise InputError("The question is missing; type it into 'query'.")

    def make_call() -> Call:
        found = source()
        about = earlier_record(caller, app, found, body)
        return Call(ASK_TASK, found, params, asked_by=caller.name, earlier=about)

    work = _work(app, make_call)
    return streams.respond(work, params.query, client_of(request, caller))


@router.post("/streams/segment", summary="Segment by one's own box or points")
async def segment(
    request: Request,
    caller: MayAsk,
    app: App,
    streams: Streams,
    source: Source,
    body: CorrectionBody,
) -> EventSourceResponse:
    """The segmenter alone, by box and points in LPS mm; with ``last`` points correct that mask."""
    params, correction = InferParams.of(body), _correction(body)
    work = _work(app, lambda: Call(CLICK_TASK, source(), params, correction, caller.name))
    return streams.respond(work, caller=client_of(request, caller))


@router.delete("/streams/{stream_id}", summary="Cancel a question")
async def cancel(caller: MayAsk, streams: Streams, stream_id: Token) -> dict[str, str]:
    """Stop the work at its next step; nothing of it is recorded."""
    streams.cancel(stream_id)
    return {"stream_id": stream_id}


@router.get("/masks/{inference_id}", summary="The mask of an inference as runs")
def get_mask_runs(caller: MayRead, app: App, inference_id: Token) -> dict[str, Any]:
    """The data of a ``mask`` event for an earlier question."""
    path = visible_record(caller, app.site.records, inference_id).mask_file
    if path is None:
        raise UnknownRecordError("The mask of this inference is not kept any more; ask again.")
    mask = load_volume(path)
    return mask_event("volume", mask.array, mask.ijk_to_lps)


@router.get("/doubts/{inference_id}", summary="The map of agreement of an inference as runs")
def get_doubt_map(caller: MayRead, app: App, inference_id: Token) -> dict[str, Any]:
    """The data of a ``doubt`` event for an earlier question that was asked several times."""
    record = visible_record(caller, app.site.records, inference_id)
    if record.doubt_file is None:
        raise UnknownRecordError("No map of agreement is kept of this inference; ask again.")
    counts = load_volume(record.doubt_file)
    return doubt_event(record.result, counts.array.astype(np.uint8), counts.ijk_to_lps)


def _work(app: Services, make_call: Callable[[], Call]) -> Work:
    """What a stream runs: the call, told as events."""

    def work(emit: Emit, cancelled: Cancelled) -> None:
        """Answer when it is this call's turn."""
        follower = EventFollower(emit)
        answer = app.answering.answer(make_call(), follower.hooks(cancelled))
        follower.finished(answer.result, answer.volume, result_params(answer.result))

    return work


def _correction(body: CorrectionBody) -> Correction:
    if len(body.box) not in (0, 2):
        raise PromptError(f"The box has {len(body.box)} corners; expected two opposite ones.")
    points = (
        *(
            PlacedPoint(point.position, point.inside, point.by, point.new, point.contour)
            for point in body.points
        ),
        *(PlacedPoint(position, True) for position in body.inside),
        *(PlacedPoint(position, False) for position in body.outside),
    )
    if body.last is None and not body.box and not any(point.inside for point in points):
        raise PromptError("Draw a box or click at least one point inside the target.")
    last = None if body.last is None else SentMask(body.last.shape_ijk, body.last.runs)
    return Correction(body.box, body.box_by, points, last)
