# SPDX-License-Identifier: Apache-2.0
"""The anatomy of an average adult torso as tables.

Frames. The *body frame* is LPS in millimetres: x to the patient's left (the right of the displayed
image), y to the back, z to the head, with z = 0 at the pubic symphysis. The *cavity frame* (u, v)
is the body frame divided by the half width and half depth of the trunk's muscular wall at that
height: the wall is where the superelliptic norm of (u, v) is 1, u < 0 is the patient's right.

A structure is a :class:`Tube`: cross-sections at a few heights, linearly interpolated in between.
Values are typical positions from general anatomy; every phantom varies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

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

SPINE_Z_MM = (100.0, 140.0, 180.0, 250.0, 330.0, 420.0, 500.0, 560.0)
SPINE_V = (0.42, 0.34, 0.28, 0.30, 0.38, 0.45, 0.43, 0.33)
VERTEBRA_MM = 30.0


def _mirror(group: str, tube: Tube) -> Tube:
    """The same structure on the other side of the body."""
    stations = tuple((z, -u, v, ru, rv) for z, u, v, ru, rv in tube.stations)
    return Tube(group, tube.tissue, tube.label, stations, tube.exponent, -tube.tilt_deg)


_PSOAS = Tube(
    "right psoas",
    Tissue.MUSCLE,
    Label.BACKGROUND,
    (
        (20, -0.52, -0.28, 0.08, 0.10),
        (70, -0.48, -0.16, 0.11, 0.13),
        (120, -0.38, 0.10, 0.13, 0.16),
        (180, -0.29, 0.30, 0.13, 0.17),
        (240, -0.23, 0.38, 0.09, 0.12),
        (295, -0.18, 0.42, 0.03, 0.05),
    ),
)
_BACK_MUSCLE = Tube(
    "right back muscle",
    Tissue.MUSCLE,
    Label.BACKGROUND,
    (
        (90, -0.20, 0.82, 0.14, 0.10),
        (150, -0.24, 0.80, 0.22, 0.17),
        (250, -0.26, 0.80, 0.26, 0.19),
        (340, -0.24, 0.86, 0.24, 0.14),
        (420, -0.22, 0.93, 0.22, 0.08),
        (560, -0.22, 0.90, 0.22, 0.10),
    ),
    exponent=2.6,
)

SOFT_TUBES: tuple[Tube, ...] = (
    _PSOAS,
    _mirror("left psoas", _PSOAS),
    _BACK_MUSCLE,
    _mirror("left back muscle", _BACK_MUSCLE),
    Tube(
        "rectum",
        Tissue.BOWEL_CONTENT,
        Label.BACKGROUND,
        ((0, 0.0, 0.42, 0.09, 0.12), (60, 0.02, 0.48, 0.14, 0.15), (105, 0.06, 0.35, 0.10, 0.12)),
    ),
    Tube(
        "bladder",
        Tissue.URINE,
        Label.BLADDER,
        (
            (8, 0.0, -0.30, 0.08, 0.10),
            (25, 0.0, -0.30, 0.25, 0.28),
            (50, 0.0, -0.32, 0.32, 0.36),
            (78, 0.0, -0.32, 0.26, 0.30),
            (98, 0.0, -0.36, 0.06, 0.08),
        ),
        exponent=2.4,
    ),
    Tube(
        "stomach",
        Tissue.STOMACH_CONTENT,
        Label.STOMACH,
        (
            (232, 0.06, -0.52, 0.08, 0.08),
            (248, 0.10, -0.52, 0.24, 0.17),
            (272, 0.22, -0.48, 0.32, 0.22),
            (302, 0.34, -0.38, 0.30, 0.29),
            (335, 0.38, -0.16, 0.26, 0.38),
            (370, 0.40, 0.00, 0.24, 0.32),
            (388, 0.40, 0.02, 0.10, 0.12),
        ),
    ),
    Tube(
        "liver",
        Tissue.LIVER,
        Label.LIVER,
        (
            (200, -0.74, 0.05, 0.06, 0.18),
            (222, -0.72, 0.04, 0.17, 0.44),
            (258, -0.63, 0.00, 0.29, 0.64),
            (300, -0.54, -0.03, 0.42, 0.74),
            (340, -0.48, -0.04, 0.47, 0.80),
            (385, -0.45, -0.05, 0.48, 0.80),
            (425, -0.42, -0.05, 0.46, 0.70),
        ),
        exponent=2.3,
    ),
    Tube(
        "liver",
        Tissue.LIVER,
        Label.LIVER,
        (
            (268, -0.16, -0.58, 0.08, 0.10),
            (288, -0.10, -0.54, 0.30, 0.23),
            (315, -0.02, -0.48, 0.40, 0.32),
            (345, 0.05, -0.44, 0.48, 0.37),
            (380, 0.08, -0.42, 0.46, 0.36),
            (405, 0.04, -0.40, 0.20, 0.20),
        ),
        tilt_deg=8.0,
    ),
    Tube(
        "gallbladder",
        Tissue.BILE,
        Label.GALLBLADDER,
        (
            (232, -0.42, -0.52, 0.05, 0.07),
            (246, -0.42, -0.48, 0.11, 0.16),
            (270, -0.39, -0.38, 0.11, 0.17),
            (290, -0.35, -0.28, 0.05, 0.07),
        ),
    ),
    Tube(
        "spleen",
        Tissue.SPLEEN,
        Label.SPLEEN,
        (
            (242, 0.74, 0.26, 0.07, 0.14),
            (265, 0.72, 0.29, 0.16, 0.38),
            (305, 0.67, 0.33, 0.22, 0.48),
            (340, 0.62, 0.37, 0.23, 0.46),
            (372, 0.58, 0.40, 0.10, 0.18),
        ),
        exponent=2.2,
        tilt_deg=12.0,
    ),
    Tube(
        "duodenum",
        Tissue.BOWEL_CONTENT,
        Label.BACKGROUND,
        (
            (205, -0.10, 0.02, 0.10, 0.06),
            (225, -0.26, 0.00, 0.08, 0.11),
            (265, -0.25, -0.15, 0.08, 0.11),
        ),
    ),
    Tube(
        "pancreas",
        Tissue.PANCREAS,
        Label.PANCREAS,
        (
            (222, -0.14, -0.08, 0.05, 0.06),
            (240, -0.14, -0.14, 0.12, 0.14),
            (262, -0.09, -0.18, 0.13, 0.13),
            (280, -0.05, -0.17, 0.08, 0.08),
        ),
    ),
    Tube(
        "pancreas",
        Tissue.PANCREAS,
        Label.PANCREAS,
        (
            (252, 0.06, -0.16, 0.10, 0.05),
            (270, 0.18, -0.12, 0.27, 0.10),
            (292, 0.32, 0.00, 0.24, 0.09),
            (306, 0.40, 0.08, 0.08, 0.05),
        ),
        tilt_deg=22.0,
    ),
    Tube(
        "right kidney",
        Tissue.RENAL_CORTEX,
        Label.RIGHT_KIDNEY,
        (
            (196, -0.45, 0.22, 0.05, 0.07),
            (208, -0.45, 0.24, 0.15, 0.19),
            (232, -0.44, 0.28, 0.20, 0.26),
            (268, -0.41, 0.35, 0.20, 0.27),
            (292, -0.36, 0.41, 0.16, 0.21),
            (305, -0.35, 0.44, 0.05, 0.08),
        ),
        tilt_deg=-20.0,
    ),
    Tube(
        "left kidney",
        Tissue.RENAL_CORTEX,
        Label.LEFT_KIDNEY,
        (
            (208, 0.46, 0.22, 0.05, 0.07),
            (220, 0.46, 0.24, 0.15, 0.19),
            (245, 0.45, 0.28, 0.20, 0.26),
            (280, 0.42, 0.35, 0.20, 0.27),
            (305, 0.37, 0.41, 0.16, 0.21),
            (318, 0.36, 0.44, 0.05, 0.08),
        ),
        tilt_deg=20.0,
    ),
    Tube(
        "right adrenal",
        Tissue.SOFT,
        Label.BACKGROUND,
        ((290, -0.24, 0.24, 0.03, 0.06), (318, -0.24, 0.26, 0.02, 0.08)),
        tilt_deg=-15.0,
    ),
    Tube(
        "left adrenal",
        Tissue.SOFT,
        Label.BACKGROUND,
        ((290, 0.24, 0.18, 0.03, 0.07), (320, 0.26, 0.20, 0.03, 0.08)),
        tilt_deg=25.0,
    ),
)

VESSEL_TUBES: tuple[Tube, ...] = (
    Tube(
        "vena cava",
        Tissue.VEIN,
        Label.VENA_CAVA,
        (
            (165, -0.07, 0.07, 0.10, 0.08),
            (230, -0.12, 0.05, 0.09, 0.10),
            (300, -0.15, 0.01, 0.10, 0.11),
            (360, -0.17, -0.04, 0.10, 0.11),
            (398, -0.16, -0.10, 0.10, 0.12),
        ),
    ),
    Tube(
        "aorta",
        Tissue.ARTERY,
        Label.AORTA,
        (
            (165, 0.05, 0.10, 0.07, 0.09),
            (230, 0.06, 0.10, 0.075, 0.105),
            (300, 0.06, 0.14, 0.08, 0.11),
            (360, 0.08, 0.25, 0.085, 0.115),
            (420, 0.13, 0.38, 0.085, 0.115),
            (505, 0.14, 0.34, 0.09, 0.13),
        ),
    ),
    Tube(
        "portal vein",
        Tissue.VEIN,
        Label.BACKGROUND,
        (
            (255, -0.05, -0.08, 0.06, 0.06),
            (285, -0.12, -0.08, 0.06, 0.07),
            (320, -0.24, -0.10, 0.10, 0.06),
        ),
    ),
    Tube(
        "superior mesenteric",
        Tissue.VEIN,
        Label.BACKGROUND,
        ((175, -0.02, -0.25, 0.04, 0.05), (260, 0.00, -0.10, 0.05, 0.06)),
    ),
    Tube(
        "right iliac",
        Tissue.VEIN,
        Label.BACKGROUND,
        (
            (10, -0.40, -0.45, 0.07, 0.09),
            (90, -0.32, -0.05, 0.07, 0.10),
            (165, -0.08, 0.12, 0.07, 0.08),
        ),
    ),
    Tube(
        "left iliac",
        Tissue.VEIN,
        Label.BACKGROUND,
        (
            (10, 0.40, -0.45, 0.07, 0.09),
            (90, 0.32, -0.05, 0.07, 0.10),
            (165, 0.08, 0.12, 0.07, 0.08),
        ),
    ),
)

COLON_TUBES: tuple[Tube, ...] = (
    Tube(
        "ascending colon",
        Tissue.FAECES,
        Label.BACKGROUND,
        (
            (95, -0.58, -0.20, 0.14, 0.18),
            (125, -0.64, -0.12, 0.18, 0.26),
            (185, -0.70, -0.10, 0.17, 0.26),
            (238, -0.58, -0.40, 0.15, 0.20),
        ),
    ),
    Tube(
        "descending colon",
        Tissue.FAECES,
        Label.BACKGROUND,
        (
            (105, 0.62, -0.05, 0.09, 0.14),
            (170, 0.76, 0.10, 0.10, 0.16),
            (240, 0.78, 0.05, 0.11, 0.17),
            (285, 0.70, -0.20, 0.14, 0.22),
            (312, 0.66, -0.32, 0.12, 0.18),
        ),
    ),
    Tube(
        "transverse colon",
        Tissue.FAECES,
        Label.BACKGROUND,
        (
            (188, -0.05, -0.74, 0.18, 0.10),
            (210, -0.05, -0.74, 0.55, 0.15),
            (228, -0.02, -0.74, 0.60, 0.15),
            (246, 0.25, -0.70, 0.45, 0.15),
            (285, 0.50, -0.58, 0.22, 0.18),
            (305, 0.56, -0.50, 0.12, 0.10),
        ),
        exponent=2.6,
        tilt_deg=3.0,
    ),
)

CHEST_TUBES: tuple[Tube, ...] = (
    Tube(
        "mediastinum",
        Tissue.FAT,
        Label.BACKGROUND,
        (
            (350, 0.04, 0.30, 0.16, 0.30),
            (385, 0.08, -0.05, 0.32, 0.82),
            (440, 0.04, -0.05, 0.26, 0.85),
            (490, 0.00, -0.05, 0.24, 0.86),
            (570, 0.00, -0.05, 0.28, 0.90),
        ),
        exponent=2.4,
    ),
    Tube(
        "heart",
        Tissue.MYOCARDIUM,
        Label.HEART,
        (
            (368, 0.14, -0.38, 0.18, 0.14),
            (382, 0.18, -0.36, 0.38, 0.30),
            (408, 0.20, -0.30, 0.45, 0.44),
            (436, 0.17, -0.25, 0.43, 0.48),
            (462, 0.09, -0.22, 0.34, 0.44),
            (484, 0.03, -0.22, 0.22, 0.28),
        ),
        tilt_deg=25.0,
    ),
    Tube(
        "great vessels",
        Tissue.ARTERY,
        Label.BACKGROUND,
        ((470, -0.06, -0.24, 0.11, 0.16), (505, -0.05, -0.16, 0.11, 0.15)),
    ),
    Tube(
        "great vessels",
        Tissue.ARTERY,
        Label.BACKGROUND,
        ((468, 0.14, -0.22, 0.12, 0.16), (490, 0.12, -0.08, 0.12, 0.20)),
    ),
    Tube(
        "superior vena cava",
        Tissue.VEIN,
        Label.BACKGROUND,
        ((460, -0.19, -0.14, 0.07, 0.10), (540, -0.17, -0.22, 0.07, 0.10)),
    ),
    Tube(
        "aorta",
        Tissue.ARTERY,
        Label.AORTA,
        ((500, 0.07, 0.04, 0.10, 0.38), (522, 0.06, 0.00, 0.10, 0.30)),
        tilt_deg=-14.0,
    ),
    Tube(
        "neck vessels",
        Tissue.ARTERY,
        Label.BACKGROUND,
        ((520, -0.07, -0.16, 0.06, 0.09), (575, -0.14, -0.18, 0.06, 0.09)),
    ),
    Tube(
        "neck vessels",
        Tissue.ARTERY,
        Label.BACKGROUND,
        ((520, 0.12, 0.02, 0.06, 0.09), (575, 0.18, 0.00, 0.06, 0.09)),
    ),
    Tube(
        "oesophagus",
        Tissue.SOFT,
        Label.BACKGROUND,
        (
            (350, 0.07, 0.10, 0.06, 0.08),
            (410, 0.04, 0.24, 0.06, 0.08),
            (570, 0.03, 0.20, 0.06, 0.08),
        ),
    ),
    Tube(
        "trachea",
        Tissue.GAS,
        Label.TRACHEA,
        (
            (480, 0.00, 0.10, 0.08, 0.10),
            (490, -0.01, 0.08, 0.075, 0.11),
            (575, 0.00, 0.00, 0.075, 0.11),
        ),
    ),
    Tube(
        "main bronchi",
        Tissue.GAS,
        Label.BACKGROUND,
        ((460, -0.20, 0.14, 0.06, 0.07), (482, -0.06, 0.12, 0.05, 0.08)),
    ),
    Tube(
        "main bronchi",
        Tissue.GAS,
        Label.BACKGROUND,
        ((458, 0.22, 0.16, 0.06, 0.07), (482, 0.06, 0.12, 0.05, 0.08)),
    ),
)
