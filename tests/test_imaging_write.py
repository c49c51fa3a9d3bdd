# SPDX-License-Identifier: Apache-2.0
"""Masks written here and read back by nibabel and SimpleITK."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy.spatial.transform import Rotation

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Volume, load_volume, write_mask

SPACING = (0.7, 1.3, 4.0)
ROTATION = Rotation.from_euler("xyz", (12, -7, 25), degrees=True).as_matrix()
ORIENTATIONS = [
    np.eye(3)[:, list(axes)] * signs
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1.0, -1.0), repeat=3)
]


def volume_with(direction: np.ndarray) -> Volume:
    affine = np.eye(4)
    affine[:3, :3] = direction * SPACING
    affine[:3, 3] = (-120.4, 33.3, 841.7)
    return Volume(np.zeros((7, 5, 6), np.int16), affine, "CT", "k", Path("image"))


def random_mask(volume: Volume) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2, volume.shape_ijk).astype(np.uint8)


def corners(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*[(0, length - 1) for length in shape]))


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_a_mask_lies_on_the_images_grid_for_simpleitk(
    direction: np.ndarray, tmp_path: Path
) -> None:
    volume = volume_with(ROTATION @ direction)
    mask = random_mask(volume)
    for name in ("mask.nii.gz", "mask.nrrd", "mask.mha"):
        image = sitk.ReadImage(str(write_mask(mask, volume, tmp_path / name)))
        assert image.GetPixelID() == sitk.sitkUInt8
        assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), mask)
        for index in corners(mask.shape):
            there = image.TransformIndexToPhysicalPoint(index)
            assert there == pytest.approx((volume.ijk_to_lps @ (*index, 1))[:3], abs=1e-3)


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_a_nifti_mask_has_the_world_of_nibabel_in_both_forms(
    direction: np.ndarray, tmp_path: Path
) -> None:
    volume = volume_with(ROTATION @ direction)
    image = nibabel.load(write_mask(random_mask(volume), volume, tmp_path / "mask.nii"))
    ras = volume.ijk_to_lps * np.array([[-1], [-1], [1], [1]])
    for form in (image.get_sform(), image.get_qform()):
        assert form == pytest.approx(ras, abs=1e-3)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    "name", ["mask.nii.gz", "mask.nii", "mask.nrrd", "mask.seg.nrrd", "mask.mha"]
)
@pytest.mark.parametrize(
    ("dtype", "pixel"),
    [("uint16", sitk.sitkUInt16), ("int32", sitk.sitkInt32), ("float32", sitk.sitkFloat32)],
)
def test_the_voxels_have_the_type_asked_for(
    name: str, dtype: str, pixel: int, tmp_path: Path
) -> None:
    volume = volume_with(ROTATION)
    mask = random_mask(volume)
    image = sitk.ReadImage(str(write_mask(mask, volume, tmp_path / name, dtype=dtype)))
    assert image.GetPixelID() == pixel
    assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), mask)


@pytest.mark.parametrize(
    ("name", "raw", "packed"),
    [
        ("mask.nrrd", b"encoding: raw\n", b"encoding: gzip\n"),
        ("mask.mha", b"CompressedData = False\n", b"CompressedData = True\n"),
    ],
)
def test_voxels_are_compressed_unless_asked_otherwise(
    name: str, raw: bytes, packed: bytes, tmp_path: Path
) -> None:
    volume = volume_with(ROTATION)
    mask = random_mask(volume)
    assert packed in write_mask(mask, volume, tmp_path / name).read_bytes()
    assert raw in write_mask(mask, volume, tmp_path / name, compress=False).read_bytes()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_shear_of_a_tilted_gantry_is_written_and_read_back(suffix: str, tmp_path: Path) -> None:
    tilted = np.array([[1, 0, 0], [0, 1, 0.6], [0, 0, 0.8]])
    volume = volume_with(tilted)
    mask = random_mask(volume)
    again = load_volume(write_mask(mask, volume, tmp_path / f"mask{suffix}"))
    assert again.ijk_to_lps == pytest.approx(volume.ijk_to_lps, abs=1e-4)
    assert np.array_equal(again.array, mask)
    assert again.warnings == ()


# A gantry tilted by the angle of a 3-4-5 triangle, and directions that are rounded to 3 decimals.
UNEVEN = {
    "tilted": np.array([[1, 0, 0], [0, 1, 0.6], [0, 0, 0.8]]),
    "tilted and turned": ROTATION @ np.array([[1, 0, 0], [0, 1, -0.6], [0, 0, 0.8]]),
    "tilted and mirrored": np.array([[1, 0, 0], [0, 1, 0.6], [0, 0, -0.8]]),
    "rounded": np.round(ROTATION, 3),
}


@pytest.mark.parametrize("kind", UNEVEN)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_axes_that_are_not_at_right_angles_are_read_by_every_library(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    volume = volume_with(UNEVEN[kind])
    mask = random_mask(volume)
    path = write_mask(mask, volume, tmp_path / f"mask{suffix}")
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), mask)
    middle = [(length - 1) / 2 for length in mask.shape]
    there = image.TransformContinuousIndexToPhysicalPoint(middle)
    assert there == pytest.approx((volume.ijk_to_lps @ (*middle, 1))[:3], abs=1e-3)
    if suffix.startswith(".nii"):
        ras = volume.ijk_to_lps * np.array([[-1], [-1], [1], [1]])
        assert nibabel.load(path).affine == pytest.approx(ras, abs=1e-4)


def test_itk_gets_the_slices_of_a_tilted_gantry_stacked_straight(tmp_path: Path) -> None:
    volume = volume_with(UNEVEN["tilted"])
    image = sitk.ReadImage(str(write_mask(random_mask(volume), volume, tmp_path / "mask.nii")))
    assert np.reshape(image.GetDirection(), (3, 3)) == pytest.approx(np.eye(3), abs=1e-6)
    assert image.GetSpacing() == pytest.approx((0.7, 1.3, 4 * 0.8), abs=1e-5)


def test_the_mask_of_a_picture_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "photo.png")
    volume = load_volume(tmp_path / "photo.png")
    mask = np.zeros((7, 5, 1), dtype=bool)
    mask[6, 2] = True
    with Image.open(write_mask(mask, volume, tmp_path / "mask.png")) as written:
        assert (written.size, written.mode) == ((7, 5), "L")
        assert written.getpixel((6, 2)) == 255
        assert np.count_nonzero(written) == 1


def test_an_existing_mask_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    volume = volume_with(np.eye(3))
    for value in (0, 1):
        write_mask(np.full(volume.shape_ijk, value, np.uint8), volume, tmp_path / "mask.nii.gz")
    assert load_volume(tmp_path / "mask.nii.gz").array.all()
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]


def test_a_failed_write_keeps_the_old_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = volume_with(np.eye(3))
    target = write_mask(random_mask(volume), volume, tmp_path / "mask.nii.gz")
    before = target.read_bytes()

    def full_disk(image: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(nibabel, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_mask(random_mask(volume), volume, target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mask.nii.gz"]


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    volume = volume_with(np.eye(3))
    good = random_mask(volume)
    cases = [
        (good[:-1], "mask.nii.gz", r"mask has shape \(6, 5, 6\), the image \(7, 5, 6\)"),
        (good.astype(np.float32), "mask.nii.gz", "float32 values"),
        (good.astype(np.int16) * 300, "mask.nii.gz", "from 0 to 300"),
        (good, "mask.jpg", r"cannot be written as '.jpg'; expected one of .nii.gz"),
        (good, "mask", "a file without suffix"),
        (good, "mask.png", r"PNG holds one slice .* this image has 6 slice\(s\)"),
    ]
    for mask, name, reason in cases:
        with pytest.raises(InputError, match=reason):
            write_mask(mask, volume, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_has_no_png_mask(tmp_path: Path) -> None:
    clip = replace(volume_with(np.eye(3)), is_picture=True)
    with pytest.raises(InputError, match=r"Write the mask as \.nii\.gz"):
        write_mask(random_mask(clip), clip, tmp_path / "mask.png")
