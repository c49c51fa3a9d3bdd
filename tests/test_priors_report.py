# SPDX-License-Identifier: Apache-2.0
"""A comparison as DICOM: valid by others' programs, and read again as it was written."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom")

import highdicom
from pydicom.sr.codedict import codes
from support.conformance import assert_dciodvfy_finds_no_error, assert_dsrdump_reads, parsed

from medreasoner_infer.change import Alignment, PriorOf, as_matrix
from medreasoner_infer.imaging import Plane, load_volume
from medreasoner_infer.priors import Comparison, measured_change
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.change_report import change_documents
from monailabel_app.dicom.report_reading import is_report
from monailabel_app.dicom.seg_reading import read_segment
from monailabel_app.dicom.source import open_source

SHAPE_KJI = (12, 40, 40)


def series(tmp_path, seed, date, grid_seed=0):
    grid = CtGrid((1.5, 1.5, 3.0), (-30.0, -30.0 + grid_seed, 100.0), np.eye(3))
    folder = write_ct_series(np.zeros(SHAPE_KJI), grid, tmp_path / str(seed), seed=seed)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.PatientID, header.StudyDate = "SAME", date
        header.save_as(path)
    return open_source(folder, load_volume(folder))


def cube(volume, side):
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[8 : 8 + side, 10 : 10 + side, 4:8] = 1
    return mask


@pytest.fixture
def compared(tmp_path, answered):
    """Makes comparisons of cubes of given sides (voxels; 0 is not found)."""

    def make(before, after, outcomes=(None, None)):
        prior, current = series(tmp_path, 1, "20250102"), series(tmp_path, 2, "20260304", 5)
        results = [
            answered(source.volume, Plane.AXIAL, 5, cube(source.volume, side), name=name,
                     present=side > 0 and outcome is None, outcome=outcome)
            for source, side, name, outcome in zip(
                (prior, current), (before, after), ("prior-1", "current-1"), outcomes, strict=True
            )
        ]  # fmt: skip
        alignment = Alignment("rigid", as_matrix(np.eye(4)), 1.0, 5.0, 1.3, 1.1, 0.9)
        volumes = prior.volume, current.volume
        change = measured_change(*results, volumes, alignment)
        told = PriorOf("current-1", alignment, change, "20260304", "20250102")
        comparison = Comparison(results[1], replace(results[0], prior_of=told), told)
        return comparison, current, prior

    return make


CASES = {
    "larger": (8, 20),
    "smaller": (20, 8),
    "within_uncertainty": (14, 14),
    "new": (0, 14),
    "not_found_any_more": (14, 0),
    "absent_in_both": (0, 0),
}


@pytest.mark.parametrize("kind", CASES)
def test_validators_find_no_error_and_refer_to_both_studies(compared, tmp_path, kind) -> None:
    comparison, current, prior = compared(*CASES[kind])
    assert comparison.told.change.kind == kind
    documents = change_documents(comparison, current, prior)
    assert set(documents) == {
        "report",
        *(["segmentation_current"] if CASES[kind][1] else []),
        *(["segmentation_prior"] if CASES[kind][0] else []),
    }
    for content in documents.values():
        assert_dciodvfy_finds_no_error(content, tmp_path)
    text = assert_dsrdump_reads(documents["report"], tmp_path)
    assert comparison.told.change.statement.split(":")[0] in text
    report = parsed(documents["report"])
    assert report.StudyInstanceUID == current.study_uid
    assert report.PatientID == "SAME"
    assert not is_report(report)  # of one answer, as the history lists them
    assert references(report.CurrentRequestedProcedureEvidenceSequence) == {
        (current.study_uid, current.series_uid),
        *((current.study_uid, parsed(documents[name]).SeriesInstanceUID)
          for name in documents if name == "segmentation_current"),
    }  # fmt: skip
    assert references(report.PertinentOtherEvidenceSequence) == {
        (prior.study_uid, prior.series_uid),
        *((prior.study_uid, parsed(documents[name]).SeriesInstanceUID)
          for name in documents if name == "segmentation_prior"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", CASES)
def test_a_comparison_has_all_that_the_viewer_takes_for_granted(compared, kind) -> None:
    """As OHIF's SR handler reads it: a region on a current image, and one first below a number."""
    comparison, current, prior = compared(*CASES[kind])
    report = parsed(change_documents(comparison, current, prior)["report"])
    groups = [group.ContentSequence for group in report.ContentSequence[-1].ContentSequence]
    tracked = [
        next(item.UID for item in items if item.ConceptNameCodeSequence[0].CodeValue == "112040")
        for items in groups
    ]
    assert len(set(tracked)) == 1
    items = [item for group in groups for item in group]
    region = next(item for item in items if item.ValueType == "SCOORD")
    current_images = {frame.image.SOPInstanceUID for frame in current.frames}
    assert image_of(region) in current_images
    # The time point's order has no region, and by a tracked one no viewer looks for it.
    numbers = [item for item in items if item.ValueType == "NUM" and "ContentSequence" in item]
    assert len(numbers) >= (0 if kind == "absent_in_both" else 3)
    for number in numbers:
        assert number.ContentSequence[0].ValueType == "SCOORD"


def image_of(region) -> str:
    return region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID


def references(evidence) -> set[tuple[str, str]]:
    return {
        (study.StudyInstanceUID, each.SeriesInstanceUID)
        for study in evidence
        for each in study.ReferencedSeriesSequence
    }


def test_sizes_their_uncertainty_and_the_change_are_read_again(compared) -> None:
    comparison, current, prior = compared(8, 20)
    documents = change_documents(comparison, current, prior)
    report = highdicom.sr.ComprehensiveSR.from_dataset(parsed(documents["report"])).content
    groups = report.get_volumetric_roi_measurement_groups()
    change = comparison.told.change
    for group, size in zip(groups, (change.volume_ml.after, change.volume_ml.before), strict=True):
        (volume,) = group.get_measurements(name=codes.SCT.Volume)
        assert volume.value == pytest.approx(1000 * size.value)
        assert volume.unit == codes.UCUM.CubicMillimeter
        (within,) = (
            item for item in volume[0].ContentSequence
            if item.name == codes.SCT.RangeOfMeasurementUncertainty
        )  # fmt: skip
        assert within.value == pytest.approx(1000 * size.uncertainty)
    assert len({group.tracking_uid for group in groups}) == 1
    last = report.get_image_measurement_groups()[-1]
    (told,) = last.get_qualitative_evaluations(name=codes.DCM.ComparisonToPreviousFindings)
    assert told.value == codes.SCT.IncreaseInSize
    by_unit = {each.unit.value: each.value for each in last.get_measurements()}
    assert by_unit["mm3"] == pytest.approx(1000 * change.volume_ml.difference)
    assert by_unit["mm"] == pytest.approx(change.long_axis_mm.difference, abs=1e-3)
    assert by_unit["%"] == pytest.approx(change.volume_ml.percent, abs=1e-3)
    assert {image.referenced_sop_instance_uid for image in last.source_images} == {
        source.frames[5].image.SOPInstanceUID for source in (current, prior)
    }


def test_both_masks_are_read_again_as_drafts_of_their_own_series(compared) -> None:
    comparison, current, prior = compared(8, 20)
    documents = change_documents(comparison, current, prior)
    for name, source, result in (
        ("segmentation_current", current, comparison.current),
        ("segmentation_prior", prior, comparison.prior),
    ):
        segmentation = parsed(documents[name])
        np.testing.assert_array_equal(read_segment(segmentation, 1, source), result.mask_ijk)
        assert segmentation.StudyInstanceUID == source.study_uid
        assert segmentation.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"


def test_an_equal_comparison_has_equal_uids(compared) -> None:
    comparison, current, prior = compared(8, 20)
    first, second = (
        {name: parsed(content).SOPInstanceUID for name, content in made.items()}
        for made in (change_documents(comparison, current, prior) for _ in range(2))
    )
    assert first == second


def test_a_question_that_was_not_understood_is_no_finding(compared, tmp_path) -> None:
    comparison, current, prior = compared(0, 0, ("not_understood", "not_understood"))
    (content,) = change_documents(comparison, current, prior).values()
    assert_dciodvfy_finds_no_error(content, tmp_path)
    text = assert_dsrdump_reads(content, tmp_path)
    assert "Absent" not in text
    assert "Nothing is said of a change" in text
