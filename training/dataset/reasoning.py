# SPDX-License-Identifier: Apache-2.0
"""The trace that leads from a question to its box, from what mask and vocabulary tell."""

from __future__ import annotations

from medreasoner_training.dataset.metadata import Metadata
from medreasoner_training.dataset.questions import Asked, Subject

_LARGE, _SMALL = 0.2, 0.01


def reasoning_of(asked: Asked, subject: Subject) -> str:
    """The trace that was written with a question, else one of what is known."""
    if asked.reasoning is not None:
        return asked.reasoning
    named = subject.named.name
    if asked.kind == "explicit":
        start = f"The question names its target: the {named}."
    elif asked.leads:
        start = f"What the question describes ({asked.leads}) is true of the {named}."
    else:
        start = f"The question describes the {named} without naming it."
    if subject.metadata is None:
        of_kind = f"of the kind {subject.modality}" if subject.modality else "of this kind"
        return f"{start} An image {of_kind} cannot show it, so nothing is to be marked."
    return f"{start} {_seen(subject.metadata)}"


def _seen(found: Metadata) -> str:
    of_kind = f" ({found.modality})" if found.modality else ""
    near = f", {found.neighbour}" if found.neighbour else ""
    x1, y1, x2, y2 = found.truth.bbox_xyxy_px
    (ax, ay), (bx, by) = found.truth.points_xy_px
    size = (
        "a large part" if found.area_share > _LARGE
        else "a very small part" if found.area_share < _SMALL
        else "a small part"
    )  # fmt: skip
    return (
        f"On this image{of_kind} there is {found.seen} in the {found.place}{near}; it takes up "
        f"{size} of the image. Its edges lie at x {x1} and {x2}, y {y1} and {y2}, and the widest "
        f"places inside it are at ({ax}, {ay}) and ({bx}, {by})."
    )
