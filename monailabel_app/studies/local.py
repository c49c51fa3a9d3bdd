# SPDX-License-Identifier: Apache-2.0
"""A folder of studies: NIfTI, NRRD, MetaImage and picture files, and folders of DICOM series."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from monailabel_app.errors import UnknownImageError
from monailabel_app.framework import DataModel, ImageLabelModel, LocalDatastore
from monailabel_app.studies.dicom_folder import (
    NIFTI,
    DicomSeries,
    SeriesFinder,
    write_nifti_copy,
)
from monailabel_app.studies.source import ImageSource
from monailabel_app.studies.submissions import RemembersSubmissions

IMAGE_PATTERNS = (
    "*.nii.gz", "*.nii", "*.nrrd", "*.mha", "*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff", "*.bmp",
)  # fmt: skip
# The extension that marks a DICOM series in MONAI Label's list; labels never have it.
SERIES_EXTENSION = f".dicom{NIFTI}"


class StudiesFolder(RemembersSubmissions, LocalDatastore):
    """MONAI Label's folder of images and labels, and the DICOM series below it.

    A DICOM series is an image whose id is its Series Instance UID (or, where that is empty, made
    from its folder's name) and whose info holds its UIDs and modality. Viewers download a NIfTI
    copy of it from ``series_folder``; questions are answered on the DICOM files themselves, on the
    same voxel grid.
    """

    def __init__(
        self,
        studies: Path,
        series_folder: Path,
        *,
        auto_reload: bool = True,
        read_only: bool = False,
    ) -> None:
        self._studies = studies
        self._finder = SeriesFinder(studies)
        self._series_folder = series_folder
        super().__init__(
            str(studies), extensions=IMAGE_PATTERNS, auto_reload=auto_reload, read_only=read_only
        )

    def image_source(self, image_id: str) -> ImageSource:
        """Where the image's voxels are.

        Raises:
            UnknownImageError: if the studies hold no image of this id.
        """
        path = self.get_image_uri(image_id)
        if not path or not Path(path).is_file():
            raise UnknownImageError("The studies hold no image of this id; reload the list.")
        info = self.get_image_info(image_id)
        if "dicom_folder" not in info:
            return ImageSource(Path(path), image_id, modality=info.get("Modality"))
        folder = self._studies / info["dicom_folder"]
        return ImageSource(
            folder,
            image_id,
            series_uid=info["SeriesInstanceUID"],
            dicom_folder=folder,
            study_uid=info.get("StudyInstanceUID") or None,
        )

    def _filename(self, id: str, ext: str) -> str:
        if ext == SERIES_EXTENSION:
            return str(self._series_folder / f"{id}{NIFTI}")
        return super()._filename(id, ext)

    def _add_non_existing_images(self) -> int:
        changes: int = super()._add_non_existing_images()
        objects = self._datastore.objects
        listed = {i for i, known in objects.items() if known.image.ext == SERIES_EXTENSION}
        found = {
            series.image_id: series
            for series in self._finder.find()
            if write_nifti_copy(series, self._series_folder) is not None
        }
        for image_id in listed - found.keys():
            del objects[image_id]
            Path(self._filename(image_id, SERIES_EXTENSION)).unlink(missing_ok=True)
        for image_id in listed & found.keys():
            objects[image_id].image.info.update(self._place(found[image_id]))
        for image_id in found.keys() - listed:
            objects[image_id] = ImageLabelModel(
                image=DataModel(info=self._series_info(found[image_id]), ext=SERIES_EXTENSION)
            )
        return changes + len(listed ^ found.keys())

    def _series_info(self, series: DicomSeries) -> dict[str, Any]:
        return {
            "ts": int(time.time()),
            "name": f"{series.image_id}{NIFTI}",
            "SeriesInstanceUID": series.series_uid,
            "StudyInstanceUID": series.study_uid,
            "Modality": series.modality,
            **self._place(series),
        }

    def _place(self, series: DicomSeries) -> dict[str, str]:
        return {"dicom_folder": str(series.folder.relative_to(self._studies))}
