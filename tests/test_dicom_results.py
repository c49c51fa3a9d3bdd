# SPDX-License-Identifier: Apache-2.0
"""Results as DICOM: where they lie in the patient, what is mended, and that nothing is lost.

Positions are checked against the equation of PS3.3 C.7.6.2.1.1, written down here once more on the
headers as pydicom reads them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom")
pytest.importorskip("sqlalchemy")

from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from support.physical_space import pixel_to_lps, report_regions_lps_mm, segment_lps_mm

from medreasoner_infer.imaging import Plane, Volume, load_volume, slice_mapping
from medreasoner_infer.mask_sizes import measure
from medreasoner_infer.result import FollowUp, Inference
from medreasoner_infer.types import EarlierTarget
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.codes import code_table
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.errors import DicomResultError, UnusableSeriesError
from monailabel_app.dicom.report import ReferencedSegment, ReportContent, tracking_of, write_report
from monailabel_app.dicom.results import newest_reports, read_result
from monailabel_app.dicom.seg_reading import read_segment
from monailabel_app.dicom.segmentation import SegmentSpec, write_segmentation
from monailabel_app.dicom.source import SourceSeries, open_source
from monailabel_app.store.records import Decision, InferenceRecord, Outcome
from monailabel_app.studies.dicom_folder import write_nifti

SHAPE_IJK = (20, 16, 9)
MASK = np.s_[4:9, 5:12, 3:6]
TILT = np.deg2rad(18.0)
# Columns are the directions of I, J and K; K of the tilted gantry is not at right angles to J.
DIRECTIONS = {
    "axial": np.eye(3),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "gantry_tilted": np.array([[1.0, 0, 0], [0, np.cos(TILT), 0], [0, -np.sin(TILT), 1]]),
}
LIVER = code_table().find("liver")


def synthetic(tmp_path: Path, geometry: str) -> SourceSeries:
    grid = CtGrid((1.5, 0.75, 4.0), (-40.5, 12.25, 300.0), DIRECTIONS[geometry])
    hu = np.arange(np.prod(SHAPE_IJK)).reshape(SHAPE_IJK[::-1]) - 500
    return opened(write_ct_series(hu, grid, tmp_path / geometry, seed=3))


def opened(path: Path) -> SourceSeries:
    return open_source(path, load_volume(path))


def a_mask(volume: Volume) -> np.ndarray:
    mask = np.zeros(volume.shape_ijk, np.uint8)
    i, j, k = volume.shape_ijk
    mask[i // 5 : i // 2, j // 3 : j // 2 + 1, k // 3 : k // 3 + 3] = 1
    mask[i // 4, j // 3, k // 3] = 0
    return mask


def a_record(result, decision: Decision | None = None) -> InferenceRecord:
    return InferenceRecord(
        id=result.inference_id,
        created_at=datetime.fromisoformat(result.created_at),
        task="medreasoner",
        image_id="image",
        present=result.present,
        result=Inference.from_dict(json.loads(json.dumps(result.to_dict()))),
        mask_sha256=None,
        mask_file=None,
        decision=decision,
    )


def written(record: InferenceRecord, mask: np.ndarray | None, source: SourceSeries, version=1):
    """The objects as they are read back from their files."""
    segmentation = answer = None
    if mask is not None:
        spec = SegmentSpec(1, "Liver", LIVER, tracking_of(record.id), ("MedReasoner", "1"))
        segmentation = write_segmentation(mask, [spec], source, new_ids(version))
        answer = ReferencedSegment(segmentation, 1)
    content = ReportContent(record, mask, answer, LIVER, "MedReasoner: liver, accepted")
    report = write_report(content, source, new_ids(version))
    return reread(report), None if segmentation is None else reread(segmentation)


def reread(dataset: pydicom.Dataset) -> pydicom.Dataset:
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(to_bytes(dataset)))


def headers_along_k(source: SourceSeries) -> list[pydicom.Dataset]:
    folder = source.volume.source
    headers = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    normal = np.cross(*np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3))
    return sorted(headers, key=lambda h: float(normal @ np.array(h.ImagePositionPatient, float)))


def in_any_order(positions: np.ndarray) -> np.ndarray:
    return positions[np.lexsort(np.round(positions, 3).T)]


@pytest.mark.parametrize("geometry", DIRECTIONS)
def test_a_mask_lies_where_its_voxels_do(tmp_path, geometry) -> None:
    source = synthetic(tmp_path, geometry)
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[MASK] = 1
    spec = SegmentSpec(1, "Liver", LIVER)
    segmentation = reread(write_segmentation(mask, [spec], source, new_ids()))
    headers = headers_along_k(source)
    expected = np.array([pixel_to_lps(headers[k], i, j) for i, j, k in np.argwhere(mask)])
    found = segment_lps_mm(segmentation)
    np.testing.assert_allclose(in_any_order(found), in_any_order(expected), atol=1e-3)
    np.testing.assert_array_equal(read_segment(segmentation, 1, source), mask)


@pytest.mark.parametrize("geometry", DIRECTIONS)
def test_other_libraries_read_what_is_written_of_each_geometry(tmp_path, geometry) -> None:
    """The segmentation by highdicom, the viewers' copy of the images by SimpleITK and nibabel."""
    import highdicom
    import nibabel
    import SimpleITK as sitk

    source = synthetic(tmp_path, geometry)
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[MASK] = 1
    written = reread(write_segmentation(mask, [SegmentSpec(1, "Liver", LIVER)], source, new_ids()))
    frames_kji = highdicom.seg.Segmentation.from_dataset(written).get_pixels_by_source_instance(
        [header.SOPInstanceUID for header in headers_along_k(source)],
        segment_numbers=[1],
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(frames_kji[..., 0].transpose(2, 1, 0), mask)
    write_nifti(source.volume, tmp_path / "copy.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "copy.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, source.volume.array)
    ras = np.diag([-1, -1, 1, 1]) @ source.volume.ijk_to_lps
    np.testing.assert_allclose(nibabel.load(tmp_path / "copy.nii.gz").affine, ras, atol=1e-4)


@pytest.mark.parametrize("plane", [Plane.ACQUIRED, Plane.AXIAL, Plane.CORONAL, Plane.SAGITTAL])
@pytest.mark.parametrize("geometry", [*DIRECTIONS, "real_ct"])
def test_box_and_points_lie_where_the_screen_showed_them(
    request, tmp_path, answered, geometry, plane
) -> None:
    """On an acquired frame as columns and rows of its image; elsewhere as they were recorded, and
    the slice as a line across an image that it crosses."""
    if geometry == "real_ct":
        source = opened(real_ct(request.getfixturevalue("shared_data"), tmp_path / "ct"))
    else:
        source = synthetic(tmp_path, geometry)
    result = answered(source.volume, plane, 4, np.zeros(source.volume.shape_ijk, np.uint8))
    report, _ = written(a_record(result), None, source)
    headers = headers_along_k(source)

    def oracle_lps(ijk) -> np.ndarray:
        """Between slices on the straight line through both."""
        i, j, k = ijk
        below = int(np.clip(np.floor(k), 0, len(headers) - 2))
        ends = [pixel_to_lps(headers[n], i, j) for n in (below, below + 1)]
        return ends[0] + (k - below) * (ends[1] - ends[0])

    by_uid = {header.file_meta.MediaStorageSOPInstanceUID: header for header in headers}
    slice_read, *regions = report_regions_lps_mm(report, by_uid)
    prompts = result.prompts
    mapping = result.mapping(source.volume)
    if mapping.slice_axis != 2:
        assert regions == []
        assert read_result(report, None, source).record.result.prompts == prompts
        ends_ijk = mapping.slice_px_to_ijk([(0, 0), mapping.shape_hw[::-1]])
        ends_ijk[:, 2] = (ends_ijk[:, 2].sum()) // 2
        expected = np.array([oracle_lps(ijk) for ijk in ends_ijk[ends_ijk[:, :2].sum(1).argsort()]])
        np.testing.assert_allclose(slice_read, expected, atol=1e-3)
        return
    box, inside, outside = regions
    corners = np.array([oracle_lps(ijk) for ijk in prompts.bbox_corners_ijk])
    np.testing.assert_allclose(box[[0, 2]], corners, atol=1e-3)
    np.testing.assert_allclose(box[0], box[-1], atol=1e-6)
    points = np.array([oracle_lps(ijk) for ijk in prompts.points_ijk])
    np.testing.assert_allclose(np.concatenate([inside, outside]), points, atol=1e-3)


@pytest.mark.parametrize("plane", [Plane.ACQUIRED, Plane.CORONAL])
@pytest.mark.parametrize("geometry", ["axial", "gantry_tilted"])
def test_nothing_is_lost_on_the_way_through_dicom(tmp_path, answered, geometry, plane) -> None:
    source = synthetic(tmp_path, geometry)
    mask = a_mask(source.volume)
    now = datetime.now(timezone.utc)
    decision = Decision(Outcome.EDITED, "Too large at the dome.", now, "reader one")
    earlier = EarlierTarget("Leber 肝", "axial", 3, (1.0, 2.0, 9.5, 8.0))
    result = replace(answered(source.volume, plane, 4, mask), follow_up=FollowUp(earlier, True))
    record = a_record(result, decision)
    report, segmentation = written(record, mask, source, version=3)
    stored = read_result(report, segmentation, source)
    np.testing.assert_array_equal(stored.mask_ijk, mask)
    assert stored.header.version == 3
    assert stored.record.decision == decision
    assert stored.record.study_uid == source.study_uid
    read, asked = stored.record.result.to_dict(), record.result.to_dict()
    read_prompts, prompts = read.pop("prompts"), asked.pop("prompts")
    assert read == asked
    assert stored.record.result.follow_up.target == earlier
    for key in ("bbox_source", "point_labels", "point_sources"):
        assert read_prompts[key] == prompts[key]
    for key in ("bbox_xyxy_slice_px", "points_xy_slice_px", "points_ijk", "bbox_corners_lps_mm"):
        np.testing.assert_allclose(read_prompts[key], prompts[key], atol=1e-4)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("absent", ("2667000", "SCT", "Absent")),
        ("not_understood", ("not-understood", "99MEDREASONER", "Question not understood")),
    ],
)
def test_an_answer_without_a_target_is_a_report_without_a_mask(
    tmp_path, answered, outcome, code
) -> None:
    source = synthetic(tmp_path, "axial")
    empty = np.zeros(SHAPE_IJK, np.uint8)
    result = answered(source.volume, Plane.AXIAL, 4, empty, present=False, outcome=outcome)
    record = a_record(result)
    report, _ = written(record, None, source)
    _, group = report.ContentSequence[-1].ContentSequence
    codes = {
        item.ConceptNameCodeSequence[0].CodeValue: item.ConceptCodeSequence[0]
        for item in group.ContentSequence
        if item.ValueType == "CODE"
    }
    said = codes["target"]
    assert (said.CodeValue, said.CodingSchemeDesignator, said.CodeMeaning) == code
    images = [item for item in group.ContentSequence if item.ValueType == "IMAGE"]
    assert [image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in images] == [
        headers_along_k(source)[4].SOPInstanceUID
    ]
    stored = read_result(report, None, source)
    assert (stored.record.present, stored.record.outcome) == (False, outcome)
    assert stored.record.result.to_dict() == result.record().to_dict()
    assert not stored.mask_ijk.any()
    with pytest.raises(DicomResultError, match="empty"):
        write_segmentation(empty, [SegmentSpec(1, "Liver", LIVER)], source, new_ids())


def test_the_newest_version_of_each_record_counts(tmp_path, answered) -> None:
    source = synthetic(tmp_path, "axial")
    mask = a_mask(source.volume)
    reports = []
    for name, version in (("a", 2), ("b", 1), ("a", 1)):
        record = a_record(answered(source.volume, Plane.AXIAL, 4, mask, name=name))
        reports.append(written(record, mask, source, version)[0])
    foreign = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    newest, unreadable = newest_reports([*reports, foreign])
    assert {header.inference_id: header.version for header, _ in newest} == {"a": 2, "b": 1}
    assert len(unreadable) == 1


def test_several_segments_keep_codes_and_sides(tmp_path) -> None:
    source = synthetic(tmp_path, "axial")
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[2:5, 2:5, 2] = 4
    labels[8:12, 3:6, 2:4] = 9
    table = code_table()
    specs = [
        SegmentSpec(4, "Left kidney", table.find("kidney_left")),
        SegmentSpec(9, "Cyst", table.find("right renal cyst")),
    ]
    written_ = reread(write_segmentation(labels, specs, source, new_ids()))
    kidney, cyst = written_.SegmentSequence
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    region = cyst.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeMeaning) == (
        "64033007", "Right",
    )  # fmt: skip
    np.testing.assert_array_equal(read_segment(written_, 2, source), labels == 9)


def test_sizes_are_those_of_a_rectangle(tmp_path) -> None:
    """5 x 7 pixels of 1.5 x 0.75 mm on three slices 4 mm apart; the diagonal is the long axis."""
    volume = synthetic(tmp_path, "axial").volume
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[MASK] = 1
    sizes = measure(mask, volume, slice_mapping(volume, Plane.AXIAL, 4))
    assert sizes.volume_mm3 == pytest.approx(5 * 7 * 3 * 1.5 * 0.75 * 4)
    assert sizes.area_mm2 == pytest.approx(5 * 7 * 1.5 * 0.75)
    assert sizes.long_axis_mm == pytest.approx(np.hypot(7.5, 5.25))
    # Both other corners lie this far from the diagonal, on either side of it.
    assert sizes.short_axis_mm == pytest.approx(2 * 7.5 * 5.25 / np.hypot(7.5, 5.25))


def multiframe(source: SourceSeries, path: Path, order: list[int]) -> Path:
    """The series as one enhanced image (PS3.3 A.38) whose frames are stored in ``order``."""
    headers = headers_along_k(source)
    image = pydicom.dcmread(headers[0].filename)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    shared, measures, orientation = (pydicom.Dataset() for _ in range(3))
    measures.PixelSpacing, measures.SliceThickness = image.PixelSpacing, image.SliceThickness
    orientation.ImageOrientationPatient = image.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for k in order:
        item, position = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = headers[k].ImagePositionPatient
        item.PlanePositionSequence = [position]
        image.PerFrameFunctionalGroupsSequence.append(item)
    image.NumberOfFrames = len(order)
    image.PixelData = b"".join(headers[k].PixelData for k in order)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        del image[keyword]
    image.save_as(path)
    return path


def test_frames_of_one_image_may_be_stored_in_any_order(tmp_path) -> None:
    order = [3, 0, 8, 1, 2, 7, 4, 6, 5]
    source = opened(multiframe(synthetic(tmp_path, "axial"), tmp_path / "enhanced.dcm", order))
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[3:6, 2:4, 0] = mask[1:3, 1:3, 7] = 1
    spec = SegmentSpec(1, "x", LIVER)
    segmentation = reread(write_segmentation(mask, [spec], source, new_ids()))
    np.testing.assert_array_equal(read_segment(segmentation, 1, source), mask)
    frames = [
        (
            float(frame.PlanePositionSequence[0].ImagePositionPatient[2]),
            frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber,
        )
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    ]
    assert frames == [(300.0, order.index(0) + 1), (300.0 + 7 * 4, order.index(7) + 1)]


# Real files and their defects.


def real_ct(shared: Path, folder: Path) -> Path:
    """JPEG 2000 slices 2 mm apart and 3 mm thick without a SOP Class UID; a PACS has added UIDs."""
    folder.mkdir()
    for path in sorted((shared / "totalsegmentator" / "example_ct_dicom").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.5"
        dataset.save_as(folder / path.name)
    return folder


def ultrasound(folder: Path, frames: int) -> Path:
    """An RGB ultrasound image or clip without patient geometry (PS3.3 A.6, A.7)."""
    image = pydicom.Dataset()
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1" if frames == 1 else (
        "1.2.840.10008.5.1.4.1.1.3.1"
    )  # fmt: skip
    image.SOPInstanceUID, image.StudyInstanceUID, image.SeriesInstanceUID = (
        generate_uid() for _ in range(3)
    )
    image.Modality, image.PatientID, image.PatientName = "US", "p", "A^B"
    image.NumberOfFrames = frames
    image.SamplesPerPixel, image.PlanarConfiguration = 3, 0
    image.PhotometricInterpretation = "RGB"
    image.Rows, image.Columns = 24, 32
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation = 7, 0
    image.PixelData = np.random.default_rng(0).bytes(24 * 32 * 3 * frames)
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.is_little_endian, image.is_implicit_VR = True, False
    folder.mkdir()
    pydicom.dcmwrite(folder / "us.dcm", image, write_like_original=False)
    return folder / "us.dcm"


def test_the_real_ct_is_mended_and_its_mask_has_the_distance_of_positions(
    shared_data, tmp_path
) -> None:
    source = opened(real_ct(shared_data, tmp_path / "ct"))
    assert any("meta header" in warning for warning in source.warnings)
    assert any("Slice Thickness" in warning for warning in source.warnings)
    mask = a_mask(source.volume)
    written_ = reread(write_segmentation(mask, [SegmentSpec(1, "x", LIVER)], source, new_ids()))
    measures = written_.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (2, 2)
    headers = headers_along_k(source)
    expected = np.array([pixel_to_lps(headers[k], i, j) for i, j, k in np.argwhere(mask)])
    found = segment_lps_mm(written_)
    np.testing.assert_allclose(in_any_order(found), in_any_order(expected), atol=1e-3)
    np.testing.assert_array_equal(read_segment(written_, 1, source), mask)


def test_series_without_identifiers_are_refused_with_a_reason(shared_data) -> None:
    folder = shared_data / "totalsegmentator" / "example_ct_dicom"
    with pytest.raises(UnusableSeriesError, match="Study Instance UID, Series Instance UID"):
        opened(folder)


@pytest.mark.parametrize(
    ("keyword", "value", "refused"),
    [
        ("SpecificCharacterSet", "", None),
        ("PatientSex", "W", None),
        ("StudyID", None, None),
        ("SliceThickness", None, None),
        ("FrameOfReferenceUID", "", "Frame of Reference"),
        ("StudyInstanceUID", "../../evil", "Study Instance UID"),
    ],
)
def test_each_defect_is_mended_or_named(tmp_path, keyword, value, refused) -> None:
    folder = write_ct_series(
        np.zeros((3, 4, 5)), CtGrid((1, 1, 2), (0, 0, 0), np.eye(3)), tmp_path / "ct", seed=1
    )
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        if value is None:
            del dataset[keyword]
        else:
            dataset.add(pydicom.DataElement(
                pydicom.datadict.tag_for_keyword(keyword), dataset[keyword].VR
                if keyword in dataset else "CS", value, validation_mode=0,
            ))  # fmt: skip
        dataset.save_as(path)
    if refused is not None:
        with pytest.raises(UnusableSeriesError, match=refused):
            opened(folder)
        return
    source = opened(folder)
    assert len(source.warnings) == 1
    mask = np.ones((5, 4, 3), np.uint8)
    segmentation = write_segmentation(mask, [SegmentSpec(1, "x", LIVER)], source, new_ids())
    assert len(segmentation.PerFrameFunctionalGroupsSequence) == 3


def test_a_clip_keeps_the_mask_of_one_frame(tmp_path) -> None:
    source = opened(ultrasound(tmp_path / "us", frames=4))
    mask = np.zeros((32, 24, 4), np.uint8)
    mask[5:9, 3:6, 2] = 1
    spec = SegmentSpec(1, "x", LIVER)
    segmentation = reread(write_segmentation(mask, [spec], source, new_ids()))
    np.testing.assert_array_equal(read_segment(segmentation, 1, source), mask)
    mask[5:9, 3:6, 3] = 1
    with pytest.raises(DicomResultError, match="2 frames of a clip"):
        write_segmentation(mask, [spec], source, new_ids())


def test_a_foreign_segmentation_is_read_as_another_reader_does(shared_data) -> None:
    reader = pytest.importorskip("pydicom_seg")
    source = opened(shared_data / "dcmqi" / "ct-3slice")
    segmentation = pydicom.dcmread(shared_data / "dcmqi" / "liver.dcm")
    expected_kji = reader.SegmentReader().read(segmentation).segment_data(1)
    assert expected_kji.any()
    np.testing.assert_array_equal(read_segment(segmentation, 1, source), expected_kji.T)


def test_a_coarser_segmentation_is_placed_by_physical_space(tmp_path) -> None:
    """Every second pixel and slice of the images' grid: each of its voxels covers 2 x 2 x 2."""
    fine, coarse = (
        CtGrid(spacing, origin, np.eye(3))
        for spacing, origin in (((1, 1, 2), (0, 0, 0)), ((2, 2, 4), (0.5, 0.5, 1)))
    )
    source = opened(write_ct_series(np.zeros((8, 12, 10)), fine, tmp_path / "fine", seed=1))
    other = opened(write_ct_series(np.zeros((4, 6, 5)), coarse, tmp_path / "coarse", seed=1))
    mask = np.zeros((5, 6, 4), np.uint8)
    mask[1:3, 2:5, 1:3] = 1
    spec = SegmentSpec(1, "x", LIVER)
    segmentation = reread(write_segmentation(mask, [spec], other, new_ids()))
    doubled = mask.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(read_segment(segmentation, 1, source), doubled)


@pytest.mark.parametrize("kind", ["ct", "ct_3slice", "mr", "dx", "us"])
@pytest.mark.parametrize("tool", ["dciodvfy", "dsrdump"])
def test_validators_find_no_error(shared_data, tmp_path, answered, kind, tool) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is absent; install it with scripts/setup_pacs.sh")
    paths = {
        "ct": lambda: real_ct(shared_data, tmp_path / "ct"),
        "ct_3slice": lambda: shared_data / "dcmqi" / "ct-3slice",
        "mr": lambda: Path(get_testdata_file("MR_small.dcm")),
        "dx": lambda: shared_data / "highdicom" / "dx_image.dcm",
        "us": lambda: ultrasound(tmp_path / "us", frames=1),
    }
    source = opened(paths[kind]())
    mask = a_mask(source.volume)
    planes = [Plane.ACQUIRED] if source.volume.is_picture else [Plane.ACQUIRED, Plane.CORONAL]
    objects = []
    for plane in planes:
        index = 0 if plane is Plane.ACQUIRED else source.volume.shape_ijk[1] // 2
        decision = Decision(Outcome.ACCEPTED, None, datetime.now(timezone.utc), "reader")
        record = a_record(answered(source.volume, plane, index, mask), decision)
        objects += written(record, mask, source)
    for outcome in ("absent", "not_understood"):
        nothing = mask * 0
        result = answered(source.volume, planes[0], 0, nothing, present=False, outcome=outcome)
        objects.append(written(a_record(result), None, source)[0])
    for number, dataset in enumerate(objects):
        if tool == "dsrdump" and dataset.Modality != "SR":
            continue
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(to_bytes(dataset))
        run = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)
        said = (run.stdout + run.stderr).splitlines()
        assert [line for line in said if line.startswith(("Error", "E:", "F:"))] == []
        assert run.returncode == 0
