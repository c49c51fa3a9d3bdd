# SPDX-License-Identifier: Apache-2.0
"""``/medreasoner/streams``: a question or a correction, answered step by step as events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from sse_starlette import EventSourceResponse

from medreasoner_infer.errors import InputError, PromptError
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.result import InferenceResult
from monailabel_app.answering import Cancelled
from monailabel_app.app import MedReasonerApp
from monailabel_app.errors import UnknownRecordError
from monailabel_app.fields import read_points
from monailabel_app.framework import RBAC, RBAC_USER, User, app_instance, settings
from monailabel_app.outputs import result_params
from monailabel_app.params import InferParams
from monailabel_app.routes.inputs import session_image
from monailabel_app.routes.typed_errors import TypedErrorRoute
from monailabel_app.streaming.events import Emit, EventFollower, mask_event
from monailabel_app.streaming.running import RunningStreams, Work
from monailabel_app.streaming.steps import Correction, ask_in_steps, correct_in_steps
from monailabel_app.studies.source import ImageSource
from monailabel_app.tasks import ASK_TASK, CLICK_TASK

router = APIRouter(prefix="/medreasoner", tags=["MedReasoner"], route_class=TypedErrorRoute)

Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Values = Annotated[dict[str, Any], Body()]

# Looked up in the work's own thread: a PACS may have to be asked.
FindSource = Callable[[], ImageSource]
Steps = Callable[[Any, Volume, EventFollower, Cancelled], InferenceResult]

_POINTS = "a list of patient positions [[x, y, z], ...] in LPS millimetres"


def _streams(request: Request) -> RunningStreams:
    state = request.app.state
    if not hasattr(state, "medreasoner_streams"):
        state.medreasoner_streams = RunningStreams()
    streams: RunningStreams = state.medreasoner_streams
    return streams


def _source(image: str = "", session_id: str = "") -> FindSource:
    """What finds the image of the studies, or the one that was sent for a session."""
    instance: MedReasonerApp = app_instance()
    if session_id:
        found = session_image(instance.sessions(), session_id)
        return lambda: found
    return lambda: instance.image_source(image)


Streams = Annotated[RunningStreams, Depends(_streams)]
Source = Annotated[FindSource, Depends(_source)]


@router.post("/streams/ask", summary=f"{RBAC_USER}Ask a question; the answer comes as events")
async def ask(
    user: Reader, streams: Streams, source: Source, values: Values
) -> EventSourceResponse:
    """The body holds what ``params`` of ``/infer`` holds; see streaming/events.py for events."""
    params = InferParams.parse(values)
    if params.query is None:
        raise InputError("The question is missing; type it into 'query'.")
    work = _work(
        ASK_TASK,
        source,
        lambda pipeline, volume, follower, cancelled: ask_in_steps(
            pipeline, volume, params, follower, cancelled
        ),
    )
    return streams.respond(work, params.query)


@router.post("/streams/segment", summary=f"{RBAC_USER}Segment by one's own box or points")
async def segment(
    user: Reader, streams: Streams, source: Source, values: Values
) -> EventSourceResponse:
    """The segmenter alone: ``box`` (two corners), ``inside``, ``outside``, all LPS mm."""
    params, correction = InferParams.parse(values), _correction(values)
    work = _work(
        CLICK_TASK,
        source,
        lambda pipeline, volume, follower, cancelled: correct_in_steps(
            pipeline, volume, correction, params, follower, cancelled
        ),
    )
    return streams.respond(work)


@router.delete("/streams/{stream_id}", summary=f"{RBAC_USER}Cancel a question")
async def cancel(user: Reader, streams: Streams, stream_id: str) -> dict[str, str]:
    """Stop the work at its next step; nothing of it is recorded."""
    streams.cancel(stream_id)
    return {"stream_id": stream_id}


@router.get("/masks/{inference_id}", summary=f"{RBAC_USER}The mask of an inference as runs")
def get_mask_runs(user: Reader, inference_id: str) -> dict[str, Any]:
    """The data of a ``mask`` event for an earlier question."""
    instance: MedReasonerApp = app_instance()
    path = instance.service.records.get(inference_id).mask_file
    if path is None:
        raise UnknownRecordError("The mask of this inference is not kept any more; ask again.")
    mask = load_volume(path)
    return mask_event("volume", mask.array, mask.ijk_to_lps)


def _work(task: str, source: FindSource, steps: Steps) -> Work:
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
        )
        follower.finished(answer.result, answer.volume, result_params(answer.result))

    return work


def _correction(values: Mapping[str, Any]) -> Correction:
    box, inside, outside = (
        tuple((x, y, z) for x, y, z in read_points(values, key, _POINTS))
        for key in ("box", "inside", "outside")
    )
    if len(box) not in (0, 2):
        raise PromptError(f"The box has {len(box)} corners; expected two opposite ones.")
    if not box and not inside:
        raise PromptError("Draw a box or click at least one point inside the target.")
    return Correction(box, inside, outside)
