# SPDX-License-Identifier: Apache-2.0
"""Grey-level windows: how modality values (HU, MR intensity, ...) become 8-bit grey.

The mapping is DICOM's LINEAR_EXACT (PS3.3 C.11.2.1.3.2), which is plain linear:
``center - width/2`` becomes black and ``center + width/2`` becomes white. DICOM's default LINEAR
(C.11.2.1.2.1) differs by half a stored value and is undefined for widths below 1, which
real-valued MR needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import InputError

# Lowest and highest modality value, both included.
ValueRange = tuple[float, float]
PERCENTILES = (0.5, 99.5)
# A constant filled in around an image: so many of the voxels have it, and it is further from all
# others than so many times what these span.
_LEAST_FILL_SHARE, _LEAST_FILL_SPANS = 0.01, 4
_HIGHEST_OF_16_BITS = (32767, 65535)
_MAX_PERCENTILE_SAMPLES = 2_000_000
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_CENTER_WIDTH = re.compile(
    rf"(?:c(?:enter)?\s*=\s*)?({_NUMBER})\s*[/,;]\s*(?:w(?:idth)?\s*=\s*)?({_NUMBER})"
)


@dataclass(frozen=True)
class Window:
    """Window centre and width in modality values (HU for CT), and the name shown to people."""

    center: float
    width: float
    name: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.center) and math.isfinite(self.width) and self.width > 0):
            raise InputError(
                f"A window needs a finite centre and a width above 0, got centre {self.center} "
                f"and width {self.width}. Give for example '40/400'."
            )

    @property
    def lower(self) -> float:
        """The value at and below which the display is black."""
        return self.center - self.width / 2

    @property
    def upper(self) -> float:
        """The value at and above which the display is white."""
        return self.center + self.width / 2

    def __str__(self) -> str:
        """``soft tissue (C 40 / W 400)``; the name is left out where there is none."""
        values = f"C {self.center:g} / W {self.width:g}"
        return f"{self.name.replace('_', ' ')} ({values})" if self.name else values


# Common clinical settings, in HU; see Radiopaedia, "Windowing (CT)", article 52108.
CT_PRESETS: dict[str, Window] = {
    window.name: window
    for window in (
        Window(40, 400, "soft_tissue"),
        Window(-600, 1500, "lung"),
        Window(400, 1800, "bone"),
        Window(40, 80, "brain"),
        Window(30, 150, "liver"),
        Window(50, 350, "mediastinum"),
    )
}


def parse_window(spec: str | None) -> Window | None:
    """The window that a text names.

    Args:
        spec: a CT preset (``"lung"``), centre and width (``"40/400"``, ``"c=40,w=400"``), or
            ``None``, ``""`` or ``"auto"`` for "chosen by modality".

    Returns:
        The window, or ``None`` where the modality is to decide.

    Raises:
        InputError: the text is none of these.
    """
    text = (spec or "").strip().lower()
    if text in ("", "auto"):
        return None
    preset = CT_PRESETS.get(re.sub(r"[\s-]+", "_", text))
    if preset is not None:
        return preset
    match = _CENTER_WIDTH.fullmatch(text)
    if match is None:
        raise InputError(
            f"The window {spec!r} is not known. Expected one of {', '.join(CT_PRESETS)}, or centre "
            "and width such as '40/400' or 'c=40,w=400'."
        )
    return Window(float(match[1]), float(match[2]))


def percentile_window(values: NDArray[Any], padding: Iterable[ValueRange] = ()) -> Window:
    """The window from the 0.5th to the 99.5th percentile of the values that stand for tissue.

    These are neither zero nor padding nor a constant filled in around the image.

    Args:
        values: of any shape; large arrays are thinned out.
        padding: ranges of values that stand for no tissue.
    """
    sample = thinned(values)
    foreground = sample[sample != 0]
    for low, high in padding:
        foreground = foreground[(foreground < low) | (foreground > high)]
    foreground = _without_fill(foreground)
    lower, upper = np.percentile(foreground if foreground.size else sample, PERCENTILES)
    width = upper - lower
    name = f"{PERCENTILES[0]}–{PERCENTILES[1]} %"
    return Window(float(lower + upper) / 2, float(width) if width > 0 else 1.0, name)


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Values of an evenly spaced part of an array along each axis, about two million at most."""
    step = max(1, math.ceil((values.size / _MAX_PERCENTILE_SAMPLES) ** (1 / values.ndim)))
    return values[(slice(None, None, step),) * values.ndim]


def _without_fill(values: NDArray[Any]) -> NDArray[Any]:
    """Values without a constant that is filled in around the image.

    It is below zero or the highest of 16 bits. Below others that are not negative it is one at any
    distance, else where it lies far from them.
    """
    for fill in (values.min(initial=0), values.max(initial=0)):
        others = values[values != fill]
        many = others.size <= (1 - _LEAST_FILL_SHARE) * values.size
        if not (others.size and many and (fill < 0 or fill in _HIGHEST_OF_16_BITS)):
            continue
        lower, upper = np.percentile(others, PERCENTILES)
        gap = max(lower - float(fill), float(fill) - upper)
        if fill < 0 <= others.min() or gap > _LEAST_FILL_SPANS * (upper - lower):
            values = others
    return values


def apply_window(
    values: NDArray[Any], window: Window | None, inverted: bool = False
) -> NDArray[np.uint8]:
    """Map values of any shape to uint8 by LINEAR_EXACT (PS3.3 C.11.2.1.3.2).

    Args:
        values: modality values, any shape.
        window: see :class:`Window`; ``None`` takes 8-bit values as they are.
        inverted: the lowest value is to be white (MONOCHROME1, PS3.3 C.7.6.3.1.2).

    Returns:
        uint8 array of the same shape, rounded to the nearest grey level.

    Raises:
        InputError: no window is given and the values are not 8-bit.
    """
    if window is not None:
        scaled = (values.astype(np.float32) - window.lower) * (255.0 / window.width)
        grey = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    elif values.dtype == np.uint8:
        grey = values.copy()
    else:
        raise InputError(f"Values of type {values.dtype} need a window; only uint8 does without.")
    return np.uint8(255) - grey if inverted else grey
