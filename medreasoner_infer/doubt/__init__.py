# SPDX-License-Identifier: Apache-2.0
"""Where the model doubts: an answer read again, by samples and by slightly changed views."""

from __future__ import annotations

from medreasoner_infer.doubt.calibration import DoubtCalibration, doubt_calibration_path
from medreasoner_infer.doubt.looks import Asked, Look, looks_at
from medreasoner_infer.doubt.measuring import measure_doubt
from medreasoner_infer.doubt.views import VIEWS, View

__all__ = [
    "VIEWS",
    "Asked",
    "DoubtCalibration",
    "Look",
    "View",
    "doubt_calibration_path",
    "looks_at",
    "measure_doubt",
]
