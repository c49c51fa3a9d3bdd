# SPDX-License-Identifier: Apache-2.0
"""A generated CT study as DICOM files, for trying the app without patient data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PATIENT_NAME = "Phantom^Quickstart"
SERIES_DESCRIPTION = "Generated phantom, no patient"
DEFAULT_SEED = 7

_RESCALE_INTERCEPT_HU = -1024
_MAX_STORED_VALUE = 4095
_DATE, _TIME = "20260101", "120000"


@dataclass(frozen=True)
class CtGrid:
    """The voxel grid of a CT volume.

    ``spacing_ijk_mm`` along columns, rows and slices; ``origin_lps_mm`` the centre of the first
    voxel; ``direction_lps`` (3, 3) with the unit vectors of I, J and K as columns.
    """

    spacing_ijk_mm: tuple[float, float, float]
    origin_lps_mm: tuple[float, float, float]
    direction_lps: np.ndarray


def write_quickstart_study(folder: Path, seed: int = DEFAULT_SEED) -> Path:
    """Write the study of ``seed`` below ``folder``; equal seeds make equal files.

    Returns:
        The folder of the series.
    """
    from medreasoner_training.embedded.phantom import torso_ct

    phantom = torso_ct(seed)
    grid = CtGrid(phantom.spacing_mm, phantom.origin_lps_mm, phantom.direction)
    return write_ct_series(phantom.hu, grid, folder / "phantom" / "ct", seed)


def write_ct_series(hu_kji: np.ndarray, grid: CtGrid, folder: Path, seed: int) -> Path:
    """Write a volume as a series of CT Image Storage (DICOM PS3.3 A.3), one file per slice.

    Args:
        hu_kji: (K, J, I), in HU; values outside -1024...3071 are clipped, as 12-bit scanners do.
        seed: all UIDs are derived from it.
    """
    import pydicom

    folder.mkdir(parents=True, exist_ok=True)
    stored = np.clip(np.rint(hu_kji) - _RESCALE_INTERCEPT_HU, 0, _MAX_STORED_VALUE)
    common = _common_header(stored.shape, grid, seed)
    for k, pixels in enumerate(stored.astype("<u2")):
        dataset = _slice_dataset(common, grid, k, seed)
        dataset.PixelData = pixels.tobytes()
        pydicom.dcmwrite(folder / f"{k + 1:04d}.dcm", dataset, write_like_original=False)
    return folder


def _uid(seed: int, *names: object) -> str:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["medreasoner-quickstart", str(seed), *map(str, names)])


def _common_header(shape_kji: Sequence[int], grid: CtGrid, seed: int) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.uid import CTImageStorage

    _, rows, columns = shape_kji
    header = Dataset()
    header.update(_patient_and_study(seed))
    header.SOPClassUID = CTImageStorage
    header.Modality = "CT"
    header.Manufacturer = "MedReasoner"
    header.SeriesInstanceUID = _uid(seed, "series")
    header.SeriesNumber = 1
    header.SeriesDescription = SERIES_DESCRIPTION
    header.FrameOfReferenceUID = _uid(seed, "frame of reference")
    header.PositionReferenceIndicator = ""
    header.PatientPosition = "HFS"
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    header.AcquisitionNumber = 1
    header.KVP = "120"
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = rows, columns
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = 0
    header.RescaleIntercept = _RESCALE_INTERCEPT_HU
    header.RescaleSlope = 1
    header.RescaleType = "HU"
    header.WindowCenter, header.WindowWidth = 40, 400
    column_mm, row_mm, slice_mm = grid.spacing_ijk_mm
    header.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    header.SliceThickness = _decimal(slice_mm)
    directions = itertools.chain(grid.direction_lps[:, 0], grid.direction_lps[:, 1])
    header.ImageOrientationPatient = [_decimal(value) for value in directions]
    return header


def _patient_and_study(seed: int) -> Dataset:
    from pydicom.dataset import Dataset

    header = Dataset()
    header.PatientName = PATIENT_NAME
    header.PatientID = f"QUICKSTART-{seed}"
    header.PatientBirthDate = ""
    header.PatientSex = "O"
    header.StudyInstanceUID = _uid(seed, "study")
    header.StudyDate = header.SeriesDate = header.ContentDate = _DATE
    header.StudyTime = header.SeriesTime = header.ContentTime = _TIME
    header.StudyID = "1"
    header.AccessionNumber = ""
    header.ReferringPhysicianName = ""
    header.StudyDescription = SERIES_DESCRIPTION
    return header


def _slice_dataset(common: Dataset, grid: CtGrid, k: int, seed: int) -> Dataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = common.copy()
    dataset.SOPInstanceUID = _uid(seed, "slice", k)
    dataset.InstanceNumber = k + 1
    position = (
        np.asarray(grid.origin_lps_mm) + k * grid.spacing_ijk_mm[2] * grid.direction_lps[:, 2]
    )
    dataset.ImagePositionPatient = [_decimal(value) for value in position]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    return dataset


def _decimal(value: float) -> str:
    """A Decimal String of at most 16 characters (DICOM PS3.5, 6.2)."""
    return f"{float(value):.9g}"


if __name__ == "__main__":
    import typer

    typer.run(write_quickstart_study)
