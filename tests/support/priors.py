# SPDX-License-Identifier: Apache-2.0
"""Studies of one patient to compare, and a pipeline that finds what is known to be there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from medreasoner_infer.imaging import Plane
from medreasoner_infer.slice_choice import fixed_choice, plane_of
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

SHAPE_KJI = (12, 40, 40)
PLACE_LPS_MM = (30.0, 28.0, 20.0)


class OnePipeline:
    """Finds a cube of 10 voxels in what was asked first, and one of 6 in what was asked next."""

    def __init__(self, answered) -> None:
        self._answered = answered
        self.requests = []
        self.second_looks = []

    def ask(self, volume, request, hooks=None):
        self.requests.append(request)
        side = 10 if len(self.requests) % 2 else 6
        mask = np.zeros(volume.shape_ijk, np.uint8)
        mask[15 : 15 + side, 14 : 14 + side, 4 : 4 + side // 2] = 1
        chosen = fixed_choice(volume, plane_of(volume, request.selection), request.selection, ())
        name = f"inference-{len(self.requests)}"
        return self._answered(volume, Plane.AXIAL, chosen[0], mask, name=name)

    def segment(self, volume, request, hooks=None):
        """The same cubes again."""
        self.second_looks.append(request)
        side = 6 if len(self.second_looks) % 2 else 10
        mask = np.zeros(volume.shape_ijk, np.uint8)
        mask[15 : 15 + side, 14 : 14 + side, 4 : 4 + side // 2] = 1
        return self._answered(volume, Plane.AXIAL, request.selection.index, mask, name="second")


def write_series(folder: Path, seed: int, patient: str, date: str, part: str = "ABDOMEN") -> str:
    """An ellipse of water in air; returns the Series Instance UID. One frame of reference."""
    j, i = np.mgrid[:40, :40]
    inside = np.hypot((i - 20) / 17, (j - 19) / 14) < 1
    hu = np.broadcast_to(np.where(inside, 40, -1000), SHAPE_KJI)
    grid = CtGrid((1.5, 1.5, 4.0), (0, 0, 0), np.eye(3))
    write_ct_series(hu, grid, folder, seed=seed)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.PatientID, header.StudyDate, header.BodyPartExamined = patient, date, part
        header.FrameOfReferenceUID = "1.2.3.4"
        header.SeriesDescription = f"series {seed}"
        header.save_as(path)
    return str(header.SeriesInstanceUID)
