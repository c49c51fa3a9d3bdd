# SPDX-License-Identifier: Apache-2.0
"""Questions that go on from an earlier answer: what is checked, told to a reasoner, and recorded.

A reader asks for "its left lobe" or "the other one". What "it" is goes along as an
:class:`~medreasoner_infer.types.EarlierTarget`, by the reader's choice; a reasoner that answers
each question by itself is not told, and the answer says so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Plane, SliceMapping, Volume, slice_mapping
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.request import MAX_NAME_CHARACTERS, AskRequest
from medreasoner_infer.result import MEASURE, FollowUp, Inference
from medreasoner_infer.types import XYXY, EarlierTarget, EarlierTargetInView

# Documents keep a box in single precision.
_BEYOND_EDGE_PX = 0.5

UNUSED = (
    "This model answers each question by itself; the earlier answer that this question follows up "
    "on did not count."
)


def about_answer(answer: Inference, name: str | None = None) -> EarlierTarget:
    """What a question is about that goes on from an answer.

    Args:
        answer: the earlier one.
        name: what the reader calls its target; by default as it was asked for.
    """
    repeated = answer.follow_up if answer.kind == MEASURE else None
    said = name or (repeated and repeated.target.name) or answer.asks_for or "earlier target"
    box = None if answer.prompts is None else answer.prompts.bbox_xyxy_slice_px
    one_line = " ".join(said.split())[:MAX_NAME_CHARACTERS]
    return EarlierTarget(one_line, answer.slice.plane, answer.slice.index, box)


def follow_up(
    volume: Volume, about: EarlierTarget | None, reasoner: Reasoner, *, is_read: bool = False
) -> FollowUp | None:
    """What a question follows up on, and whether that counts.

    It does where the question was rewritten by it, or the reasoner can be told.

    Raises:
        InputError: the earlier target lies on no slice of the image, or its box beyond that.
    """
    if about is None:
        return None
    require_on_image(volume, about)
    return FollowUp(about, used=is_read or reasoner.takes_follow_ups)


def require_on_image(volume: Volume, earlier: EarlierTarget) -> None:
    """Refuse a target of another image.

    Raises:
        InputError: it lies on no slice of the image, or its box beyond that.
    """
    mapping = slice_mapping(volume, Plane.parse(earlier.plane), earlier.index)
    height, width = mapping.shape_hw
    box = earlier.bbox_xyxy_slice_px
    if box is not None and not _is_within(box, width, height):
        raise InputError(
            f"The box of the earlier target is {box}; its slice has {width} x {height} px. Send "
            "the box of an answer about this image."
        )


def without_unused(request: AskRequest, reasoner: Reasoner) -> AskRequest:
    """The request as the reasoner takes it."""
    if request.about is None or reasoner.takes_follow_ups:
        return request
    return replace(request, about=None)


def follow_up_warnings(followed: FollowUp | None) -> tuple[str, ...]:
    """The sentence that says that the reasoner was not told."""
    return () if followed is None or followed.used else (UNUSED,)


def _is_within(box: XYXY, width: int, height: int) -> bool:
    x1, y1, x2, y2 = box
    least, beyond = -_BEYOND_EDGE_PX, _BEYOND_EDGE_PX
    return min(x1, y1) >= least and x2 <= width + beyond and y2 <= height + beyond


def in_view(about: EarlierTarget, mapping: SliceMapping) -> EarlierTargetInView:
    """The earlier target as seen from the slice of ``mapping``, of the same image.

    Slices of one plane have the same pixels, so that a box of one can be drawn on another.
    """
    if Plane.parse(about.plane) is not mapping.plane:
        return EarlierTargetInView(about.name, None)
    slices_away = abs(about.index - mapping.index)
    if about.bbox_xyxy_slice_px is None:
        return EarlierTargetInView(about.name, slices_away)
    box_px = np.array(mapping.slice_box_to_reasoner_px(about.bbox_xyxy_slice_px))
    x1, y1, x2, y2 = np.clip(box_px / mapping.model_size, 0.0, 1.0).tolist()
    return EarlierTargetInView(about.name, slices_away, (x1, y1, x2, y2))
