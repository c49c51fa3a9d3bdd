# SPDX-License-Identifier: Apache-2.0
"""Real DICOM images with their real defects, against SimpleITK."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import (
    Plane,
    Volume,
    choose_window,
    edge_letters,
    load_volume,
    slice_image,
    slice_mapping,
    write_mask,
)


@pytest.fixture(scope="module")
def ct_folder(shared_data: Path) -> Path:
    """JPEG 2000 files whose identifiers are empty."""
    return shared_data / "totalsegmentator" / "example_ct_dicom"


@pytest.fixture(scope="module")
def ct(ct_folder: Path) -> Volume:
    return load_volume(ct_folder)


@pytest.fixture(scope="module")
def itk_ct(ct_folder: Path) -> sitk.Image:
    return read_series(ct_folder)


def read_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def test_jpeg_2000_series_with_empty_identifiers_against_simpleitk(
    ct: Volume, itk_ct: sitk.Image
) -> None:
    assert np.array_equal(ct.array, sitk.GetArrayViewFromImage(itk_ct).transpose(2, 1, 0))
    for index in ((0, 0, 0), (511, 0, 0), (0, 511, 0), (0, 0, 19)):
        expected = itk_ct.TransformIndexToPhysicalPoint(index)
        assert (ct.ijk_to_lps @ (*index, 1))[:3] == pytest.approx(expected, abs=1e-6)
    assert ct.modality == "CT"
    assert ct.spacing_ijk_mm[2] == 2  # Slice Thickness says 3
    assert "Patient ID" in ct.warnings[0]
    assert ct.stored_window is not None
    assert (ct.stored_window.center, ct.stored_window.width) == (40, 300)


def test_series_covers_the_grid_of_its_nifti_segmentation(ct: Volume, shared_data: Path) -> None:
    """The NIfTI was stored with J turned round, so voxel (i, j, k) is (i, 511 - j, k) there."""
    labels = load_volume(shared_data / "totalsegmentator" / "example_seg_dicom.nii.gz")
    assert labels.shape_ijk == ct.shape_ijk
    for i, j, k in ((0, 0, 0), (511, 511, 19), (100, 300, 7)):
        there = labels.ijk_to_lps @ (i, 511 - j, k, 1)
        assert ct.ijk_to_lps @ (i, j, k, 1) == pytest.approx(there, abs=2e-3)
    liver, vertebra = labels.array[:, ::-1] == 5, labels.array[:, ::-1] == 33
    assert 0 < np.median(ct.array[liver]) < 200
    assert np.median(ct.array[vertebra]) > 100


def test_a_mask_written_as_nifti_lies_on_the_series_for_simpleitk(
    ct: Volume, itk_ct: sitk.Image, tmp_path: Path
) -> None:
    mask = ct.array > 200
    written = sitk.ReadImage(str(write_mask(mask, ct, tmp_path / "mask.nii.gz")))
    # raises unless both occupy the same physical space
    statistics = sitk.LabelIntensityStatisticsImageFilter()
    statistics.Execute(written, sitk.Cast(itk_ct, sitk.sitkFloat32))
    assert statistics.GetMinimum(1) == 201
    assert statistics.GetNumberOfPixels(1) == mask.sum()


def test_series_with_an_empty_character_set_against_simpleitk(shared_data: Path) -> None:
    folder = shared_data / "dcmqi" / "ct-3slice"
    volume = load_volume(folder)
    image = read_series(folder)
    assert np.array_equal(volume.array, sitk.GetArrayViewFromImage(image).transpose(2, 1, 0))
    last = image.TransformIndexToPhysicalPoint((511, 511, 2))
    assert (volume.ijk_to_lps @ (511, 511, 2, 1))[:3] == pytest.approx(last, abs=1e-6)


def test_series_with_a_slice_taken_away_is_refused(ct_folder: Path, tmp_path: Path) -> None:
    files = sorted(ct_folder.iterdir())
    for path in (*files[:9], *files[10:]):
        shutil.copy(path, tmp_path)
    with pytest.raises(UnreadableImageError, match=r"the distance is 4.00 mm, usual are 2.00 mm"):
        load_volume(tmp_path)


def test_monochrome1_radiograph_shows_bone_white(shared_data: Path) -> None:
    volume = load_volume(shared_data / "highdicom" / "dx_image.dcm")
    assert volume.inverted
    assert volume.is_picture
    assert volume.modality == "DX"
    mapping = slice_mapping(volume, Plane.ACQUIRED, 0)
    shown = slice_image(volume, mapping, choose_window(volume)).pixels
    # SimpleITK inverts MONOCHROME1 while reading
    assert np.array_equal(shown, sitk.GetArrayFromImage(sitk.ReadImage(str(volume.source)))[0])
    assert np.array_equal(volume.array[:, :, 0].T, 255 - shown)
    assert shown[0, -1] < 30  # air beside the animal
    assert shown[73:82, 18:27].min() > 140  # the shoulder
    assert mapping.spacing_xy_mm == (1.201199999999, 1.2)
    assert edge_letters(volume, mapping) == ("R", "L", "H", "F")


def test_single_ct_slice_against_simpleitk(shared_data: Path) -> None:
    path = shared_data / "highdicom" / "ct_image.dcm"
    volume, image = load_volume(path), sitk.ReadImage(str(path))
    assert np.array_equal(volume.array, sitk.GetArrayViewFromImage(image).transpose(2, 1, 0))
    assert volume.ijk_to_lps[:3, 3] == pytest.approx(image.GetOrigin())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dcmqi/liver.dcm", "segmentation"),
        ("dcmqi/sr-example/sr.dcm", "document without pixels"),
        ("highdicom/seg_image_sm_control_labelmap.dcm", "segmentation"),
    ],
)
def test_segmentations_and_reports_are_no_images(name: str, kind: str, shared_data: Path) -> None:
    with pytest.raises(UnreadableImageError, match=f"is a {kind}"):
        load_volume(shared_data / name)
