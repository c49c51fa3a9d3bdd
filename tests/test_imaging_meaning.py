# SPDX-License-Identifier: Apache-2.0
"""What a header or the values themselves say of an image is heeded, and what is guessed is told."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, PngImagePlugin
from test_imaging_dicom import dataset, save

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import choose_window, load_volume
from medreasoner_infer.imaging.window import percentile_window
from medreasoner_infer.modalities import KNOWN_MODALITIES

AFFINE = np.array([[-2, 0, 0, 9], [0, -3, 0, 8], [0, 0, 4, 7], [0, 0, 0, 1]], dtype=float)


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


# Padding and fill values


def circle(padding: int, tissue: np.ndarray) -> np.ndarray:
    """Tissue inside a circle of half of the image's side, padding outside."""
    rows, columns = np.mgrid[-20:20, -20:20]
    values = np.full((40, 40), padding, np.int32)
    inside = rows**2 + columns**2 < 100
    values[inside] = np.resize(tissue, inside.sum())
    return values


TISSUE = np.arange(400, 1201, 10)


@pytest.mark.parametrize("header", [{"PixelPaddingValue": -32768},
                                    {"PixelPaddingValue": -30000, "PixelPaddingRangeLimit": -32768},
                                    {"PixelPaddingValue": -32768, "PixelPaddingRangeLimit": -30000},
                                    {}])  # fmt: skip
def test_padding_does_not_choose_the_window(header: dict[str, int], tmp_path: Path) -> None:
    made = dataset(circle(-32768, TISSUE).astype(np.int16), Modality="MR", **header)
    window = choose_window(load_volume(save(tmp_path / "x.dcm", made)))
    assert 395 <= window.lower <= 420
    assert 1180 <= window.upper <= 1205


def test_padding_is_meant_before_the_rescale(tmp_path: Path) -> None:
    values = circle(-2000, TISSUE)
    values[0, :10] = 600  # as bright as tissue, padding in nothing but the header
    made = dataset(values.astype(np.int16), Modality="PT", RescaleSlope=2, RescaleIntercept=10)
    made.PixelPaddingValue = -2000
    volume = load_volume(save(tmp_path / "x.dcm", made))
    assert volume.padding == {(-3990.0, -3990.0)}
    assert choose_window(volume).lower >= 800


@pytest.mark.parametrize("fill", [-32768, 32767])
def test_a_constant_around_the_image_does_not_choose_the_window(fill: int) -> None:
    window = percentile_window(circle(fill, TISSUE)[..., np.newaxis])
    assert (window.lower, window.upper) == (pytest.approx(404, abs=5), pytest.approx(1196, abs=5))


def test_a_little_below_zero_a_constant_is_fill_too() -> None:
    window = percentile_window(circle(-1, TISSUE)[..., np.newaxis])
    assert window.lower == pytest.approx(404, abs=5)


def test_phase_images_have_no_fill() -> None:
    values = np.repeat([-4096, -2000, 2000, 4095], 250).reshape(10, 10, 10)
    assert percentile_window(values).lower == -4096


def test_bright_and_dark_tissue_is_no_fill() -> None:
    """Values of a phantom: 100, 900 and 1000, each of many voxels."""
    values = np.repeat([100, 900, 950, 1000], 250).reshape(10, 10, 10)
    window = percentile_window(values)
    assert (window.lower, window.upper) == (100, 1000)


# Modality


def test_an_mr_with_a_few_negative_voxels_is_no_ct(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 900, (20, 20, 20)).astype(np.int16)
    values[0, 0, :12] = -700  # overshoot of interpolation
    volume = load_volume(nifti(tmp_path / "mr.nii", values))
    assert volume.modality == "OT"
    assert volume.warnings == ()
    assert choose_window(volume).upper > 800


def test_an_mr_that_is_padded_far_below_air_is_no_ct(tmp_path: Path) -> None:
    volume = load_volume(nifti(tmp_path / "mr.nii", circle(-32768, TISSUE)[..., np.newaxis]))
    assert volume.modality == "OT"
    assert choose_window(volume).lower >= 395


def test_a_ct_that_is_guessed_says_so_and_how_to_name_another(tmp_path: Path) -> None:
    values = np.full((10, 10, 10), 40, np.int16)
    values[:2] = -1000
    path = nifti(tmp_path / "ct.nii", values)
    volume = load_volume(path)
    assert (volume.modality, volume.modality_guessed) == ("CT", True)
    (warning,) = volume.warnings
    assert "taken for CT" in warning
    assert "--modality" in warning
    assert all(code in warning for code in KNOWN_MODALITIES)
    assert load_volume(path, modality="MR").warnings == ()


@pytest.mark.parametrize(("sop_class", "modality"), [
    ("1.2.840.10008.5.1.4.1.1.2", "CT"), ("1.2.840.10008.5.1.4.1.1.4", "MR"),
    ("1.2.840.10008.5.1.4.1.1.128", "PT"), ("1.2.840.10008.5.1.4.1.1.6.1", "US"),
    ("1.2.840.10008.5.1.4.1.1.1.1", "DX"), ("1.2.840.10008.5.1.4.1.1.1", "CR"),
    ("1.2.840.10008.5.1.4.1.1.20", "NM"),
])  # fmt: skip
def test_the_storage_class_tells_an_absent_modality(
    sop_class: str, modality: str, tmp_path: Path
) -> None:
    made = dataset(np.zeros((4, 6), np.int16), Modality=None, SOPClassUID=sop_class)
    volume = load_volume(save(tmp_path / "x.dcm", made))
    assert (volume.modality, volume.modality_guessed) == (modality, False)


# Colour


def test_three_8_bit_volumes_are_no_colour_image(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6, 3), np.uint8)
    with pytest.raises(UnreadableImageError, match="several time points"):
        load_volume(nifti(tmp_path / "x.nii", values))
    listed = (
        "NRRD0004\ntype: uint8\ndimension: 4\nsizes: 3 2 2 2\nkinds: list domain domain domain\n"
        "space: left-posterior-superior\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\n"
        "space origin: (0,0,0)\nencoding: raw\n\n"
    )
    (tmp_path / "x.nrrd").write_bytes(listed.encode() + bytes(24))
    with pytest.raises(UnreadableImageError, match="list of 3 images"):
        load_volume(tmp_path / "x.nrrd")


def test_colour_nifti_of_one_slice_and_by_its_intent(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    packed = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")]).reshape(4, 5)
    assert np.array_equal(load_volume(nifti(tmp_path / "a.nii", packed)).array[:, :, 0], rgb)
    image = nibabel.Nifti1Image(rgb.reshape(4, 5, 1, 1, 3), AFFINE)
    image.header.set_intent("rgb vector")
    nibabel.save(image, tmp_path / "b.nii")
    assert np.array_equal(load_volume(tmp_path / "b.nii").array[:, :, 0], rgb)


def test_a_cifti_file_is_named(tmp_path: Path) -> None:
    image = nibabel.Nifti2Image(np.zeros((1, 1, 1, 1, 1, 30), np.float32), np.eye(4))
    image.header["intent_code"] = 3006  # dscalar
    nibabel.save(image, tmp_path / "x.dscalar.nii")
    with pytest.raises(UnreadableImageError, match="CIFTI"):
        load_volume(tmp_path / "x.dscalar.nii")


# Geometry


SFORMS = {"zero": np.zeros((4, 4)), "alike": np.ones((4, 4)), "nan": np.full((4, 4), np.nan)}


@pytest.mark.parametrize("kind", SFORMS)
def test_a_good_qform_is_used_where_the_sform_is_no_geometry(kind: str, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), None)
    image.set_qform(AFFINE, 1)
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = SFORMS[kind][:3]
    image.header["sform_code"] = 1
    path = tmp_path / "x.nii"
    path.write_bytes(image.header.binaryblock + bytes(4) + bytes(120))
    header = nibabel.Nifti1Header(path.read_bytes()[:348])
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    volume = load_volume(path)
    assert volume.ijk_to_lps == pytest.approx(np.diag([-1, -1, 1, 1]) @ AFFINE, abs=1e-5)
    assert "its qform is used" in volume.warnings[0]
    if kind == "zero":
        image = sitk.ReadImage(str(path))
        there = image.TransformIndexToPhysicalPoint((2, 3, 4))
        assert (volume.ijk_to_lps @ (2, 3, 4, 1))[:3] == pytest.approx(there, abs=1e-4)


@pytest.mark.parametrize(("ratio", "sides"), [(["4", "3"], (1, 4 / 3)), (["1", "1"], (1, 1)),
                                              (["1", "2"], (1, 0.5)), (["0", "1"], (1, 1)),
                                              (["1", "900"], (1, 1))])  # fmt: skip
def test_the_pixel_aspect_ratio_gives_the_sides_of_a_pixel(
    ratio: list[str], sides: tuple[float, float], tmp_path: Path
) -> None:
    """Vertical to horizontal (PS3.3 C.7.6.3.1.7); I runs across, J down."""
    made = dataset(
        np.zeros((4, 6), np.uint8), Modality="US", PixelSpacing=None, ImagePositionPatient=None,
        ImageOrientationPatient=None, PixelAspectRatio=ratio,
    )  # fmt: skip
    volume = load_volume(save(tmp_path / "x.dcm", made))
    assert volume.spacing_ijk_mm[:2] == pytest.approx(sides)
    assert not volume.spacing_known


def test_pixels_of_a_picture_need_not_be_square(tmp_path: Path) -> None:
    """A fax of 204 x 98 dots per inch: a pixel is about twice as high as wide."""
    image = Image.new("L", (30, 20))
    for name in ("fax.png", "fax.jpg", "fax.tif"):
        image.save(tmp_path / name, dpi=(204, 98))
        sides = load_volume(tmp_path / name).spacing_ijk_mm[:2]
        assert sides == pytest.approx((1, 204 / 98), rel=0.01), name
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.jpg", dpi=(204, 98), exif=exif)
    volume = load_volume(tmp_path / "turned.jpg")
    assert volume.shape_ijk[:2] == (20, 30)
    assert volume.spacing_ijk_mm[:2] == pytest.approx((204 / 98, 1), rel=0.01)


# Marks of the orientation


def corner_up(orientation: int) -> np.ndarray:
    """A picture that shows a white upper left corner once it is turned by its mark."""
    shown = np.zeros((20, 40), np.uint8)
    shown[:8, :8] = 255
    undo = {1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.T,
            6: np.rot90(shown), 7: shown[::-1, ::-1].T, 8: np.rot90(shown, -1)}  # fmt: skip
    return np.ascontiguousarray(undo[orientation])


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_once_by_its_mark(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    image = Image.fromarray(corner_up(orientation))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"x.{suffix}", exif=exif)
    volume = load_volume(tmp_path / f"x.{suffix}")
    assert volume.shape_ijk[:2] == (40, 20)
    assert volume.array[4, 4, 0] > 200
    assert volume.array[36, 16, 0] < 50
    assert volume.warnings == ()


def with_exif(block: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    content = buffer.getvalue()
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block
    return content[:2] + segment + content[2:]


def tag(code: int, kind: int, count: int, value: bytes) -> bytes:
    entry = struct.pack("<HHL", code, kind, count) + value.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<LH", 8, 1) + entry + bytes(4)


ODD_EXIF = {
    "orientation 9": tag(0x0112, 3, 1, b"\x09\0"),
    "orientation as text": tag(0x0112, 2, 3, b"up\0"),
    "orientation of no value": tag(0x0112, 3, 0, b""),
    "two orientations": tag(0x0112, 3, 2, b"\x06\0\x06\0"),
    "a fraction by zero": tag(0x011A, 5, 1, struct.pack("<L", 0)),
    "a value far away": tag(0x010E, 2, 1 << 30, struct.pack("<L", 1 << 30)),
    "an unknown type": tag(0x0112, 99, 1, b"\x06\0"),
    "no TIFF header": b"nothing at all",
    "cut short": b"II*\0\x08\0",
    "empty": b"",
}


@pytest.mark.parametrize("kind", ODD_EXIF)
def test_a_picture_with_odd_exif_is_shown_as_it_is_stored(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(with_exif(ODD_EXIF[kind]))
    volume = load_volume(tmp_path / "x.jpg")
    assert volume.shape_ijk == (8, 8, 1)
    if kind.startswith("orientation 9"):
        assert "may lie on its side" in volume.warnings[0]


def test_texts_of_a_png_are_passed_over(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "x" * 2_000_000, zip=True)
    Image.new("L", (8, 8), 7).save(tmp_path / "x.png", pnginfo=notes)
    assert (load_volume(tmp_path / "x.png").array == 7).all()
