# SPDX-License-Identifier: Apache-2.0
"""Reading segmentations of other makers: SEG objects written attribute by attribute.

Four axial images of 6 rows and 5 columns, 1.5 x 0.75 mm, every 4 mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import load_volume
from monailabel_app.dicom.errors import UnreadableResultError
from monailabel_app.dicom.seg_reading import SEGMENTATION_LIMITS, read_segment, segment_numbers
from monailabel_app.dicom.source import SourceSeries, open_source

SHAPE_IJK = (5, 6, 4)
FRAME_OF_REFERENCE = "1.2.3.9"
HEIGHTS_MM = (100.0, 104.0, 108.0, 112.0)


def dataset(**values: object) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def with_meta(made: Dataset) -> Dataset:
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.is_little_endian, made.is_implicit_VR = True, False
    return made


def an_image(number: int, **changes: object) -> Dataset:
    values = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": f"1.2.3.5.{number}", "Modality": "CT",
        "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "PatientID": "P1",
        "FrameOfReferenceUID": FRAME_OF_REFERENCE, "InstanceNumber": number,
        "ImagePositionPatient": [-10.0, 20.0, HEIGHTS_MM[number]], "PixelSpacing": [1.5, 0.75],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SliceThickness": 4, "Rows": 6,
        "Columns": 5, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1,
        "PixelData": bytes(60),
    } | changes  # fmt: skip
    return with_meta(dataset(**values))


@pytest.fixture
def source(tmp_path: Path) -> SourceSeries:
    return opened(tmp_path, [an_image(number) for number in range(4)])


def opened(folder: Path, images: Sequence[Dataset]) -> SourceSeries:
    for number, image in enumerate(images):
        image.save_as(folder / f"{number}.dcm", write_like_original=False)
    return open_source(folder, load_volume(folder))


def a_frame(
    k: float | None, segment: int | None = 1, image: int | None = None, **image_reference: object
) -> Dataset:
    """Of one segment, in the plane of slice ``k`` or made from an image, or both."""
    position = dataset(ImagePositionPatient=[-10.0, 20.0, 100.0 + 4 * (k or 0)])
    uid = None if image is None else f"1.2.3.5.{image}"
    referenced = dataset(ReferencedSOPInstanceUID=uid, **image_reference)
    derived = dataset(SourceImageSequence=[referenced])
    identification = dataset(ReferencedSegmentNumber=segment)
    return dataset(
        PlanePositionSequence=None if k is None else [position],
        SegmentIdentificationSequence=None if segment is None else [identification],
        DerivationImageSequence=None if image is None else [derived],
    )


def fractional(pixels: np.ndarray, frames: Sequence[Dataset], **changes: object) -> Dataset:
    """One byte for each pixel; ``pixels`` (frames, rows, columns), by default up to 255."""
    shared = dataset(
        PlaneOrientationSequence=[dataset(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[dataset(PixelSpacing=[1.5, 0.75], SliceThickness=4)],
    )
    stored = np.ascontiguousarray(pixels, np.uint8)
    values = {
        "SOPClassUID": SegmentationStorage, "SOPInstanceUID": "1.2.3.7", "Modality": "SEG",
        "FrameOfReferenceUID": FRAME_OF_REFERENCE, "SegmentationType": "FRACTIONAL",
        "SegmentationFractionalType": "PROBABILITY", "MaximumFractionalValue": 255,
        "SegmentSequence": [dataset(SegmentNumber=1), dataset(SegmentNumber=2)],
        "SharedFunctionalGroupsSequence": [shared],
        "PerFrameFunctionalGroupsSequence": list(frames), "NumberOfFrames": len(frames),
        "Rows": stored.shape[1], "Columns": stored.shape[2], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8, "BitsStored": 8,
        "HighBit": 7, "PixelRepresentation": 0,
        "PixelData": stored.tobytes() + bytes(stored.size % 2),
    } | changes  # fmt: skip
    return with_meta(dataset(**values))


def binary(pixels: np.ndarray, frames: Sequence[Dataset], **changes: object) -> Dataset:
    """One bit for each pixel, the first one lowest (PS3.5, 8.1.1)."""
    bits = np.packbits(np.asarray(pixels, bool).ravel(), bitorder="little").tobytes()
    values = {
        "SegmentationType": "BINARY", "SegmentationFractionalType": None,
        "MaximumFractionalValue": None, "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0,
        "PixelData": bits + bytes(len(bits) % 2),
    } | changes  # fmt: skip
    return fractional(pixels, frames, **values)


def one_pixel(row: int, column: int, value: int = 255, shape=(6, 5)) -> np.ndarray:
    pixels = np.zeros((1, *shape), np.uint8)
    pixels[0, row, column] = value
    return pixels


def voxels(segmentation: Dataset, source: SourceSeries, number: int = 1) -> list[list[int]]:
    """Indices IJK of what is read."""
    mask = read_segment(segmentation, number, source)
    assert mask.shape == source.volume.shape_ijk
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}
    return np.argwhere(mask).tolist()


@pytest.mark.parametrize(
    ("most", "values", "inside"),
    [
        (255, [0, 1, 127, 128, 255], [3, 4]),
        (100, [0, 49, 50, 51, 100], [2, 3, 4]),
        (1, [0, 1, 0, 0, 0], [1]),
        (None, [0, 100, 127, 128, 200], [3, 4]),
    ],
)
def test_a_fractional_segment_holds_what_is_at_least_half_of_the_maximum(
    source, most, values, inside
) -> None:
    pixels = np.zeros((1, 6, 5), np.uint8)
    pixels[0, 2] = values
    segmentation = fractional(pixels, [a_frame(1)], MaximumFractionalValue=most)
    assert voxels(segmentation, source) == [[column, 2, 1] for column in inside]


def test_in_a_binary_segment_each_set_bit_is_inside(source) -> None:
    pixels = np.concatenate([one_pixel(0, 4), one_pixel(5, 0)])
    segmentation = binary(pixels, [a_frame(3), a_frame(0)])
    assert voxels(segmentation, source) == [[0, 5, 0], [4, 0, 3]]


def test_a_labelmap_holds_a_segment_where_its_number_stands(source) -> None:
    pixels = np.zeros((1, 6, 5), np.uint8)
    pixels[0, 1, :3] = (1, 2, 3)
    segmentation = fractional(pixels, [a_frame(2, segment=None)], SegmentationType="LABELMAP")
    assert voxels(segmentation, source, 1) == [[0, 1, 2]]
    assert voxels(segmentation, source, 2) == [[1, 1, 2]]


def test_only_the_frames_of_the_segment_are_read(source) -> None:
    pixels = np.concatenate([one_pixel(0, 0), one_pixel(1, 1), one_pixel(2, 2)])
    segmentation = fractional(pixels, [a_frame(0, 1), a_frame(1, 2), a_frame(2, 1)])
    assert voxels(segmentation, source, 1) == [[0, 0, 0], [2, 2, 2]]
    assert voxels(segmentation, source, 2) == [[1, 1, 1]]


def test_a_segment_may_be_named_for_all_frames_at_once(source) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1, segment=None)])
    assert voxels(segmentation, source) == []
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.SegmentIdentificationSequence = [dataset(ReferencedSegmentNumber=1)]
    assert voxels(segmentation, source) == [[2, 3, 1]]


@pytest.mark.parametrize("other", ["1.2.3.10", None])
def test_another_frame_of_reference_is_refused(source, other) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1)], FrameOfReferenceUID=other)
    with pytest.raises(UnreadableResultError, match="another frame of reference"):
        read_segment(segmentation, 1, source)


def test_a_segment_that_is_not_there_is_refused_with_those_that_are(source) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1)])
    assert segment_numbers(segmentation) == [1, 2]
    with pytest.raises(UnreadableResultError, match=r"no segment 3; it has \[1, 2\]"):
        read_segment(segmentation, 3, source)


@pytest.mark.parametrize(
    ("off_mm", "slices"),
    [(1.9, [1]), (2.1, [2]), (2.0, [1, 2]), (-1.9, [1]), (-2.1, [0])],
)
def test_a_frame_fills_the_slices_whose_centres_lie_within_half_its_thickness(
    source, off_mm, slices
) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1 + off_mm / 4)])
    assert voxels(segmentation, source) == [[2, 3, k] for k in slices]


@pytest.mark.parametrize(
    ("measures", "slices"),
    [
        ({"SliceThickness": 8}, [0, 1, 2]),
        ({"SliceThickness": 1}, [1]),
        ({"SliceThickness": 1, "SpacingBetweenSlices": 8}, [0, 1, 2]),
        ({"SpacingBetweenSlices": -8}, [0, 1, 2]),
        ({}, [1]),
    ],
)
def test_frames_are_as_thick_as_their_distance_else_as_they_say_else_as_the_images(
    source, measures, slices
) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1)])
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence = [dataset(PixelSpacing=[1.5, 0.75], **measures)]
    assert voxels(segmentation, source) == [[2, 3, k] for k in slices]


def test_a_segmentation_may_hold_a_frame_for_each_slice_of_many_segments() -> None:
    assert (SEGMENTATION_LIMITS.frames, SEGMENTATION_LIMITS.elements) == (100_000, 4_000_000)


@pytest.mark.parametrize("thickness_mm", [501, 1e300])
def test_a_thickness_that_no_image_has_is_refused(source, thickness_mm) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1)])
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SliceThickness = thickness_mm
    with pytest.raises(UnreadableResultError, match="at most 500 mm"):
        read_segment(segmentation, 1, source)


def test_images_of_negative_thickness_place_no_frame(source) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1)])
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence = [dataset(PixelSpacing=[1.5, 0.75])]
    source.first.SliceThickness = -4
    with pytest.raises(UnreadableResultError, match="-4 mm thick"):
        read_segment(segmentation, 1, source)


def test_a_thickness_of_half_a_metre_is_taken(source) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1)])
    segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = 500
    assert voxels(segmentation, source) == [[2, 3, k] for k in range(4)]


@pytest.mark.parametrize(
    ("orientation", "position", "voxel"),
    [
        # Columns to the patient's left, rows to the back, as the images: row 1, column 4.
        ([1, 0, 0, 0, 1, 0], [-10.0, 20.0, 104.0], [4, 1, 1]),
        # Mirrored: the first column lies where the images' last one, I = 4, does.
        ([-1, 0, 0, 0, 1, 0], [-7.0, 20.0, 104.0], [0, 1, 1]),
        # Both mirrored, which keeps the normal.
        ([-1, 0, 0, 0, -1, 0], [-7.0, 27.5, 104.0], [0, 4, 1]),
    ],
)
def test_a_frame_lies_where_its_orientation_says(source, orientation, position, voxel) -> None:
    segmentation = fractional(one_pixel(1, 4), [a_frame(1)])
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = orientation
    item = segmentation.PerFrameFunctionalGroupsSequence[0]
    item.PlanePositionSequence[0].ImagePositionPatient = position
    assert voxels(segmentation, source) == [voxel]


TURNED = {
    "within the slice": ([0.6, 0.8, 0, -0.8, 0.6, 0], [-8.0, 21.0, 104.0]),
    "across the slices": ([0.6, 0, 0.8, 0, 1, 0], [-10.0, 21.5, 101.0]),
    "both": ([0.6, 0.48, 0.64, -0.8, 0.36, 0.48], [-8.5, 20.0, 103.0]),
}


@pytest.mark.parametrize("turned", TURNED)
def test_of_an_oblique_frame_each_voxel_takes_the_pixel_it_lies_on(source, turned) -> None:
    """By the distances of each voxel's centre from the first pixel's, along the frame's axes."""
    cosines, position = TURNED[turned]
    pixels = np.full((1, 3, 4), 255, np.uint8)
    pixels[0, 1, 2] = 0
    segmentation = fractional(pixels, [a_frame(1)])
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = cosines
    shared.PixelMeasuresSequence[0].PixelSpacing = [1.25, 0.8]
    item = segmentation.PerFrameFunctionalGroupsSequence[0]
    item.PlanePositionSequence[0].ImagePositionPatient = position
    along, down = np.array(cosines[:3]), np.array(cosines[3:])
    expected = []
    for i, j, k in np.ndindex(*SHAPE_IJK):
        offset_mm = np.array([-10 + 0.75 * i, 20 + 1.5 * j, 100 + 4 * k]) - position
        column, row = round(along @ offset_mm / 0.8), round(down @ offset_mm / 1.25)
        on_frame = abs(np.cross(along, down) @ offset_mm) < 2.0
        if on_frame and 0 <= column < 4 and 0 <= row < 3 and (row, column) != (1, 2):
            expected.append([i, j, k])
    assert len(expected) > 3
    assert voxels(segmentation, source) == expected


def test_a_frame_on_which_nothing_is_set_adds_nothing(source) -> None:
    pixels = np.concatenate([one_pixel(0, 0, value=0), one_pixel(2, 2)])
    assert voxels(fractional(pixels, [a_frame(0), a_frame(2)]), source) == [[2, 2, 2]]
    assert voxels(fractional(pixels[:1], [a_frame(0)]), source) == []


def test_pixels_beside_the_images_are_passed_over(source) -> None:
    """A frame one pixel larger on each side, and one above the stack."""
    pixels = np.full((2, 8, 7), 255, np.uint8)
    segmentation = fractional(pixels, [a_frame(1), a_frame(9)])
    for item in segmentation.PerFrameFunctionalGroupsSequence:
        x, y, z = item.PlanePositionSequence[0].ImagePositionPatient
        item.PlanePositionSequence[0].ImagePositionPatient = [x - 0.75, y - 1.5, z]
    mask = read_segment(segmentation, 1, source)
    assert mask[:, :, 1].all()
    assert mask.sum() == 30


def test_a_pixel_of_twice_the_size_covers_the_voxels_whose_centres_lie_in_it(source) -> None:
    """The first pixel reaches from the edge of the images over two rows and two columns."""
    segmentation = fractional(one_pixel(1, 0, shape=(3, 3)), [a_frame(1)])
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence = [dataset(PixelSpacing=[3, 1.5], SliceThickness=4)]
    item = segmentation.PerFrameFunctionalGroupsSequence[0]
    item.PlanePositionSequence[0].ImagePositionPatient = [-9.625, 20.75, 104.0]
    assert voxels(segmentation, source) == [[0, 2, 1], [0, 3, 1], [1, 2, 1], [1, 3, 1]]


def test_a_frame_without_a_place_belongs_to_the_image_it_was_made_from(source) -> None:
    pixels = np.concatenate([one_pixel(0, 1), one_pixel(2, 3)])
    segmentation = fractional(pixels, [a_frame(None, image=2), a_frame(None, image=0)])
    assert voxels(segmentation, source) == [[1, 0, 2], [3, 2, 0]]


def test_of_several_images_that_a_frame_was_made_from_the_first_counts(source) -> None:
    item, further = a_frame(None, image=2), a_frame(None, image=0)
    item.DerivationImageSequence[0].SourceImageSequence.append(
        a_frame(None, image=1).DerivationImageSequence[0].SourceImageSequence[0]
    )
    item.DerivationImageSequence.append(further.DerivationImageSequence[0])
    assert voxels(fractional(one_pixel(0, 1), [item]), source) == [[1, 0, 2]]


def test_an_image_that_the_series_lacks_is_refused(source) -> None:
    segmentation = fractional(one_pixel(0, 1), [a_frame(None, image=7)])
    with pytest.raises(UnreadableResultError, match="does not hold; send the whole series"):
        read_segment(segmentation, 1, source)


@pytest.mark.parametrize("shape", [(5, 6), (6, 4)])
def test_a_frame_without_a_place_has_the_size_of_the_images(source, shape) -> None:
    segmentation = fractional(one_pixel(0, 1, shape=shape), [a_frame(None, image=2)])
    with pytest.raises(UnreadableResultError, match=r"images \(6, 5\); without positions"):
        read_segment(segmentation, 1, source)


def a_picture(**changes: object) -> Dataset:
    """Without a place in the patient."""
    nowhere = dict.fromkeys(
        ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID")
    )
    return an_image(0, **nowhere, **changes)


def test_a_segment_of_a_picture_that_names_no_image_is_that_picture_s(tmp_path) -> None:
    source = opened(tmp_path, [a_picture()])
    assert voxels(fractional(one_pixel(4, 1), [a_frame(None)]), source) == [[1, 4, 0]]


def test_a_place_in_the_patient_means_nothing_on_a_picture(tmp_path) -> None:
    source = opened(tmp_path, [a_picture()])
    segmentation = fractional(one_pixel(4, 1), [a_frame(9, image=0)])
    assert voxels(segmentation, source) == [[1, 4, 0]]


@pytest.mark.parametrize(("frame", "k"), [(1, 0), (3, 2), (None, 0)])
def test_a_frame_of_a_clip_is_found_by_its_number(tmp_path, frame, k) -> None:
    clip = a_picture(NumberOfFrames=3, PixelData=bytes(180), Modality="US")
    source = opened(tmp_path, [clip])
    item = a_frame(None, image=0, ReferencedFrameNumber=frame)
    assert voxels(fractional(one_pixel(4, 1), [item]), source) == [[1, 4, k]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PixelData": bytes(29)}, "damaged or cut short"),
        ({"PixelData": None}, "damaged or cut short"),
        ({"NumberOfFrames": 2}, "damaged or cut short"),
        ({"PerFrameFunctionalGroupsSequence": []}, "cannot be read: it is damaged"),
        ({"PixelRepresentation": None}, "cannot be read: it is damaged"),
    ],
)
def test_a_damaged_segmentation_is_refused_in_a_sentence(source, changes, said) -> None:
    segmentation = fractional(one_pixel(3, 2), [a_frame(1)], **changes)
    with pytest.raises(InputError, match=said):
        read_segment(segmentation, 1, source)
