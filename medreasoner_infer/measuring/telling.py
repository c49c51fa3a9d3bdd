# SPDX-License-Identifier: Apache-2.0
"""Sizes as a reader reads them: mm, mm² or cm², ml; pixels where the image tells no scale."""

from __future__ import annotations

from medreasoner_infer.language.follow_up_words import Quantity
from medreasoner_infer.measuring.measured import Diameter, Measured

MM2_PER_CM2 = 100.0
NO_SPREAD = "One answer was drawn, so that no error bar can be told; ask for several."
ONE_SLICE = "The mask covers one slice, which tells no volume; ask through the volume for that."


def tell_sizes(measured: Measured, quantity: Quantity = "size") -> str:
    """What was measured as sentences, that which was asked for first."""
    told = {
        "diameter": f"Longest diameter {_length(measured.longest)}, "
        f"{_length(measured.perpendicular)} at right angles to it.",
        "area": f"Area on this slice {_area(measured)}.",
        "volume": _volume(measured),
    }
    first = {"length": "diameter", "width": "diameter", "size": "diameter"}.get(quantity, quantity)
    order = [first, *(name for name in told if name != first)]
    return " ".join([*(told[name] for name in order), *_notes(measured)])


def _notes(measured: Measured) -> list[str]:
    notes = []
    if measured.answers:
        notes.append(f"±: standard deviation by the boxes of {measured.answers} answers.")
    else:
        notes.append(NO_SPREAD)
    if measured.longest.length_mm is None:
        notes.append("The image does not tell its scale, so that sizes are in pixels.")
    if measured.parts > 1:
        notes.append(f"The mask has {measured.parts} parts here; the diameters span them all.")
    return notes


def _length(diameter: Diameter) -> str:
    length, unit = diameter.length_mm, "mm"
    if length is None:
        length, unit = diameter.length_px, "px"
    return f"{length:.1f}{_deviation(diameter.deviation)} {unit}"


def _area(measured: Measured) -> str:
    area, deviation = measured.area_mm2, measured.area_deviation
    if area is None:
        return f"{measured.area_px}{_deviation(deviation, 0)} px"
    if area < MM2_PER_CM2:
        return f"{area:.1f}{_deviation(deviation)} mm²"
    in_cm2 = None if deviation is None else deviation / MM2_PER_CM2
    return f"{area / MM2_PER_CM2:.1f}{_deviation(in_cm2)} cm²"


def _volume(measured: Measured) -> str:
    if measured.volume_ml is not None:
        digits = 1 if measured.volume_ml >= 1 else 3
        return f"Volume {measured.volume_ml:.{digits}f} ml on {measured.slices} slices."
    if measured.longest.length_mm is None:
        return f"{measured.voxels} voxels."
    return ONE_SLICE if measured.slices == 1 else "Such slices make no volume."


def _deviation(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f" ± {value:.{digits}f}"
