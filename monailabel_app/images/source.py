# SPDX-License-Identifier: Apache-2.0
"""Which file or series an image id stands for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ImageSource:
    """Where the voxels of an image are read from.

    Attributes:
        path: a file, or a folder that holds a DICOM series.
        image_id: the id in the datastore, ``None`` for an upload or a session.
        modality: DICOM code where the datastore knows it and the file may not say it.
        series_uid: which series of the folder.
        dicom_folder: folder with the DICOM files of the series, if the image is one.
        study_uid: Study Instance UID, where the datastore knows it.
        lasting: whether the file outlives the request, so that its volume is worth keeping.
    """

    path: Path
    image_id: str | None = None
    modality: str | None = None
    series_uid: str | None = None
    dicom_folder: Path | None = None
    study_uid: str | None = None
    lasting: bool = True
