# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/streams``: a question or a correction, answered step by step as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from sse_starlette import EventSourceResponse

from medreasoner_infer.errors import InputError, PromptError
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.result import InferenceResult
from monailabel_app.app import MedReasonerApp
from monailabel_app.common.door import GivenName, GivenToken, Token
from monailabel_app.errors import UnknownRecordError
from monailabel_app.framework import app_instance
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.outputs import result_params
from monailabel_app.inference.params import CorrectionBody, InferParams, QuestionBody
from monailabel_app.inference.service import Cancelled
from monailabel_app.inference.tasks import ASK_TASK, CLICK_TASK
from monailabel_app.security.roles import Action
from monailabel_app.web.routes.callers import Caller, client_of, require
from monailabel_app.web.routes.inputs import session_image
from monailabel_app.web.routes.records import visible_record
from monailabel_app.web.routes.typed_errors import TypedErrorRoute, withhold
from monailabel_app.web.streaming.events import Emit, EventFollower, mask_event
from monailabel_app.web.streaming.running import RunningStreams, Work
from monailabel_app.web.streaming.steps import Correction, ask_in_steps, correct_in_steps

router = APIRouter(prefix="/medreasoner", tags=["MedReasoner"], route_class=TypedErrorRoute)

Asker = Annotated[Caller, Depends(require(Action.ASK))]
Reader = Annotated[Caller, Depends(require(Action.READ))]

# Looked up in the work's own thread: a PACS may have to be asked.
FindSource = Callable[[], ImageSource]
Steps = Callable[[Any, Volume, EventFollower, Cancelled], InferenceResult]


def _streams(request: Request) -> RunningStreams:
    state = request.app.state
    if not hasattr(state, "medreasoner_streams"):
        state.medreasoner_streams = RunningStreams()
    streams: RunningStreams = state.medreasoner_streams
    return streams


def _source(
    caller: Asker,
    image: Annotated[GivenName, Query()] = None,
    session_id: Annotated[GivenToken, Query()] = None,
) -> FindSource:
    """What finds the image of the studies, or the one that was sent for a session."""
    instance: MedReasonerApp = app_instance()
    if session_id:
        found = session_image(instance, session_id, caller)
        return lambda: found
    return lambda: instance.image_source(image)


Streams = Annotated[RunningStreams, Depends(_streams)]
Source = Annotated[FindSource, Depends(_source)]


@router.post("/streams/ask", summary="Ask a question; the answer comes as events")
async def ask(
    request: Request, caller: Asker, streams: Streams, source: Source, body: QuestionBody
) -> EventSourceResponse:
    """The body holds what ``params`` of ``/infer`` holds; see streaming/events.py for events."""
    params = InferParams.of(body)
    withhold(request, params.query)
    if params.query is None:
        raise InputError("The question is missing; type it into 'query'.")
    work = _work(
        ASK_TASK,
        source,
        lambda pipeline, volume, follower, cancelled: ask_in_steps(
            pipeline, volume, params, follower, cancelled
        ),
        caller,
    )
    return streams.respond(work, params.query, client_of(request, caller))


@router.post("/streams/segment", summary="Segment by one's own box or points")
async def segment(
    request: Request, caller: Asker, streams: Streams, source: Source, body: CorrectionBody
) -> EventSourceResponse:
    """The segmenter alone: ``box`` (two corners), ``inside``, ``outside``, all LPS mm."""
    params, correction = InferParams.of(body), _correction(body)
    work = _work(
        CLICK_TASK,
        source,
        lambda pipeline, volume, follower, cancelled: correct_in_steps(
            pipeline, volume, correction, params, follower, cancelled
        ),
        caller,
        asks=False,
    )
    return streams.respond(work, caller=client_of(request, caller))


@router.delete("/streams/{stream_id}", summary="Cancel a question")
async def cancel(caller: Asker, streams: Streams, stream_id: Token) -> dict[str, str]:
    """Stop the work at its next step; nothing of it is recorded."""
    streams.cancel(stream_id)
    return {"stream_id": stream_id}


@router.get("/masks/{inference_id}", summary="The mask of an inference as runs")
def get_mask_runs(caller: Reader, inference_id: Token) -> dict[str, Any]:
    """The data of a ``mask`` event for an earlier question."""
    instance: MedReasonerApp = app_instance()
    path = visible_record(caller, instance.service.records, inference_id).mask_file
    if path is None:
        raise UnknownRecordError("The mask of this inference is not kept any more; ask again.")
    mask = load_volume(path)
    return mask_event("volume", mask.array, mask.ijk_to_lps)


def _work(
    task: str, source: FindSource, steps: Steps, caller: Caller, *, asks: bool = True
) -> Work:
    """What a stream runs: the steps in line with other inferences, told as events, recorded."""
    instance: MedReasonerApp = app_instance()

    def work(emit: Emit, cancelled: Cancelled) -> None:
        """Take the steps when it is this question's turn."""
        follower = EventFollower(emit)
        answer = instance.service.run(
            task,
            source(),
            cancelled,
            lambda pipeline, volume: steps(pipeline, volume, follower, cancelled),
            asks=asks,
            asked_by=caller.name,
        )
        follower.finished(answer.result, answer.volume, result_params(answer.result))

    return work


def _correction(body: CorrectionBody) -> Correction:
    if len(body.box) not in (0, 2):
        raise PromptError(f"The box has {len(body.box)} corners; expected two opposite ones.")
    if not body.box and not body.inside:
        raise PromptError("Draw a box or click at least one point inside the target.")
    return Correction(body.box, body.inside, body.outside)
