# SPDX-License-Identifier: Apache-2.0
"""Nothing of a series is lost without a word: either it is in the volume or a warning says so."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import RLELossless
from test_imaging_dicom import dataset, save, save_series

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import load_volume
from medreasoner_infer.imaging.dicom import slice_headers
from medreasoner_infer.imaging.formats import ImageFormat, identify
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import SegmentRequest, SliceSelection
from medreasoner_infer.types import SlicePrompt

HEIGHTS_MM = (0.0, 4.0, 8.0, 12.0)
POSITIONS = [[0, 0, height] for height in HEIGHTS_MM]
EACH_SLICE = [0, 1, 2, 3]


def slice_values(folder: Path) -> list[int]:
    return [int(value) for value in load_volume(folder).array[0, 0]]


# One identity for several images


def test_slices_of_one_sop_instance_uid_are_all_shown_and_told(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "ct", POSITIONS, SOPInstanceUID="1.2.3.4.5")
    assert slice_values(folder) == EACH_SLICE
    (warning,) = load_volume(folder).warnings
    assert warning.startswith("3 DICOM file(s) bear the SOP Instance UID of another image")
    assert len(slice_headers(folder)) == 4


def test_a_copy_of_an_image_is_one_image_even_if_it_is_compressed(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "ct", POSITIONS)
    files = sorted(folder.iterdir())
    shutil.copy(files[0], folder / "copy.dcm")
    image = pydicom.dcmread(files[1])
    image.compress(RLELossless)
    image.save_as(folder / "compressed.dcm")
    assert slice_values(folder) == EACH_SLICE
    assert load_volume(folder).warnings == (
        "2 file(s) are left out: each is a copy of another file of the series.",
    )


def test_two_folders_of_one_series_are_one_series_and_it_is_said(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "a", POSITIONS)
    (tmp_path / "b").mkdir()
    for path in sorted(folder.iterdir())[1:3]:
        path.rename(tmp_path / "b" / path.name)
    assert slice_values(tmp_path) == EACH_SLICE
    (warning,) = load_volume(tmp_path).warnings
    assert warning == (
        "The files of the series lie in 2 folders; as they bear one Series Instance UID, all 4 are "
        "read as one series."
    )


def test_a_folder_and_its_copy_are_one_series_and_the_copies_are_counted(tmp_path: Path) -> None:
    shutil.copytree(save_series(tmp_path / "a", POSITIONS), tmp_path / "b")
    assert slice_values(tmp_path) == EACH_SLICE
    assert load_volume(tmp_path).warnings == (
        "4 file(s) are left out: each is a copy of another file of the series.",
    )


def test_one_series_of_two_studies_is_told(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "a", POSITIONS[:2])
    for number, position in enumerate(POSITIONS[2:]):
        made = dataset(
            np.full((4, 6), 5, np.int16), ImagePositionPatient=position, StudyInstanceUID="1.2.9"
        )
        save(folder / f"other{number}.dcm", made)
    (warning,) = load_volume(folder).warnings
    assert warning.startswith("The files of the series name 2 studies")


def test_copies_of_another_series_are_not_counted(tmp_path: Path) -> None:
    shutil.copytree(save_series(tmp_path / "a", POSITIONS), tmp_path / "b")
    save_series(tmp_path / "c", POSITIONS, SeriesInstanceUID="1.2.9")
    assert load_volume(tmp_path, series_uid="1.2.9").warnings == ()


# Pixels that cannot be decoded


def cut(path: Path) -> None:
    """The file ends within its pixels, as after a copy that was broken off."""
    content = path.read_bytes()
    path.write_bytes(content[:-7])


def spoil(path: Path) -> None:
    """The compressed pixels are noise."""
    image = pydicom.dcmread(path)
    image.compress(RLELossless)
    noise = np.random.default_rng(3).integers(0, 256, 40, np.uint8).tobytes()
    image.PixelData = encapsulate([noise])
    image.save_as(path)


@pytest.mark.parametrize("damage", [cut, spoil])
@pytest.mark.parametrize("number", range(4))
def test_a_slice_that_cannot_be_decoded_is_empty_and_all_others_lie_in_their_place(
    damage: Callable[[Path], None], number: int, tmp_path: Path
) -> None:
    folder = save_series(tmp_path / "ct", POSITIONS)
    whole = load_volume(folder)
    path = next(f for f in folder.iterdir() if pydicom.dcmread(f).pixel_array[0, 0] == number)
    damage(path)
    volume = load_volume(folder)
    np.testing.assert_array_equal(volume.ijk_to_lps, whole.ijk_to_lps)
    others = [k for k in range(4) if k != number]
    np.testing.assert_array_equal(volume.array[..., others], whole.array[..., others])
    assert (volume.array[..., number] == min(others)).all()
    (warning,) = volume.warnings
    assert warning.startswith(
        f"1 of the 4 files of the series cannot be decoded: {path.name} "
        f"(at {HEIGHTS_MM[number]:.2f} mm). "
    )
    assert len(slice_headers(folder)) == 4


def test_an_empty_slice_of_an_inverted_image_is_dark_too(tmp_path: Path) -> None:
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    folder = save_series(tmp_path / "cr", POSITIONS, **inverted)
    cut(next(f for f in folder.iterdir() if pydicom.dcmread(f).pixel_array[0, 0] == 1))
    assert slice_values(folder) == [0, 3, 2, 3]


def test_a_series_of_which_nothing_can_be_decoded_is_refused(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "ct", POSITIONS)
    for path in folder.iterdir():
        cut(path)
    with pytest.raises(UnreadableImageError, match="damaged"):
        load_volume(folder)


def test_many_files_that_cannot_be_decoded_are_named_in_part(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "ct", [[0, 0, 4.0 * k] for k in range(9)])
    for path in sorted(folder.iterdir())[:7]:
        cut(path)
    (warning,) = load_volume(folder).warnings
    assert warning.startswith("7 of the 9 files")
    assert " and 2 more. " in warning


@pytest.mark.parametrize("damaged", ["a", "b"])
def test_of_two_copies_the_one_that_can_be_decoded_is_read(damaged: str, tmp_path: Path) -> None:
    shutil.copytree(save_series(tmp_path / "a", POSITIONS), tmp_path / "b")
    cut(sorted((tmp_path / damaged).iterdir())[2])
    assert slice_values(tmp_path) == EACH_SLICE
    assert load_volume(tmp_path).warnings[0].startswith("4 file(s) are left out")


@pytest.mark.parametrize("damaged", ["a", "b", "c", "ab", "bc"])
def test_of_three_copies_one_that_can_be_decoded_is_read(damaged: str, tmp_path: Path) -> None:
    """The copy of a file that a later one has replaced ended the whole folder."""
    first = save_series(tmp_path / "a", POSITIONS)
    for name in ("b", "c"):
        shutil.copytree(first, tmp_path / name)
    for times, name in enumerate(damaged, start=1):
        for _ in range(times):  # no two of them the same
            cut(sorted((tmp_path / name).iterdir())[2])
    assert slice_values(tmp_path) == EACH_SLICE
    assert load_volume(tmp_path).warnings[0].startswith("8 file(s) are left out")


def test_two_echoes_of_one_sop_instance_uid_are_no_copy(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "mr", POSITIONS, SOPInstanceUID="1.2.3.4.5")
    second = dataset(np.full((4, 6), 99, np.int16), SOPInstanceUID="1.2.3.4.5")
    save(folder / "echo.dcm", second)
    with pytest.raises(UnreadableImageError, match=r"same position \(0.00 mm"):
        load_volume(folder)


# Files of old programs


def bare(made: Dataset, implicit: bool, little: bool, meta: bool) -> bytes:
    """A data set without preamble, with or without file meta information."""
    file = DicomBytesIO()
    if meta:
        file.is_implicit_VR, file.is_little_endian = False, True
        write_dataset(file, made.file_meta)
    file.is_implicit_VR, file.is_little_endian = implicit, little
    made.is_implicit_VR, made.is_little_endian = implicit, little
    write_dataset(file, made)
    return file.getvalue()


BARE = {
    "implicit": (True, True, False),
    "explicit": (False, True, False),
    "big endian": (False, False, False),
    "with meta information": (False, True, True),
}


@pytest.mark.parametrize("kind", BARE)
def test_slices_without_a_preamble_are_read(kind: str, tmp_path: Path) -> None:
    implicit, little, meta = BARE[kind]
    for number, position in enumerate(POSITIONS):
        values = np.full((4, 6), number, np.int16)
        made = dataset(values, ImagePositionPatient=position, RescaleIntercept=-7)
        made.PixelData = values.astype("<i2" if little else ">i2").tobytes()
        (tmp_path / f"{number}").write_bytes(bare(made, implicit, little, meta))
        assert identify(tmp_path / f"{number}") is ImageFormat.DICOM
    assert slice_values(tmp_path) == [-7, -6, -5, -4]
    assert load_volume(tmp_path).ijk_to_lps[2, 2] == 4


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x00\x05\x00CS" + b"\xff\xff" + bytes(600),  # longer than any first element
        b"\x08\x00\x05\x00CS\x02\x00AB" + bytes(600),  # nothing follows
        b"\x08\x00\x05\x00" + struct.pack("<L", 4) + b"ABCD" + b"\x08\x00\x04\x00" + bytes(600),
        b"\x00\x08\x00\x05" + struct.pack(">L", 4) + b"ABCD" + b"\x00\x08\x00\x06" + bytes(600),
        b"\x08\x00",
    ],
)
def test_bytes_that_only_begin_like_a_data_set_are_no_dicom_file(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="no supported format"):
        identify(tmp_path / "x")


# What lies beside a series


def test_a_file_that_ends_in_its_header_is_counted(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "ct", POSITIONS)
    cut = pydicom.dcmread(folder / sorted(path.name for path in folder.iterdir())[-1])
    for element in [element for element in cut if element.tag >= 0x00280010]:
        del cut[element.tag]
    cut.save_as(folder / "cut.dcm")
    (warning,) = load_volume(folder).warnings
    assert warning.startswith("1 damaged DICOM file(s)")


def test_images_of_other_formats_in_the_folder_are_counted(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "ct", POSITIONS)
    for name in ("a.nii.gz", "b.nii"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4)), folder / name)
    (folder / "notes.txt").write_text("nothing")
    assert slice_values(folder) == EACH_SLICE
    (warning,) = load_volume(folder).warnings
    assert warning.startswith("2 image file(s) of another format in the folder are left out")


def test_a_folder_of_other_images_says_what_it_holds(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(
        UnreadableImageError, match=r"no DICOM image.*1 image file.* give that file"
    ):
        load_volume(tmp_path)


def test_a_mosaic_is_refused_and_left_out_of_a_folder(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "mr", POSITIONS)
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    alone = save(folder / "mosaic.dcm", dataset(np.zeros((4, 6), np.int16), ImageType=kind))
    with pytest.raises(UnreadableImageError, match=r"Siemens mosaic.*dcm2niix"):
        load_volume(alone)
    assert slice_values(folder) == EACH_SLICE
    (warning,) = load_volume(folder).warnings
    assert warning.startswith("1 DICOM file(s) in the folder are left out")


# Orientations that differ by noise


def turned(degrees: float) -> list[float]:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [round(float(value), 9) for value in (cosine, sine, 0, -sine, cosine, 0)]


def save_turned(folder: Path, degrees: float) -> Path:
    """512 pixels of 0.7 mm each way; every other slice is turned in its plane."""
    folder.mkdir()
    for number, position in enumerate(POSITIONS):
        made = dataset(
            np.full((512, 512), number, np.int16),
            ImagePositionPatient=position,
            ImageOrientationPatient=turned(degrees if number % 2 else 0),
            PixelSpacing=[0.7, 0.7],
        )
        save(folder / f"{number}.dcm", made)
    return folder


@pytest.mark.parametrize(("degrees", "told"), [(0.005, False), (0.07, True)])
def test_slices_turned_by_less_than_a_pixel_stay_together(
    degrees: float, told: bool, tmp_path: Path
) -> None:
    volume = load_volume(save_turned(tmp_path / "ct", degrees))
    assert [int(value) for value in volume.array[0, 0]] == EACH_SLICE
    assert [text[:47] for text in volume.warnings] == (
        ["The orientations or pixel sizes of the slices d"] if told else []
    )


def test_slices_turned_by_more_are_told_as_another_stack(tmp_path: Path) -> None:
    volume = load_volume(save_turned(tmp_path / "ct", 1.0))
    assert volume.shape_ijk[2] == 2
    assert "2 stacks of different size or orientation" in volume.warnings[0]


# Voxels in a file beside their header


def detached(folder: Path, name: str, values: np.ndarray) -> Path:
    path = folder / f"{name}.mhd"
    shape = " ".join(map(str, values.shape))
    path.write_text(
        f"ObjectType = Image\nNDims = 3\nDimSize = {shape}\nElementSpacing = 1 1 3\n"
        f"ElementType = MET_SHORT\nElementDataFile = {name}.raw\n",
        encoding="utf-8",
    )
    (folder / f"{name}.raw").write_bytes(values.astype("<i2").tobytes(order="F"))
    return path


NAMES = ("CT[1]", "CT[2]", "[a-z]", "CT (1)", "größe", "a#b&c", "x{1,2}", "it's", "two  blanks")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_never_a_pattern(name: str, tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    assert np.array_equal(load_volume(detached(tmp_path, name, values)).array, values)


def test_two_patients_never_share_a_key_or_a_mask(tmp_path: Path) -> None:
    """Both headers are equal but for the name; the voxels lie beside them."""
    volumes = []
    for number in (1, 2):
        values = np.zeros((48, 48, 3), np.int16)
        values[10 * number : 10 * number + 12, 16:32, 1] = 180
        volumes.append(load_volume(detached(tmp_path, f"CT[{number}]", values)))
    assert volumes[0].key != volumes[1].key
    pipeline = Pipeline.from_registry(segmenter="embedded", device="cpu")
    request = SegmentRequest(SliceSelection(None, 1), SlicePrompt((8, 14, 36, 34), (), ()))
    masks = [pipeline.segment(volume, request).mask_ijk for volume in volumes]
    for volume, mask in zip(volumes, masks, strict=True):
        alone = Pipeline.from_registry(segmenter="embedded", device="cpu")
        assert np.array_equal(mask, alone.segment(volume, request).mask_ijk)
    assert not np.array_equal(*masks)


def test_the_key_sees_the_voxels_beside_their_header(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    before = load_volume(detached(tmp_path, "ct", values)).key
    (tmp_path / "ct.raw").write_bytes((values + 1).astype("<i2").tobytes(order="F"))
    assert load_volume(tmp_path / "ct.mhd").key != before
