# SPDX-License-Identifier: Apache-2.0
"""What a family's processor makes of a square image, reckoned without loading it.

The tests compare each rule with the processor's own class.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Resizing(Protocol):
    """A family's rule for a square of ``side_px``."""

    def seen_px(self, side_px: int) -> int:
        """Side of the square that the image encoder sees."""

    def tokens(self, side_px: int) -> int:
        """Tokens that the image takes in the prompt, without marks around it."""

    def kept_px(self, side_px: int) -> tuple[int, ...]:
        """Sides next to ``side_px`` at which the image stays as it is, ascending."""

    def of_model(self, config: Mapping[str, Any]) -> Resizing:
        """The rule with the numbers of one model's ``config.json``."""


@dataclass(frozen=True)
class SmartResize:
    """Qwen's: sides become multiples of the patch grid, the area is kept within bounds.

    Attributes:
        factor_px: pixels of a token's side, a patch's times the merged ones.
        least_px2: fewer pixels are enlarged.
        most_px2: more pixels are shrunk; ``None`` without bound.
    """

    factor_px: int
    least_px2: int = 0
    most_px2: int | None = None

    def seen_px(self, side_px: int) -> int:
        """See :class:`Resizing`; as ``smart_resize`` of transformers."""
        factor = self.factor_px
        seen = round(side_px / factor) * factor
        if self.most_px2 is not None and seen * seen > self.most_px2:
            shrink = math.sqrt(side_px * side_px / self.most_px2)
            return max(factor, math.floor(side_px / shrink / factor) * factor)
        if seen * seen < self.least_px2:
            enlarge = math.sqrt(self.least_px2 / (side_px * side_px))
            return math.ceil(side_px * enlarge / factor) * factor
        return max(seen, factor)

    def tokens(self, side_px: int) -> int:
        """See :class:`Resizing`."""
        return (self.seen_px(side_px) // self.factor_px) ** 2

    def kept_px(self, side_px: int) -> tuple[int, ...]:
        """See :class:`Resizing`."""
        factor = self.factor_px
        lowest = math.ceil(math.sqrt(self.least_px2) / factor) * factor
        highest = math.inf
        if self.most_px2 is not None:
            highest = math.floor(math.sqrt(self.most_px2) / factor) * factor
        near = {side_px // factor * factor, -(-side_px // factor) * factor}
        return tuple(sorted({int(min(max(side, lowest, factor), highest)) for side in near}))

    def of_model(self, config: Mapping[str, Any]) -> SmartResize:
        """See :class:`Resizing`."""
        vision = config.get("vision_config") or {}
        patch, merge = vision.get("patch_size"), vision.get("spatial_merge_size", 2)
        return self if patch is None else dataclasses.replace(self, factor_px=patch * merge)


@dataclass(frozen=True)
class Tiles:
    """InternVL's: a grid of tiles, and all of it on one more tile where there are several.

    Attributes:
        tile_px: side of a tile.
        tile_tokens: tokens of a tile.
        most: tiles of the grid.
    """

    tile_px: int = 448
    tile_tokens: int = 256
    most: int = 12

    def seen_px(self, side_px: int) -> int:
        """See :class:`Resizing`: as many tiles as cover less than twice the image's area."""
        grids = [
            grid
            for grid in range(2, math.isqrt(self.most) + 1)
            if side_px * side_px > 0.5 * (grid * self.tile_px) ** 2
        ]
        return max([1, *grids]) * self.tile_px

    def tokens(self, side_px: int) -> int:
        """See :class:`Resizing`."""
        tiles = (self.seen_px(side_px) // self.tile_px) ** 2
        return self.tile_tokens * (tiles + (tiles > 1))

    def kept_px(self, side_px: int) -> tuple[int, ...]:
        """See :class:`Resizing`."""
        sides = [grid * self.tile_px for grid in range(1, math.isqrt(self.most) + 1)]
        below, above = [s for s in sides if s <= side_px], [s for s in sides if s >= side_px]
        return tuple(sorted({*below[-1:], *above[:1]}))

    def of_model(self, config: Mapping[str, Any]) -> Tiles:
        """See :class:`Resizing`."""
        side = (config.get("vision_config") or {}).get("image_size", self.tile_px)
        tile = side if isinstance(side, int) else side[0]
        tokens = config.get("image_seq_length", self.tile_tokens)
        return dataclasses.replace(self, tile_px=tile, tile_tokens=tokens)


@dataclass(frozen=True)
class FixedSize:
    """Gemma's: every image becomes one square.

    Attributes:
        side_px: its side.
        image_tokens: its tokens.
    """

    side_px: int = 896
    image_tokens: int = 256

    def seen_px(self, side_px: int) -> int:
        """See :class:`Resizing`."""
        return self.side_px

    def tokens(self, side_px: int) -> int:
        """See :class:`Resizing`."""
        return self.image_tokens

    def kept_px(self, side_px: int) -> tuple[int, ...]:
        """See :class:`Resizing`."""
        return (self.side_px,)

    def of_model(self, config: Mapping[str, Any]) -> FixedSize:
        """See :class:`Resizing`."""
        side = (config.get("vision_config") or {}).get("image_size", self.side_px)
        return FixedSize(side, config.get("mm_tokens_per_image", self.image_tokens))
