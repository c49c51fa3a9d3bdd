# SPDX-License-Identifier: Apache-2.0
"""What callers say of images and labels, typed where the server reads it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import HTTPException
from pydantic import ConfigDict, Field

from monailabel_app.common.door import (
    MAX_NAME_CHARACTERS,
    CleanText,
    DoorModel,
    decode_object,
    read_model,
)
from monailabel_app.dicom.decisions import stated_decision
from monailabel_app.security.roles import Action, least_role
from monailabel_app.studies.infos import REVIEW, told_by
from monailabel_app.web.routes.callers import Caller

MAX_FORM_CHARACTERS = 1 << 20
_MAX_SEGMENTS = 1024
Level = Annotated[int, Field(ge=0, le=255)]


class Review(DoorModel):
    """What MONAI Label's Reviewer says of a label, ``segmentationMeta``."""

    status: Literal["approved", "flagged", "segmented", "not segmented", ""] = ""
    level: Literal["easy", "medium", "hard", ""] = ""
    approvedBy: Annotated[CleanText, Field(max_length=255)] = ""
    comment: Annotated[CleanText, Field(max_length=4000)] = ""
    editTime: (
        Annotated[int, Field(ge=0, lt=1 << 53)] | Annotated[CleanText, Field(max_length=40)]
    ) = ""


class StatedTarget(DoorModel):
    """What a reader calls a target, and its colour on the screen: red, green, blue."""

    name: Annotated[CleanText, Field(max_length=MAX_NAME_CHARACTERS)] | None = None
    color: Annotated[list[Level], Field(min_length=3, max_length=3)] | None = None


class Segment(DoorModel):
    """An entry of ``label_info``; what else clients write of a segment is kept as it is."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[CleanText, Field(max_length=MAX_NAME_CHARACTERS)] | None = None


class Words(DoorModel):
    """What the server reads of a caller's words; others are kept and given back as they are."""

    model_config = ConfigDict(extra="allow")

    inference_id: Annotated[CleanText, Field(max_length=64)] | None = None
    outcome: Annotated[CleanText, Field(max_length=32)] | None = None
    outcome_reason: Annotated[CleanText, Field(max_length=2000)] | None = None
    label_info: Annotated[list[Segment], Field(max_length=_MAX_SEGMENTS)] | None = None
    segmentationMeta: Review | None = None


def read_words(text: str, field: str, caller: Caller) -> dict[str, Any]:
    """The info that a form field states, as the datastore keeps it.

    Args:
        text: a JSON object.
        field: the form field's name.
        caller: who says it; only those who may review set a label's status.

    Raises:
        InputError: it is no such object.
        HTTPException: 403, the caller may not set a status.
    """
    what = f"the form field {field!r}"
    values = decode_object(text, what)
    words = read_model(Words, values, what)
    stated_decision(values)
    return told_by(values, caller.name, _review(words, caller))


def _review(words: Words, caller: Caller) -> Mapping[str, Any] | None:
    if words.segmentationMeta is None:
        return None
    if not caller.may(Action.REVIEW):
        raise HTTPException(
            403,
            f"Your role may not {Action.REVIEW.value}, so {REVIEW!r} is not taken; this needs the "
            f"role {least_role(Action.REVIEW).value!r}, which the administrator gives.",
        )
    said = words.segmentationMeta.model_dump()
    if caller.name is None:
        return said
    # The server's own word on who it was, and when.
    return {**said, "approvedBy": caller.name, "editTime": int(time.time())}
