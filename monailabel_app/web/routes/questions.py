# SPDX-License-Identifier: Apache-2.0
"""``POST /medreasoner/questions``: which questions a text makes, to be asked one by one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from medreasoner_infer.language import questions_of
from medreasoner_infer.request import MAX_QUERY_CHARACTERS
from medreasoner_infer.talk.reference import refers_to_earlier
from monailabel_app.common.door import DoorModel
from monailabel_app.web.routes.callers import MayAsk
from monailabel_app.web.routes.typed_errors import TypedErrorRoute, withhold

router = APIRouter(prefix="/medreasoner", tags=["MedReasoner"], route_class=TypedErrorRoute)


class AskedText(DoorModel):
    """What a reader has typed; in the body, since addresses are logged."""

    query: Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS)]


@router.post("/questions", summary="The questions that a text makes")
def read_questions(request: Request, caller: MayAsk, body: AskedText) -> dict[str, Any]:
    """``questions``: one for each target of a list; else the text as it is.

    ``follows_up`` tells whether it refers to an earlier answer, without which it says nothing.
    """
    withhold(request, body.query)
    return {
        "questions": list(questions_of(body.query)),
        "follows_up": refers_to_earlier(body.query),
    }
