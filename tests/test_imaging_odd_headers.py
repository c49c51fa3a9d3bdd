# SPDX-License-Identifier: Apache-2.0
"""Headers against the standard: mended with a warning, or refused with the field's name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import JPEG2000Lossless
from support.image_samples import NOISE, slice_of
from support.mutations import with_checksums

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume

STORED = NOISE[0]


def put(holder: Dataset, keyword: str, value: bytes, vr: str = "DS") -> None:
    """An element as its bytes stand in the file, whatever the standard says of them."""
    tag = Tag(keyword)
    holder._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def a_slice() -> Dataset:
    made = slice_of(STORED)
    made.RescaleSlope, made.RescaleIntercept = 1, 0
    return made


def read(made: Dataset, folder: Path) -> Volume:
    made.save_as(folder / "made.dcm")
    return load_volume(folder / "made.dcm")


def in_groups(change: Callable[[Dataset, int], None]) -> Dataset:
    """Three frames that have their numbers in functional groups, each changed."""
    made = slice_of(NOISE[:3])
    made.NumberOfFrames = 3
    for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        del made[keyword]
    del made.RescaleSlope
    items = []
    for number in range(3):
        item, place, plane, measures, values = (Dataset() for _ in range(5))
        place.ImagePositionPatient = [0, 0, 2 * number]
        plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        measures.PixelSpacing, measures.SliceThickness = [0.7, 0.7], 2
        values.RescaleSlope, values.RescaleIntercept = 1, 0
        item.PlanePositionSequence = Sequence([place])
        item.PlaneOrientationSequence = Sequence([plane])
        item.PixelMeasuresSequence = Sequence([measures])
        item.PixelValueTransformationSequence = Sequence([values])
        change(item, number)
        items.append(item)
    made.PerFrameFunctionalGroupsSequence = Sequence(items)
    return made


GROUPS = {
    "PixelSpacing": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
}


def with_number(keyword: str, value: bytes) -> Dataset:
    return in_groups(lambda item, _: put(item[GROUPS[keyword]].value[0], keyword, value))


@pytest.mark.parametrize(
    ("keyword", "value", "warning"),
    [
        ("PixelSpacing", b"0,7\\0,7 ", "decimal comma"),
        ("PixelSpacing", b"0.7 ", "one pixel spacing"),
        ("ImageOrientationPatient", b"1,0\\0\\0\\0\\1,0\\0 ", "decimal comma"),
        ("RescaleSlope", b"1,0 ", "decimal comma"),
        ("RescaleSlope", b"0 ", "Rescale Slope of 0"),
    ],
)
def test_numbers_of_single_frames_are_mended_as_those_of_a_file(
    keyword: str, value: bytes, warning: str, tmp_path: Path
) -> None:
    volume = read(with_number(keyword, value), tmp_path)
    assert volume.spacing_ijk_mm == pytest.approx((0.7, 0.7, 2))
    assert np.array_equal(volume.array, np.moveaxis(NOISE[:3], (0, 1, 2), (2, 1, 0)))
    assert [text for text in volume.warnings if warning in text]


@pytest.mark.parametrize(
    ("keyword", "value", "named"),
    [
        ("PixelSpacing", b"1\\2\\3 ", r"Pixel Spacing \(0028, 0030\)"),
        ("PixelSpacing", b"0.7mm ", r"Pixel Spacing \(0028, 0030\)"),
        ("ImagePositionPatient", b"nan\\0\\0", r"Image Position \(Patient\) \(0020, 0032\)"),
        ("ImagePositionPatient", b"0\\0 ", r"Image Position \(Patient\) \(0020, 0032\)"),
        ("RescaleSlope", b"inf ", r"Rescale Slope \(0028, 1053\)"),
    ],
)
def test_numbers_of_single_frames_are_refused_by_name(
    keyword: str, value: bytes, named: str, tmp_path: Path
) -> None:
    with pytest.raises(UnreadableImageError, match=named):
        read(with_number(keyword, value), tmp_path)


def test_a_frame_that_has_lost_its_place_is_told_of(tmp_path: Path) -> None:
    def lose(item: Dataset, number: int) -> None:
        if number == 1:
            del item.PlanePositionSequence

    volume = read(in_groups(lose), tmp_path)
    assert volume.is_picture
    assert "1 of the 3 frames have no place" in volume.warnings[0]


@pytest.mark.parametrize("zero", [b"0 ", b"0.0 ", b"-0"])
def test_a_slope_of_0_leaves_the_stored_values(zero: bytes, tmp_path: Path) -> None:
    made = a_slice()
    put(made, "RescaleSlope", zero)
    made.RescaleIntercept = -24
    volume = read(made, tmp_path)
    assert np.array_equal(volume.array[:, :, 0].T, STORED - 24)
    assert "Rescale Slope of 0" in volume.warnings[0]


def test_a_file_of_no_frames_is_read_as_one(tmp_path: Path) -> None:
    made = a_slice()
    put(made, "NumberOfFrames", b"0 ", "IS")
    volume = read(made, tmp_path)
    assert np.array_equal(volume.array[:, :, 0].T, STORED)
    assert "0 frames" in volume.warnings[0]


@pytest.mark.parametrize(
    ("keyword", "value", "named"),
    [
        ("PixelSpacing", b"-0.7\\0.7 ", r"Pixel Spacing \(0028, 0030\) is negative"),
        ("PixelSpacing", b"nan\\nan ", r"Pixel Spacing \(0028, 0030\)"),
        ("RescaleSlope", b"nan ", r"Rescale Slope \(0028, 1053\)"),
        ("RescaleIntercept", b"-inf", r"Rescale Intercept \(0028, 1052\)"),
        ("ImagePositionPatient", b"1e300\\0\\0 ", r"1e\+300 mm from the origin"),
    ],
)
def test_a_number_that_means_nothing_is_refused_by_name(
    keyword: str, value: bytes, named: str, tmp_path: Path
) -> None:
    made = a_slice()
    put(made, keyword, value)
    with pytest.raises(UnreadableImageError, match=named):
        read(made, tmp_path)


@pytest.mark.parametrize(
    ("keyword", "named"),
    [
        ("SamplesPerPixel", r"Samples per Pixel \(0028, 0002\)"),
        ("PhotometricInterpretation", r"Photometric Interpretation \(0028, 0004\)"),
        ("BitsStored", r"Bits Stored \(0028, 0101\)"),
        ("PixelRepresentation", r"Pixel Representation \(0028, 0103\)"),
    ],
)
def test_what_tells_pixels_from_bytes_is_named_where_it_is_missing(
    keyword: str, named: str, tmp_path: Path
) -> None:
    made = a_slice()
    del made[keyword]
    with pytest.raises(UnreadableImageError, match=named):
        read(made, tmp_path)


@pytest.mark.parametrize("is_signed", [True, False])
def test_the_sign_in_a_jpeg_2000_stream_is_believed(is_signed: bool, tmp_path: Path) -> None:
    """A header that says "unsigned" over a stream of negative numbers would wrap them."""
    openjpeg = pytest.importorskip("openjpeg")
    values = STORED if is_signed else (STORED + 1000).astype(np.uint16)
    values = values.repeat(4, 0).repeat(4, 1)
    made = slice_of(values, JPEG2000Lossless)
    made.RescaleSlope, made.RescaleIntercept, made.PixelRepresentation = 1, 0, 0
    made.PixelData = encapsulate([openjpeg.encode(values)])
    made["PixelData"].is_undefined_length = True
    assert np.array_equal(read(made, tmp_path).array[:, :, 0].T, values)


def a_nifti(path: Path) -> Path:
    image = nibabel.Nifti1Image(NOISE, np.diag([2, 3, 4, 1]))
    image.to_filename(path)
    return path


def test_a_nifti_of_metres_that_are_none_is_told_of(tmp_path: Path) -> None:
    path = a_nifti(tmp_path / "metres.nii")
    content = bytearray(path.read_bytes())
    content[123] = 1  # xyzt_units: metres
    path.write_bytes(content)
    volume = load_volume(path)
    assert volume.spacing_ijk_mm == pytest.approx((2000, 3000, 4000))
    assert "2000 x 3000 x 4000 mm" in volume.warnings[0]


@pytest.mark.parametrize(("at", "value"), [(280, 1e30), (292, -1e20)])
def test_a_grid_beyond_any_scanner_is_refused(at: int, value: float, tmp_path: Path) -> None:
    path = a_nifti(tmp_path / "far.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<f", content, at, value)
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match="A unit of length may be mistaken"):
        load_volume(path)


def test_an_image_without_any_number_says_100_percent(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), np.nan), np.eye(4)), tmp_path / "n.nii")
    assert "100 % of the voxels hold no number" in load_volume(tmp_path / "n.nii").warnings[0]


@pytest.mark.parametrize(
    ("name", "line", "is_known"),
    [
        ("a.nrrd", 'space units: "cm" "cm" "cm"', False),
        ("a.nrrd", 'space units: "\u00b5m" "\u00b5m" "\u00b5m"', False),
        ("a.nrrd", 'space units: "mm" "mm" "mm"', True),
        ("a.mha", "DistanceUnits = cm", False),
        ("a.mha", "DistanceUnits = mm", True),
    ],
)
def test_a_unit_that_other_programs_overlook_tells_no_size(
    name: str, line: str, is_known: bool, tmp_path: Path
) -> None:
    path = tmp_path / name
    sitk.WriteImage(sitk.GetImageFromArray(NOISE), str(path))
    mark = b"ElementDataFile" if name.endswith("mha") else b"encoding:"
    content = path.read_bytes().replace(mark, line.encode() + b"\n" + mark, 1)
    path.write_bytes(content)
    volume = load_volume(path)
    assert volume.spacing_known is is_known
    assert bool([text for text in volume.warnings if "another unit" in text]) is not is_known
    theirs = sitk.ReadImage(str(path))
    assert volume.spacing_ijk_mm == pytest.approx(theirs.GetSpacing())


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_whole_numbers_of_a_tiff_keep_their_sign(
    dtype: type[np.integer[Any]], tmp_path: Path
) -> None:
    tifffile = pytest.importorskip("tifffile")
    limits = np.iinfo(dtype)
    spread = np.linspace(limits.min, min(limits.max, 2**31 - 1), 48)
    values = spread.astype(dtype).reshape(6, 8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    assert np.array_equal(load_volume(tmp_path / "a.tif").array[:, :, 0].T, values)


def test_whole_numbers_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.full((6, 8), 3_000_000_000, np.uint32))
    with pytest.raises(UnreadableImageError, match="uint32"):
        load_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("colours", [2, 7, 256])
def test_a_palette_is_looked_up(suffix: str, colours: int, tmp_path: Path) -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (12, 30, 3)).astype(np.uint8)
    image = Image.fromarray(rgb).quantize(colours)
    image.save(tmp_path / f"a.{suffix}")
    shown = load_volume(tmp_path / f"a.{suffix}").array[:, :, 0].swapaxes(0, 1)
    assert np.array_equal(shown, np.asarray(image.convert("RGB")))


def test_colours_that_the_palette_lacks_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12), "P")
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    at = content.index(b"PLTE") - 4
    length = int.from_bytes(content[at : at + 4], "big")
    short = struct.pack(">I", 15) + content[at + 4 : at + 8 + 15] + b"sums"
    (tmp_path / "a.png").write_bytes(
        with_checksums(content[:at] + short + content[at + 12 + length :])
    )
    with pytest.raises(UnreadableImageError, match=r"palette has 5 colours.*number 95"):
        load_volume(tmp_path / "a.png")
