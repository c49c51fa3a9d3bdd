# SPDX-License-Identifier: Apache-2.0
"""The anatomy of an average adult torso as tables.

Frames. The *body frame* is LPS in millimetres: x to the patient's left (the right of the displayed
image), y to the back, z to the head, with z = 0 at the pubic symphysis. The *cavity frame* (u, v)
is the body frame divided by the half width and half depth of the trunk's muscular wall at that
height: the wall is where the superelliptic norm of (u, v) is 1, u < 0 is the patient's right.

A structure is a :class:`Tube`: cross-sections at a few heights, linearly interpolated in between.
``anatomy.yaml`` lists them; values are typical positions from general anatomy, which every phantom
varies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib.resources import files

import yaml

from .tissues import Tissue


class Label(IntEnum):
    """Label values of a phantom's label map; 0 is everything that is never asked for."""

    BACKGROUND = 0
    RIGHT_LUNG = 1
    LEFT_LUNG = 2
    HEART = 3
    AORTA = 4
    LIVER = 5
    SPLEEN = 6
    STOMACH = 7
    GALLBLADDER = 8
    RIGHT_KIDNEY = 9
    LEFT_KIDNEY = 10
    PANCREAS = 11
    SPINE = 12
    BLADDER = 13
    VENA_CAVA = 14
    TRACHEA = 15
    LIVER_LESION = 16
    KIDNEY_CYST = 17
    LUNG_TUMOUR = 18
    PLEURAL_EFFUSION = 19


PARTS: dict[Label, tuple[Label, ...]] = {
    Label.LIVER: (Label.LIVER_LESION,),
}
"""Labels that belong to another target's mask as well (a lesion is part of its organ)."""

Station = tuple[float, float, float, float, float]
"""One cross-section: height z in mm, centre u, centre v, half width in u, half depth in v."""


@dataclass(frozen=True)
class Tube:
    """A structure with an elliptic cross-section that changes with height.

    ``exponent`` is that of the superellipse (2 is an ellipse, larger is boxier) and ``tilt_deg``
    turns the section clockwise as displayed. ``group`` names structures that vary together.
    """

    group: str
    tissue: Tissue
    label: Label
    stations: tuple[Station, ...]
    exponent: float = 2.0
    tilt_deg: float = 0.0


WALL_Z_MM = (-20.0, 40.0, 100.0, 170.0, 220.0, 290.0, 360.0, 430.0, 500.0, 560.0)
WALL_HALF_WIDTH_MM = (160.0, 168.0, 164.0, 148.0, 141.0, 146.0, 152.0, 152.0, 146.0, 122.0)
WALL_HALF_DEPTH_MM = (88.0, 96.0, 100.0, 98.0, 98.0, 107.0, 113.0, 112.0, 102.0, 84.0)
TOP_Z_MM = 550.0
ARCH_Z_MM = 508.0
"""Above this the aorta is its arch only."""

SPINE_Z_MM = (100.0, 140.0, 180.0, 250.0, 330.0, 420.0, 500.0, 560.0)
SPINE_V = (0.42, 0.34, 0.28, 0.30, 0.38, 0.45, 0.43, 0.33)
VERTEBRA_MM = 30.0


@dataclass(frozen=True)
class Anatomy:
    """All tubes, each part in painting order."""

    colon: tuple[Tube, ...]
    soft: tuple[Tube, ...]
    vessel: tuple[Tube, ...]
    chest: tuple[Tube, ...]

    @property
    def groups(self) -> list[str]:
        """Names of the groups of all tubes, sorted."""
        tubes = self.colon + self.soft + self.vessel + self.chest
        return sorted({tube.group for tube in tubes})

    @property
    def descending_aorta(self) -> Tube:
        """The aorta below its arch."""
        return next(tube for tube in self.vessel if tube.label == Label.AORTA)


def _station(z: float, u: float, v: float, ru: float, rv: float) -> Station:
    return z, u, v, ru, rv


def _tube(entry: dict) -> Tube:
    return Tube(
        entry["group"],
        Tissue[entry["tissue"]],
        Label[entry.get("label", "BACKGROUND")],
        tuple(_station(*map(float, station)) for station in entry["stations"]),
        float(entry.get("exponent", 2.0)),
        float(entry.get("tilt_deg", 0.0)),
    )


@cache
def average_anatomy() -> Anatomy:
    """Read ``anatomy.yaml`` (once)."""
    text = files(__package__).joinpath("anatomy.yaml").read_text(encoding="utf-8")
    tables = yaml.safe_load(text)
    return Anatomy(**{name: tuple(map(_tube, entries)) for name, entries in tables.items()})
