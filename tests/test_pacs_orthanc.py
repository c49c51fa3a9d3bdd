# SPDX-License-Identifier: Apache-2.0
"""Images of a real Orthanc, read by its DICOMweb services."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, JPEG2000Lossless, generate_uid

pytest.importorskip("monailabel")

from monailabel_app.framework import settings
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.volumes import read_volume

pytestmark = pytest.mark.slow


@pytest.fixture
def studies(orthanc, tmp_path: Path, monkeypatch) -> PacsStudies:
    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    return PacsStudies.connect(orthanc.dicom_web)


def send(orthanc, images: Iterable[pydicom.Dataset]) -> None:
    for image in images:
        content = io.BytesIO()
        image.save_as(content, write_like_original=False)
        orthanc.store(content.getvalue())


def jpeg_2000_ct(folder: Path) -> list[pydicom.Dataset]:
    """The real CT with the identifiers that de-identification has emptied; pixels untouched."""
    study, series = generate_uid(), generate_uid()
    images = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    for image in images:
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SOPClassUID, image.PatientID = CTImageStorage, "jpeg2000"
    return images


def test_jpeg_2000_of_orthanc_is_read_as_another_library_reads_it(
    orthanc, studies, shared_data
) -> None:
    """Debian's Orthanc cannot decode JPEG 2000, so it must be asked for what it has."""
    folder = shared_data / "totalsegmentator" / "example_ct_dicom"
    images = jpeg_2000_ct(folder)
    assert {image.file_meta.TransferSyntaxUID for image in images} == {JPEG2000Lossless}
    send(orthanc, images)
    source = studies.image_source(images[0].SeriesInstanceUID)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))  # GDCM has its own OpenJPEG
    expected = reader.Execute()
    expected_hu_ijk = sitk.GetArrayFromImage(expected).transpose(2, 1, 0)
    volume = read_volume(source)
    np.testing.assert_array_equal(volume.array, expected_hu_ijk)
    assert volume.ijk_to_lps[:3, 3] == pytest.approx(expected.GetOrigin())
    np.testing.assert_array_equal(
        np.asarray(nibabel.load(source.path).dataobj), expected_hu_ijk
    )  # what viewers download
