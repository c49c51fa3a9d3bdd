# SPDX-License-Identifier: Apache-2.0
"""DICOM files made here attribute by attribute, against numbers worked out by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Window, load_volume
from medreasoner_infer.imaging.dicom import slice_headers
from medreasoner_infer.imaging.dicom_geometry import FramePlane, frame_grid

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SERIES = "1.2.3.4"
# An axial slice whose gantry is tilted by the angle of a 3-4-5 triangle.
TILTED = [1, 0, 0, 0, 0.8, 0.6]
AXIAL = [1, 0, 0, 0, 1, 0]


def dataset(pixels: np.ndarray, **attributes: object) -> FileDataset:
    """A CT slice of the given stored values; attributes are added, or left out where ``None``."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT_STORAGE
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("made", {}, file_meta=meta, preamble=b"\0" * 128)
    made.is_little_endian, made.is_implicit_VR = True, False
    colour = pixels.shape[-1] == 3 and pixels.dtype == np.uint8
    values = {
        "SOPClassUID": CT_STORAGE,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": SERIES,
        "PatientID": "P1",
        "Modality": "CT",
        "Rows": pixels.shape[-3 if colour else -2],
        "Columns": pixels.shape[-2 if colour else -1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "HighBit": 8 * pixels.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": AXIAL,
        "PixelSpacing": [1, 1],
        "SliceThickness": 3,
        "PixelData": pixels.tobytes(),
    }
    if colour:
        values["PlanarConfiguration"] = 0
    for keyword, value in (values | attributes).items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def save_series(folder: Path, positions: list[list[float]], **attributes: object) -> Path:
    """One file per position; the stored value of every pixel is the number of its position."""
    folder.mkdir(exist_ok=True, parents=True)
    for number, position in enumerate(positions):
        pixels = np.full((4, 6), number, dtype=np.int16)
        made = dataset(pixels, ImagePositionPatient=position, **attributes)
        made.save_as(folder / f"{(number * 7) % 11:02d}_{made.SOPInstanceUID}.dcm")
    return folder


def save(path: Path, made: Dataset) -> Path:
    made.save_as(path)
    return path


def test_geometry_of_an_oblique_series_by_hand(tmp_path: Path) -> None:
    """PS3.3 C.7.6.2.1.1: I goes with the row direction and the spacing between columns."""
    positions = [[10 + 3 * k, -20, 30 - 4 * k] for k in range(5)]  # 5 mm along (0.6, 0, -0.8)
    orientation = [0, 1, 0, -0.8, 0, -0.6]  # normal (-0.6, 0, 0.8)
    folder = save_series(
        tmp_path / "s", positions, ImageOrientationPatient=orientation, PixelSpacing=[2, 0.5]
    )
    volume = load_volume(folder)
    expected = [[0, -1.6, -3, 22], [0.5, 0, 0, -20], [0, -1.2, 4, 14], [0, 0, 0, 1]]
    assert volume.ijk_to_lps == pytest.approx(np.array(expected))
    assert volume.shape_ijk == (6, 4, 5)
    assert volume.array[0, 0].tolist() == [4, 3, 2, 1, 0]  # ascending along the normal
    assert volume.warnings == ()


def test_gantry_tilt_survives_as_shear(tmp_path: Path) -> None:
    positions = [[-10, -20, 30 + 5 * k] for k in (3, 0, 2, 1)]
    folder = save_series(
        tmp_path / "s", positions, ImageOrientationPatient=TILTED, PixelSpacing=[2, 0.5]
    )
    volume = load_volume(folder)
    expected = [[0.5, 0, 0, -10], [0, 1.6, 0, -20], [0, 1.2, 5, 30], [0, 0, 0, 1]]
    assert volume.ijk_to_lps == pytest.approx(np.array(expected))
    # column 4, row 3, slice 2: -10 + 4 x 0.5; -20 + 3 x 1.6; 30 + 3 x 1.2 + 2 x 5
    assert volume.ijk_to_lps @ (4, 3, 2, 1) == pytest.approx([-8, -15.2, 43.6, 1])
    assert volume.array[0, 0].tolist() == [1, 3, 2, 0]
    assert volume.warnings == ()


def test_rows_and_columns_are_not_swapped(tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.int16).reshape(4, 6)  # 4 rows of 6 columns
    volume = load_volume(save(tmp_path / "a.dcm", dataset(pixels)))
    assert volume.shape_ijk == (6, 4, 1)
    assert volume.array[5, 0, 0] == 5
    assert volume.array[0, 3, 0] == 18


def test_spacing_comes_from_positions_not_from_slice_thickness(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "s", [[0, 0, 2 * k] for k in range(4)], SliceThickness=3)
    assert load_volume(folder).spacing_ijk_mm == (1, 1, 2)


def test_a_single_slice_is_as_thick_as_it_says(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", dataset(np.zeros((4, 6), np.int16), SliceThickness=2.5))
    assert load_volume(path).spacing_ijk_mm == (1, 1, 2.5)


def test_rescale_of_every_slice_is_its_own(tmp_path: Path) -> None:
    for z, (slope, intercept) in enumerate([(1, -1024), (2, 10), (0.5, 0)]):
        pixels = np.full((4, 6), 100, dtype=np.uint16)
        made = dataset(
            pixels, ImagePositionPatient=[0, 0, z], RescaleSlope=slope, RescaleIntercept=intercept
        )
        made.save_as(tmp_path / f"{z}.dcm")
    assert load_volume(tmp_path).array[0, 0].tolist() == [-924, 210, 50]


def test_window_and_modality_are_read(tmp_path: Path) -> None:
    made = dataset(
        np.zeros((4, 6), np.int16), Modality="MR", WindowCenter=[300, 40], WindowWidth=[600, 80]
    )
    volume = load_volume(save(tmp_path / "a.dcm", made))
    assert volume.stored_window == Window(300, 600, "stored")
    assert (volume.modality, volume.modality_guessed) == ("MR", False)
    assert load_volume(tmp_path / "a.dcm", modality="PT").modality == "PT"


@pytest.mark.parametrize("function", ["SIGMOID", None])
def test_a_window_that_is_not_linear_or_not_valid_is_left_out(
    function: str | None, tmp_path: Path
) -> None:
    width = 400 if function else 0
    made = dataset(
        np.zeros((4, 6), np.int16), WindowCenter=40, WindowWidth=width, VOILUTFunction=function
    )
    assert load_volume(save(tmp_path / "a.dcm", made)).stored_window is None


def test_one_missing_slice_is_refused_with_its_place(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "s", [[0, 0, 5.0 * k] for k in range(12) if k != 7])
    reason = r"some are missing: between the positions 30.00 and 40.00 mm .* 10.00 mm, usual are 5"
    with pytest.raises(UnreadableImageError, match=reason):
        load_volume(folder)


@pytest.mark.parametrize(
    ("gap_mm", "refused"), [(7.4, False), (7.6, True), (9.5, True), (2.6, False), (2.4, True)]
)
def test_a_gap_may_differ_by_half_of_the_usual_one(gap_mm: float, refused: bool) -> None:
    heights_mm = [0.0, 5, 10, 10 + gap_mm, 15 + gap_mm, 20 + gap_mm]
    planes = [FramePlane((0, 0, z), (1, 0, 0), (0, 1, 0), 1, 1) for z in heights_mm]
    if refused:
        with pytest.raises(UnreadableImageError, match=f"distance is {gap_mm:.2f} mm"):
            frame_grid(planes, 1)
        return
    (warning,) = frame_grid(planes, 1).warnings
    assert warning == (
        "The slices are not quite evenly spaced: between the positions 10.00 and "
        f"{10 + gap_mm:.2f} mm along the slice normal the distance is {gap_mm:.2f} mm, usual are "
        "5.00 mm."
    )


@pytest.mark.parametrize(("excess_mm", "warnings"), [(0.04, 0), (0.06, 1), (-0.04, 0), (-0.06, 1)])
def test_a_gap_is_told_from_a_hundredth_of_the_usual_one_on(excess_mm, warnings) -> None:
    heights_mm = [0.0, 5, 10 + excess_mm, 15 + excess_mm, 20 + excess_mm]
    planes = [FramePlane((0, 0, z), (1, 0, 0), (0, 1, 0), 1, 1) for z in heights_mm]
    assert len(frame_grid(planes, 1).warnings) == warnings


def test_slightly_uneven_slices_are_read_with_a_warning(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "s", [[0, 0, z] for z in (0, 5, 10, 15.5, 20, 25)])
    (warning,) = load_volume(folder).warnings
    assert warning.startswith("The slices are not quite evenly spaced: between the positions")


def test_rounded_positions_need_no_warning(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "s", [[0, 0, round(k * 5 / 3, 2)] for k in range(30)])
    assert load_volume(folder).warnings == ()


def test_a_stack_that_bends_is_refused() -> None:
    planes = [FramePlane((k * k, 0, 5 * k), (1, 0, 0), (0, 1, 0), 1, 1) for k in range(8)]
    with pytest.raises(UnreadableImageError, match="do not lie on one straight stack"):
        frame_grid(planes, 1)


def test_several_phases_in_one_series_are_refused(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "s", [[0, 0, 5 * (k // 2)] for k in range(6)])
    with pytest.raises(UnreadableImageError, match="Several images lie at the same position"):
        load_volume(folder)


def test_a_file_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    folder = save_series(tmp_path / "s", [[0, 0, 5 * k] for k in range(3)])
    original = next(folder.iterdir())
    (folder / "copy.dcm").write_bytes(original.read_bytes())
    assert load_volume(folder).shape_ijk == (6, 4, 3)


def test_the_largest_of_several_series_is_taken_or_the_one_asked_for(tmp_path: Path) -> None:
    save_series(tmp_path / "a", [[0, 0, 5 * k] for k in range(4)], SeriesInstanceUID="1.2.4")
    save_series(tmp_path / "b", [[0, 0, 5 * k] for k in range(2)], SeriesInstanceUID="1.2.5")
    volume = load_volume(tmp_path)
    assert volume.shape_ijk[2] == 4
    assert volume.warnings[0].startswith("The folder holds 2 series; the one with most images (4")
    assert load_volume(tmp_path, series_uid="1.2.5").shape_ijk[2] == 2
    assert load_volume(tmp_path, series_uid="1.2.5").warnings == ()
    with pytest.raises(UnreadableImageError, match="not in the folder, which holds 2 other series"):
        load_volume(tmp_path, series_uid="9.9")


def test_a_localizer_in_the_series_is_left_out_with_a_warning(tmp_path: Path) -> None:
    save_series(tmp_path, [[0, 0, 5 * k] for k in range(4)])
    save_series(tmp_path, [[0, 0, 0]], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    volume = load_volume(tmp_path)
    assert volume.shape_ijk[2] == 4
    assert "the largest, 4 of 5 files, is shown" in volume.warnings[0]


def test_other_files_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    save_series(tmp_path, [[0, 0, 5 * k] for k in range(3)])
    (tmp_path / "readme.txt").write_text("not an image")
    assert load_volume(tmp_path).shape_ijk[2] == 3


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="folder holds no DICOM image"):
        load_volume(tmp_path)


def test_empty_identifiers_and_character_set_are_read_with_a_warning(tmp_path: Path) -> None:
    empty = dict.fromkeys(("SOPClassUID", "SeriesInstanceUID", "PatientID"), "")
    made = dataset(np.zeros((4, 6), np.int16), SpecificCharacterSet="", Modality="", **empty)
    volume = load_volume(save(tmp_path / "a.dcm", made))
    assert volume.modality == "CT"  # from the storage class in the file's meta information
    assert "(SOP Class UID, Series Instance UID, Patient ID)" in volume.warnings[0]


def test_an_orientation_that_is_no_rotation_is_refused(tmp_path: Path) -> None:
    made = dataset(np.zeros((4, 6), np.int16), ImageOrientationPatient=[1, 0, 0, 0.5, 0.5, 0])
    with pytest.raises(UnreadableImageError, match="not two perpendicular unit vectors"):
        load_volume(save(tmp_path / "a.dcm", made))


def test_monochrome1_is_marked_as_inverted(tmp_path: Path) -> None:
    made = dataset(np.zeros((4, 6), np.int16), PhotometricInterpretation="MONOCHROME1")
    assert load_volume(save(tmp_path / "a.dcm", made)).inverted


NO_PLACE = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient"))


def test_a_radiograph_has_spacing_but_no_place_in_the_patient(tmp_path: Path) -> None:
    made = dataset(
        np.zeros((4, 6), np.uint16), Modality="DX", PixelSpacing=None,
        ImagerPixelSpacing=[0.2, 0.1], PatientOrientation=["L", "F"], **NO_PLACE,
    )  # fmt: skip
    volume = load_volume(save(tmp_path / "a.dcm", made))
    assert volume.is_picture
    assert volume.spacing_known
    assert volume.spacing_ijk_mm == (0.1, 0.2, 1)
    assert volume.patient_orientation == ("L", "F")


def test_slices_without_positions_make_no_volume(tmp_path: Path) -> None:
    for number in range(3):
        dataset(np.zeros((4, 6), np.int16), **NO_PLACE).save_as(tmp_path / f"{number}.dcm")
    with pytest.raises(UnreadableImageError, match="3 images without a position in the patient"):
        load_volume(tmp_path)


def test_images_of_an_ultrasound_series_follow_one_another_by_instance_number(tmp_path) -> None:
    for number in (10, 2, 7):
        made = dataset(np.full((4, 6), number, np.int16), Modality="US", **NO_PLACE)
        made.InstanceNumber = number
        made.save_as(tmp_path / f"{number}.dcm")
    dataset(np.zeros((5, 6), np.int16), Modality="US", **NO_PLACE).save_as(tmp_path / "odd.dcm")
    volume = load_volume(tmp_path)
    assert volume.is_picture
    assert volume.array[0, 0].tolist() == [2, 7, 10]
    files = [int(header.InstanceNumber) for header, _ in slice_headers(tmp_path)]
    assert files == [2, 7, 10]
    assert any("3 images without a position" in warning for warning in volume.warnings)
    assert any("2 stacks of different size" in warning for warning in volume.warnings)


def test_a_colour_ultrasound_clip_has_one_slice_per_frame(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    made = dataset(frames, Modality="US", NumberOfFrames=5, PixelSpacing=None, **NO_PLACE)
    volume = load_volume(save(tmp_path / "clip.dcm", made))
    assert volume.shape_ijk == (6, 4, 5)
    assert np.array_equal(volume.array[:, :, 3], frames[3].swapaxes(0, 1))
    assert not volume.spacing_known


def test_jpeg_colour_is_rgb_again(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 40, 90)).save(buffer, "JPEG", quality=95)
    made = dataset(
        np.zeros((16, 16, 3), np.uint8), Modality="US", PixelSpacing=None,
        PhotometricInterpretation="YBR_FULL_422", **NO_PLACE,
    )  # fmt: skip
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.PixelData = encapsulate([buffer.getvalue()])
    made["PixelData"].is_undefined_length = True
    volume = load_volume(save(tmp_path / "us.dcm", made))
    assert np.abs(volume.array[:, :, 0].astype(int) - (200, 40, 90)).max() <= 3


def enhanced(positions: list[list[float]], **attributes: object) -> FileDataset:
    """An enhanced multi-frame object: shared orientation and spacing, positions per frame."""
    frames = np.stack([np.full((4, 6), n, dtype=np.int16) for n in range(len(positions))])
    top_level = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    )
    made = dataset(frames, NumberOfFrames=len(positions), **(top_level | attributes))
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [2, 0.5], 5
    orientation.ImageOrientationPatient = TILTED
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    per_frame = []
    for number, position in enumerate(positions):
        group, place, rescale = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = position
        rescale.RescaleSlope, rescale.RescaleIntercept = 1, 100 * number
        group.PlanePositionSequence = Sequence([place])
        group.PixelValueTransformationSequence = Sequence([rescale])
        per_frame.append(group)
    made.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    return made


def test_enhanced_multi_frame_by_hand(tmp_path: Path) -> None:
    made = enhanced([[-10, -20, 40], [-10, -20, 30], [-10, -20, 35]])
    volume = load_volume(save(tmp_path / "enhanced.dcm", made))
    expected = [[0.5, 0, 0, -10], [0, 1.6, 0, -20], [0, 1.2, 5, 30], [0, 0, 0, 1]]
    assert volume.ijk_to_lps == pytest.approx(np.array(expected))
    assert volume.array[0, 0].tolist() == [101, 202, 0]  # number + 100 x number, ordered by height


def test_a_multi_frame_file_of_several_stacks_is_refused(tmp_path: Path) -> None:
    made = enhanced([[-10, -20, 40], [-10, -20, 30]])
    turned = Dataset()
    turned.ImageOrientationPatient = AXIAL
    made.PerFrameFunctionalGroupsSequence[1].PlaneOrientationSequence = Sequence([turned])
    with pytest.raises(UnreadableImageError, match="1 of the 2 frames have another orientation"):
        load_volume(save(tmp_path / "enhanced.dcm", made))


def test_objects_that_are_no_images_are_refused(tmp_path: Path) -> None:
    segmentation = dataset(np.zeros((4, 6), np.uint8), Modality="SEG")
    with pytest.raises(UnreadableImageError, match=r"is a segmentation \(SEG\), not an image"):
        load_volume(save(tmp_path / "seg.dcm", segmentation))
    report = dataset(np.zeros((4, 6), np.uint8), Modality="SR", Rows=None, Columns=None)
    with pytest.raises(UnreadableImageError, match=r"document without pixels \(SR\)"):
        load_volume(save(tmp_path / "sr.dcm", report))


def test_pixels_cut_short_are_refused_with_the_compression_named(tmp_path: Path) -> None:
    made = dataset(np.zeros((4, 6), np.int16))
    made.PixelData = made.PixelData[:10]
    with pytest.raises(UnreadableImageError, match=r"damaged.*\(Explicit VR Little Endian\)"):
        load_volume(save(tmp_path / "a.dcm", made))


def test_no_message_or_warning_names_the_patient(tmp_path: Path) -> None:
    made = dataset(np.zeros((4, 6), np.int16), PatientName="Doe^Jane", PatientID="4711", StudyID="")
    made.SOPClassUID = ""
    volume = load_volume(save(tmp_path / "doe_jane.dcm", made))
    assert not any("doe" in text.lower() or "4711" in text for text in volume.warnings)


def test_headers_are_not_changed_by_reading(tmp_path: Path) -> None:
    path = save(tmp_path / "a.dcm", dataset(np.zeros((4, 6), np.int16)))
    before = path.read_bytes()
    load_volume(path)
    assert path.read_bytes() == before
    assert pydicom.dcmread(path).Rows == 4
