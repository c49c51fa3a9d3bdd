# SPDX-License-Identifier: Apache-2.0
"""The generated study is valid DICOM with the geometry and values that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

GRID = CtGrid((1.5, 2.0, 3.0), (-20.5, 7.25, 100.0), np.diag([1.0, 1.0, 1.0]))
HU_KJI = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6) * 10 - 500.4


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_ct_series(HU_KJI, GRID, tmp_path / "ct", seed=3)


def test_itk_reads_the_values_and_the_geometry(series) -> None:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    image = reader.Execute()
    np.testing.assert_allclose(image.GetSpacing(), (1.5, 2.0, 3.0))
    np.testing.assert_allclose(image.GetOrigin(), (-20.5, 7.25, 100.0))
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.rint(HU_KJI))


def test_every_file_is_valid_ct_image_storage_of_one_series(series) -> None:
    headers = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    assert len(headers) == 4
    assert {str(h.PatientName) for h in headers} == {"Phantom^Quickstart"}
    assert {h.SOPClassUID.name for h in headers} == {"CT Image Storage"}
    assert len({h.SeriesInstanceUID for h in headers}) == 1
    assert len({h.SOPInstanceUID for h in headers}) == 4
    assert all(h.file_meta.MediaStorageSOPInstanceUID == h.SOPInstanceUID for h in headers)


def test_equal_seeds_make_equal_files_and_others_other_uids(tmp_path, series) -> None:
    again = write_ct_series(HU_KJI, GRID, tmp_path / "again", seed=3)
    other = write_ct_series(HU_KJI, GRID, tmp_path / "other", seed=4)
    assert [p.read_bytes() for p in sorted(again.iterdir())] == [
        p.read_bytes() for p in sorted(series.iterdir())
    ]
    first = pydicom.dcmread(series / "0001.dcm")
    assert first.StudyInstanceUID != pydicom.dcmread(other / "0001.dcm").StudyInstanceUID


def test_highdicom_accepts_the_series_as_the_source_of_a_segmentation(series) -> None:
    seg = pytest.importorskip("highdicom.seg")
    sr = pytest.importorskip("highdicom")
    tissue = sr.sr.CodedConcept("85756007", "SCT", "Tissue")
    sources = [pydicom.dcmread(path) for path in sorted(series.iterdir())]
    segmentation = seg.Segmentation(
        source_images=sources,
        pixel_array=np.ones((4, 5, 6), dtype=np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[
            seg.SegmentDescription(1, "target", tissue, tissue, "MANUAL")
        ],
        series_instance_uid="1.2.3",
        series_number=2,
        sop_instance_uid="1.2.4",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )  # fmt: skip
    assert segmentation.StudyInstanceUID == sources[0].StudyInstanceUID


def test_values_beyond_twelve_bits_are_clipped(tmp_path) -> None:
    hu = np.full((1, 2, 2), 9000.0)
    hu[0, 0, 0] = -9000.0
    folder = write_ct_series(hu, GRID, tmp_path / "c", seed=0)
    slice_ = pydicom.dcmread(folder / "0001.dcm")
    assert slice_.pixel_array.tolist() == [[0, 4095], [4095, 4095]]
