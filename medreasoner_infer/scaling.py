# SPDX-License-Identifier: Apache-2.0
"""Box and points on a square of another size."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol, TypeVar

from medreasoner_infer.types import XY, XYXY


class HasBoxAndPoints(Protocol):
    """A dataclass that locates a target by a box and points, all edge based and in one frame."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def bbox_xyxy_px(self) -> XYXY | None:
        """The box, if there is one."""

    @property
    def points_xy_px(self) -> tuple[XY, ...] | None:
        """The points, if there are any."""


T = TypeVar("T", bound=HasBoxAndPoints)


def rescale(target: T, factor: float) -> T:
    """The same target on a square whose side is ``factor`` times as long."""
    if factor == 1.0:
        return target
    box, points = target.bbox_xyxy_px, target.points_xy_px
    return dataclasses.replace(
        target,
        bbox_xyxy_px=box and tuple(value * factor for value in box),
        points_xy_px=points and tuple((x * factor, y * factor) for x, y in points),
    )
