# SPDX-License-Identifier: Apache-2.0
"""Colours of segments: a stable one for each name, and as DICOM has them."""

from __future__ import annotations

import hashlib

import numpy as np

from monailabel_app.common.extras import needs_extra
from monailabel_app.store.records import RGB

with needs_extra("highdicom", "pacs"):
    from highdicom.color import CIELabColor

# Told apart in all common kinds of colour blindness (Okabe and Ito, 2008); as target.js has them.
PALETTE: tuple[RGB, ...] = (
    (221, 84, 84),
    (86, 180, 233),
    (240, 228, 66),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
)
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27


def stable_rgb(name: str) -> RGB:
    """The colour of a name, the same whenever it is asked for."""
    digest = hashlib.sha256(name.casefold().encode(errors="replace")).digest()
    return PALETTE[digest[0] % len(PALETTE)]


def cielab(rgb: RGB) -> tuple[int, int, int]:
    """A Recommended Display CIELab Value (PS3.3 C.10.7.1.1) of an sRGB colour.

    IEC 61966-2-1 and CIE 1976 with the white point D65, as viewers reverse it (dcmjs, DCMTK).
    """
    encoded = np.array(rgb) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    ratios = _RGB_TO_XYZ @ linear / _RGB_TO_XYZ.sum(axis=1)
    x, y, z = np.where(ratios > _EPSILON, np.cbrt(ratios), (_KAPPA * ratios + 16) / 116)
    lab = CIELabColor(float(np.clip(116 * y - 16, 0, 100)), 500 * (x - y), 200 * (y - z))
    return lab.value
