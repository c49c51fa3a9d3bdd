# SPDX-License-Identifier: Apache-2.0
"""NIfTI, NRRD, MetaImage and pictures, written by other libraries and read here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import choose_window, load_volume

RAS = np.array([[-2.0, 0, 0, 10], [0, -3, 0, 20], [0, 0, 4, 30], [0, 0, 0, 1]])
VALUES = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)


def save_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = RAS) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def test_importing_the_package_loads_no_reader() -> None:
    heavy = ("nibabel", "SimpleITK", "pydicom", "PIL", "matplotlib", "scipy", "torch")
    code = f"import sys, medreasoner_infer.imaging; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz", "IMAGE.NII.GZ"])
def test_nifti_world_becomes_lps(name: str, tmp_path: Path) -> None:
    volume = load_volume(save_nifti(tmp_path / name, VALUES))
    assert volume.ijk_to_lps.tolist() == [
        [2, 0, 0, -10],
        [0, 3, 0, -20],
        [0, 0, 4, 30],
        [0] * 3 + [1],
    ]
    assert volume.spacing_ijk_mm == (2, 3, 4)
    assert volume.orientation == "LPS"
    assert np.array_equal(volume.array, VALUES)
    assert volume.array.dtype == np.int16
    assert volume.warnings == ()


def test_nifti_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, RAS)
    image.header.set_slope_inter(0.5, -10)
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "scaled.nii")
    raw = nibabel.load(tmp_path / "scaled.nii")
    assert (raw.dataobj.slope, raw.dataobj.inter) == (0.5, -10)
    assert load_volume(tmp_path / "scaled.nii").array == pytest.approx(raw.get_fdata())


def test_the_sform_wins_over_a_differing_qform_with_a_warning(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, RAS)
    image.set_sform(RAS, code=1)
    moved = RAS.copy()
    moved[0, 3] += 25
    image.set_qform(moved, code=1)
    nibabel.save(image, tmp_path / "two.nii")
    volume = load_volume(tmp_path / "two.nii")
    assert volume.ijk_to_lps[0, 3] == -10
    assert volume.warnings[0].startswith(
        "The NIfTI file holds two geometries that differ by up to 25.0"
    )


def test_the_qform_is_used_where_there_is_no_sform(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, None)
    image.set_qform(RAS, code=1)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "q.nii")
    volume = load_volume(tmp_path / "q.nii")
    assert volume.ijk_to_lps[:3, 3].tolist() == [-10, -20, 30]
    assert volume.warnings == ()


def test_nifti_without_orientation_is_read_with_a_warning(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, None)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nibabel.save(image, tmp_path / "nowhere.nii")
    assert "does not say how the patient lies" in load_volume(tmp_path / "nowhere.nii").warnings[0]


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("micron", 0.001), ("meter", 1000)])
def test_nifti_length_units_become_millimetres(unit: str, factor: float, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, RAS)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "unit.nii")
    assert load_volume(tmp_path / "unit.nii").spacing_ijk_mm == pytest.approx(
        (2 * factor, 3 * factor, 4 * factor)
    )


def test_one_time_point_is_a_volume_and_several_are_refused(tmp_path: Path) -> None:
    one = load_volume(save_nifti(tmp_path / "one.nii", VALUES[..., np.newaxis]))
    assert one.shape_ijk == (4, 5, 6)
    several = save_nifti(tmp_path / "several.nii", np.stack([VALUES, VALUES], axis=-1))
    with pytest.raises(UnreadableImageError, match=r"\(4, 5, 6, 2\).*time points.*Give one 3-D"):
        load_volume(several)


def test_colour_nifti(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    packed = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(4, 5, 6)
    volume = load_volume(save_nifti(tmp_path / "rgb.nii", packed))
    assert volume.is_colour
    assert np.array_equal(volume.array, rgb)


def test_nifti_shear_is_kept(tmp_path: Path) -> None:
    sheared = RAS.copy()
    sheared[1, 2] = 1.5
    volume = load_volume(save_nifti(tmp_path / "tilted.nii.gz", VALUES, sheared))
    assert volume.ijk_to_lps[1, 2] == -1.5


def test_voxels_without_a_number_become_zero_with_a_warning(tmp_path: Path) -> None:
    values = VALUES.astype(np.float32)
    values[0, 0, :3] = np.nan, np.inf, -np.inf
    volume = load_volume(save_nifti(tmp_path / "nan.nii", values))
    assert volume.array[0, 0, :3].tolist() == [0, 0, 0]
    assert volume.warnings == ("2.5 % of the voxels hold no number; they are shown as 0.",)


def test_values_are_kept_exactly_in_a_compact_type(tmp_path: Path) -> None:
    for dtype, kept in ((np.int32, np.int16), (np.uint16, np.int32), (np.uint8, np.uint8)):
        top = 65535 if dtype is np.uint16 else 100
        values = np.array([[[0, 1], [2, top]]], dtype=dtype)
        volume = load_volume(save_nifti(tmp_path / "v.nii", values))
        assert volume.array.dtype == kept
        assert np.array_equal(volume.array, values)


@pytest.mark.parametrize(("lowest", "expected"), [(-1000, "CT"), (-500, "CT"), (-499, "OT")])
def test_ct_is_guessed_from_hounsfield_values(lowest: int, expected: str, tmp_path: Path) -> None:
    values = VALUES.copy()
    values[0, 0] = lowest  # 6 of 120 voxels
    path = save_nifti(tmp_path / "v.nii", values)
    guessed, told = load_volume(path), load_volume(path, modality="mr")
    assert (guessed.modality, guessed.modality_guessed) == (expected, True)
    assert (told.modality, told.modality_guessed) == ("MR", False)


@pytest.mark.parametrize("name", ["image.nrrd", "image.nhdr", "image.mha", "image.mhd"])
def test_itk_formats_against_simpleitk(name: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VALUES.transpose(2, 1, 0))
    image.SetSpacing((0.5, 0.75, 3))
    image.SetOrigin((1, 2, 3))
    image.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
    sitk.WriteImage(image, str(tmp_path / name))
    volume = load_volume(tmp_path / name)
    assert np.array_equal(volume.array, VALUES)
    for index in ((0, 0, 0), (3, 4, 5), (1, 0, 2)):
        expected = image.TransformIndexToPhysicalPoint(index)
        assert (volume.ijk_to_lps @ (*index, 1))[:3] == pytest.approx(expected)
    assert volume.warnings == ()


@pytest.mark.parametrize("name", ["image.nrrd", "image.mha"])
def test_itk_formats_keep_shear(name: str, tmp_path: Path) -> None:
    image = sitk.Image([3, 3, 3], sitk.sitkInt16)
    image.SetDirection((1, 0, 0, 0, 1, 0.6, 0, 0, 0.8))
    image.SetSpacing((1, 1, 5))
    sitk.WriteImage(image, str(tmp_path / name))
    assert load_volume(tmp_path / name).ijk_to_lps[:3, 2] == pytest.approx([0, 3, 4])


def test_nrrd_in_ras_space_becomes_lps(tmp_path: Path) -> None:
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 2 2\n"
        "space directions: (-1,0,0) (0,-2,0) (0,0,3)\nkinds: domain domain domain\n"
        "encoding: raw\nspace origin: (10,20,30)\n\n"
    )
    (tmp_path / "slicer.nrrd").write_bytes(header.encode() + bytes(range(8)))
    volume = load_volume(tmp_path / "slicer.nrrd")
    assert volume.ijk_to_lps[:3].tolist() == [[1, 0, 0, -10], [0, 2, 0, -20], [0, 0, 3, 30]]
    assert volume.array[1, 0, 0] == 1
    assert volume.array[0, 0, 1] == 4


def test_nrrd_without_a_space_is_read_with_a_warning(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n"
    (tmp_path / "bare.nrrd").write_bytes(header.encode() + bytes(8))
    assert "does not say how the patient lies" in load_volume(tmp_path / "bare.nrrd").warnings[0]


def test_vector_images_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([3, 3, 3], sitk.sitkVectorFloat32, 3), str(tmp_path / "field.mha"))
    with pytest.raises(UnreadableImageError, match=r"3 value\(s\) per voxel"):
        load_volume(tmp_path / "field.mha")


def test_colour_png_keeps_its_pixels_and_axes(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "photo.png")
    volume = load_volume(tmp_path / "photo.png")
    assert volume.shape_ijk == (7, 5, 1)
    assert np.array_equal(volume.array[:, :, 0], rgb.swapaxes(0, 1))
    assert volume.is_picture
    assert not volume.spacing_known
    assert volume.modality == "OT"


def test_a_16_bit_png_is_windowed_by_percentiles(tmp_path: Path) -> None:
    grey = np.linspace(1, 60000, 400).astype(np.uint16).reshape(20, 20)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    volume = load_volume(tmp_path / "deep.png", modality="DX")
    assert np.array_equal(volume.array[:, :, 0].T, grey)
    window = choose_window(volume)
    assert window is not None
    low, high = np.percentile(grey, [0.5, 99.5])
    assert (window.lower, window.upper) == (pytest.approx(low), pytest.approx(high))


def test_a_jpeg_is_turned_upright(tmp_path: Path) -> None:
    image = Image.new("L", (40, 20))
    image.paste(255, (0, 0, 20, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    volume = load_volume(tmp_path / "phone.jpg")
    assert volume.shape_ijk == (20, 40, 1)
    assert volume.array[10, 5, 0] > 250
    assert volume.array[10, 35, 0] < 5


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "CMYK"])
def test_other_picture_kinds_become_8_bit_grey_or_colour(mode: str, tmp_path: Path) -> None:
    name = "image.tif" if mode == "CMYK" else "image.png"
    Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode).save(tmp_path / name)
    volume = load_volume(tmp_path / name)
    assert volume.array.dtype == np.uint8
    assert (volume.array == 255).all()
    assert volume.is_colour == (mode not in ("1", "LA"))


def test_pictures_of_several_pages_are_refused(tmp_path: Path) -> None:
    page = Image.new("L", (4, 4))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page, page])
    with pytest.raises(UnreadableImageError, match="3 pages or frames; expected one"):
        load_volume(tmp_path / "stack.tif")


def test_the_key_follows_the_content_of_the_file(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", VALUES)
    first = load_volume(path).key
    assert load_volume(path).key == first
    assert load_volume(save_nifti(tmp_path / "b.nii", VALUES)).key == first
    status = path.stat()
    other = VALUES.copy()
    other[3, 2, 1] += 1
    save_nifti(path, other)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert load_volume(path).key != first
    moved = RAS + np.eye(4)[:, [1, 2, 3, 0]] * [[0], [0], [0.5], [0]]
    assert load_volume(save_nifti(path, VALUES, moved)).key != first


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("image.nii.gz", b"not compressed", "cannot be read as NIfTI"),
        ("image.nii", b"\0" * 400, "cannot be read as NIfTI"),
        ("image.mha", b"ObjectType = Image\n", "damaged, or the file with its pixels"),
        ("image.png", b"GIF?", "cannot be read as a picture"),
        ("notes.txt", b"hello", "no supported format. Expected NIfTI"),
        ("no_suffix", b"", "no supported format"),
    ],
)
def test_files_that_are_no_images_are_refused(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        load_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["image.nii.gz", "image.nrrd", "image.png"])
def test_files_cut_short_are_refused(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 32), dtype=np.uint8)
    if name.endswith(".png"):
        Image.fromarray(noise[0]).save(tmp_path / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(tmp_path / name))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImageError, match="damaged"):
        load_volume(tmp_path / name)


def test_a_missing_file_is_refused_without_its_name(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="no file or folder") as caught:
        load_volume(tmp_path / "DOE_JOHN_1970.nii.gz")
    assert "DOE" not in str(caught.value)


def test_real_volumes_against_simpleitk(shared_data: Path) -> None:
    for name in ("example_ct", "example_mr_sm"):
        path = shared_data / "totalsegmentator" / f"{name}.nii.gz"
        volume, image = load_volume(path), sitk.ReadImage(str(path))
        assert np.array_equal(volume.array, sitk.GetArrayViewFromImage(image).transpose(2, 1, 0))
        last = tuple(length - 1 for length in volume.shape_ijk)
        for index in ((0, 0, 0), last):
            expected = image.TransformIndexToPhysicalPoint(index)
            assert (volume.ijk_to_lps @ (*index, 1))[:3] == pytest.approx(expected, abs=1e-3)
