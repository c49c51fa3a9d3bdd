# SPDX-License-Identifier: Apache-2.0
"""How a model writes places on its image, and the way to reasoner px and back.

Everything but the text that a model reads and writes is in reasoner px: requests, groundings, data
sets, rewards and records.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
# Also as a text, with its unit. Each space can be read in one way only, so that none is read twice.
_ITEM = rf"(?:[\"']\s*)?{_NUMBER}\s*(?:px\s*)?(?:[\"']\s*)?"
_NUMBERS = re.compile(rf"(?<=\[)\s*{_ITEM}(?:,\s*{_ITEM})*")
_PAIRS = (2, 4)
_PRECISION = 12

N = TypeVar("N", int, float)


@dataclass(frozen=True)
class Coordinates:
    """A family's convention for numbers in the answer.

    Attributes:
        steps: what the side of the image counts; ``None`` where the numbers are pixels of it.
        y_first: whether y stands before x, in boxes and points.
        unit: of the numbers, in the plural, for prompts.
        sentence: what a prompt says of them; may hold ``{size}``, the image's side in px.
    """

    steps: int | None
    y_first: bool
    unit: str
    sentence: str

    @property
    def corners(self) -> str:
        """The box of the prompt's example, without brackets."""
        return "y1, x1, y2, x2" if self.y_first else "x1, y1, x2, y2"

    @property
    def point(self) -> str:
        """A point of the prompt's example, without brackets."""
        return "y, x" if self.y_first else "x, y"


_THOUSANDTHS = (
    "All values are whole thousandths of the image's side, counted from its upper left corner: 0 "
    "is its left or upper edge, 1000 its right or lower edge."
)
PIXELS = Coordinates(
    None,
    False,
    "pixels",
    "All values are whole pixels of this {size} x {size} image, counted from its upper left "
    "corner.",
)
THOUSANDTHS = Coordinates(1000, False, "thousandths", _THOUSANDTHS)
THOUSANDTHS_Y_FIRST = Coordinates(
    1000, True, "thousandths", f"{_THOUSANDTHS} In each pair the vertical value comes first."
)


@dataclass(frozen=True)
class AnswerFrame:
    """A model's convention on the square that it is sent.

    Attributes:
        side_px: side of the square, in reasoner px.
        coordinates: the convention.
    """

    side_px: int
    coordinates: Coordinates = PIXELS

    @property
    def units(self) -> int:
        """What the side counts in the model's text."""
        return self.coordinates.steps or self.side_px

    @property
    def is_reasoner_px(self) -> bool:
        """Whether the model's text needs no conversion."""
        return self.units == self.side_px and not self.coordinates.y_first

    def read(self, numbers: Sequence[float]) -> list[float]:
        """x and y in turn in reasoner px, of numbers that the model wrote."""
        return self.ordered([value * self.side_px / self.units for value in numbers])

    def ordered(self, pairs: Sequence[N]) -> list[N]:
        """x and y in turn in the order in which the model writes them, and the other way round."""
        if not self.coordinates.y_first:
            return list(pairs)
        return [value for x, y in zip(pairs[::2], pairs[1::2], strict=True) for value in (y, x)]

    def in_px(self, completion: str) -> str:
        """A model's text with the numbers of its answer in reasoner px.

        Each list of two or four numbers behind the trace is converted, well formed or not; the
        trace and all else stay as the model wrote them, so that what could not be read before
        cannot be read now.
        """
        if self.is_reasoner_px:
            return completion
        start = _answer_start(completion)
        return completion[:start] + _NUMBERS.sub(self._restated, completion[start:])

    def _restated(self, found: re.Match[str]) -> str:
        text = found.group()
        written = [float(number) for number in re.findall(_NUMBER, text)]
        if len(written) not in _PAIRS or not all(map(math.isfinite, written)):
            return text
        values = iter(self.read(written))
        return re.sub(_NUMBER, lambda _: f"{next(values):.{_PRECISION}g}", text)


def _answer_start(completion: str) -> int:
    """Where the trace has ended."""
    closed = completion.find("</think>")
    return closed if closed >= 0 else max(completion.find("<answer>"), 0)
