# SPDX-License-Identifier: Apache-2.0
"""Results that a reader tells apart in any viewer: names, colours, codes, states, predecessors.

What is read back is compared with literal values of the standard, and reports with what OHIF's SR
handler takes for granted (``cornerstone-dicom-sr/src/getSopClassHandlerModule.ts``).
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

import highdicom
import numpy as np
import pytest

pytest.importorskip("monailabel")

from test_dicom_results import SHAPE_IJK, a_mask, a_record, opened, reread, synthetic, ultrasound

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Plane
from medreasoner_infer.types import ModelIdentity
from monailabel_app.common.door import read_model
from monailabel_app.dicom.codes import code_table
from monailabel_app.dicom.colours import PALETTE, cielab, stable_rgb
from monailabel_app.dicom.encoding import new_ids, series_description
from monailabel_app.dicom.label_segments import Answered, segments_of
from monailabel_app.dicom.outlines import MOST_VERTICES, outlines
from monailabel_app.dicom.report import ReferencedSegment, ReportContent, tracking_of, write_report
from monailabel_app.dicom.results import read_result
from monailabel_app.dicom.segmentation import SegmentSpec, write_segmentation
from monailabel_app.dicom.source import SourceSeries
from monailabel_app.store import Decision, Outcome, Target
from monailabel_app.store.records import InferenceRecord
from monailabel_app.web.routes.label_words import Words
from monailabel_app.web.routes.records import StatedOutcome

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LIVER = code_table().find("liver")


# --- segments ------------------------------------------------------------------------------------


def test_a_segment_has_the_name_the_code_and_the_colour_of_its_target(tmp_path) -> None:
    entry = {"name": "Left kidney", "idx": 1, "color": [221, 84, 84], "inference_id": "q"}
    segments = segments_of([entry], [1], Answered("q", "Which organ lies here?"))
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[4:9, 5:12, 3:6] = 1
    source = synthetic(tmp_path, "axial")
    written = write_segmentation(mask, segments, source, new_ids(), state="accepted")
    read = highdicom.seg.Segmentation.from_dataset(reread(written))
    (segment,) = read.SegmentSequence
    assert segment.SegmentLabel == "Left kidney"
    kind, category = segment.segmented_property_type, segment.segmented_property_category
    assert (kind.value, kind.scheme_designator, kind.meaning) == ("64033007", "SCT", "Kidney")
    assert (category.value, category.meaning) == ("123037004", "Anatomical Structure")
    side = segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert side.CodeMeaning == "Left"
    # By scikit-image: L* 54.40, a* 53.52, b* 28.58.
    assert list(segment.RecommendedDisplayCIELabValue) == [35653, 46650, 40240]
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert read.SeriesDescription == "MedReasoner: Left kidney, accepted"


def test_a_colour_is_what_another_library_makes_of_it() -> None:
    color = pytest.importorskip("skimage.color")
    for rgb in (*PALETTE, (0, 0, 0), (255, 255, 255), (0, 0, 255), (1, 2, 3)):
        light, *opponents = color.rgb2lab(np.array(rgb, float)[None, None] / 255)[0, 0]
        expected = [light * 655.35, *((value + 128) * 257 for value in opponents)]
        np.testing.assert_allclose(cielab(rgb), expected, atol=3)


def test_a_target_without_a_colour_keeps_one_of_its_own() -> None:
    assert stable_rgb("spleen") == stable_rgb("Spleen") == (86, 180, 233)
    assert len({stable_rgb(name) for name in ("spleen", "liver", "aorta", "lung")}) > 1


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Where is the spleen?", "spleen"),
        ("Please segment the left kidney.", "left kidney"),
        ("Gall bladder", "gall bladder"),
        # What is asked for here is none of the organs that are named.
        ("Is there fluid around the spleen?", None),
        ("Which organ makes bile?", None),
        ("Where is the stent in the aorta?", None),
        ("", None),
        (None, None),
    ],
)
def test_a_question_names_its_target_only_where_it_says_nothing_else(question, name) -> None:
    assert code_table().named_by(question) == name


def test_a_target_that_nobody_has_named_is_called_as_the_question_does() -> None:
    entries = [{"name": "MedReasoner target", "idx": 1}]
    (named,) = segments_of(entries, [1], Answered("q", "Where is the spleen?"))
    assert (named.label, named.codes.kind.value) == ("spleen", "78961009")
    unnamed = [{"name": None, "idx": 1, "color": [1, 2, 3]}]
    (asked,) = segments_of(unnamed, [1], Answered("q", "Which organ makes bile?"))
    assert asked.rgb == (1, 2, 3)
    assert (asked.label, asked.codes.kind.value) == ("Which organ makes bile?", "85756007")
    renamed = [{"name": "Target 1", "idx": 1}]
    (coded,) = segments_of(renamed, [1], Answered("q", "Where is the spleen?"))
    assert (coded.label, coded.codes.kind.value) == ("Target 1", "78961009")


def test_a_mask_of_unknown_origin_is_not_said_to_be_drawn_by_hand(tmp_path) -> None:
    segments = segments_of([{"name": "Liver"}], [1], None)
    mask = a_mask(synthetic(tmp_path, "axial").volume)
    written = reread(
        write_segmentation(mask, segments, opened(tmp_path / "axial"), new_ids(), state="x")
    )
    (segment,) = written.SegmentSequence
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert segment.SegmentAlgorithmName == "source unknown"
    assert "SegmentationAlgorithmIdentificationSequence" not in segment


@pytest.mark.parametrize(
    ("names", "state", "version", "expected"),
    [
        (["spleen"], "accepted", 1, "MedReasoner: spleen, accepted"),
        (["spleen", "liver"], "edited", 2, "MedReasoner: spleen, liver, edited, version 2"),
        (["a\\b\n\x1bc\ud800"], "rejected", 1, "MedReasoner: a/b c, rejected"),
        (["spleen"], None, 1, "MedReasoner: spleen"),
        (["膵臓" * 20], "rejected", 1, f"MedReasoner: {'膵臓' * 6}..., rejected"),
        (["x" * 80], "accepted", 12, f"MedReasoner: {'x' * 26}..., accepted, version 12"),
    ],
)
def test_a_series_says_target_and_state_within_what_dicom_allows(
    names, state, version, expected
) -> None:
    said = series_description(names, state, version)
    assert said == expected
    assert len(said.encode()) <= 64


# --- outlines ------------------------------------------------------------------------------------


def test_an_outline_runs_along_the_edges_of_pixels() -> None:
    mask = np.zeros((6, 5), np.uint8)
    mask[1:4, 1] = mask[1, 2] = 1  # columns 1 to 3 of row 1, and column 1 of row 2
    mask[5, 4] = 1
    larger, smaller = outlines(mask)
    assert larger.tolist() == [[1, 1], [4, 1], [4, 2], [2, 2], [2, 3], [1, 3], [1, 1]]
    assert smaller.tolist() == [[5, 4], [6, 4], [6, 5], [5, 5], [5, 4]]


def test_an_outline_encloses_the_area_of_its_part() -> None:
    """By the shoelace formula; with holes filled, as they are not told."""
    from scipy import ndimage

    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.random((60, 50)), 2) > 0.5
    parts, count = ndimage.label(mask)
    sizes = sorted(
        (int(ndimage.binary_fill_holes(parts == part).sum()) for part in range(1, count + 1)),
    )
    areas = []
    for outline in outlines(mask):
        x, y = outline.T
        areas.append(abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2)
    assert sorted(areas) == pytest.approx(sizes)


def test_an_outline_of_very_many_corners_fits_into_its_element() -> None:
    comb = np.zeros((6000, 3), np.uint8)
    comb[:, 0] = 1
    comb[::2, 1:] = 1
    (outline,) = outlines(comb)
    assert len(outline) <= MOST_VERTICES
    assert (outline[0] == outline[-1]).all()


# --- reports -------------------------------------------------------------------------------------


def report_of(record: InferenceRecord, mask: np.ndarray | None, source: SourceSeries):
    answer = None
    if mask is not None:
        spec = SegmentSpec(1, "Liver", LIVER, tracking_of(record.id), ("MedReasoner", "1"))
        answer = ReferencedSegment(write_segmentation(mask, [spec], source, new_ids()), 1)
    content = ReportContent(record, mask, answer, LIVER, "MedReasoner: Liver")
    return reread(write_report(content, source, new_ids()))


def sources(tmp_path: Path) -> dict[str, SourceSeries]:
    return {
        "axial": synthetic(tmp_path, "axial"),
        "tilted": synthetic(tmp_path, "gantry_tilted"),
        "clip": opened(ultrasound(tmp_path / "us", frames=4)),
    }


CASES = {
    "accepted": ("axial", Plane.AXIAL, Outcome.ACCEPTED),
    "accepted on a reformatted plane": ("axial", Plane.CORONAL, Outcome.ACCEPTED),
    "edited under a tilted gantry": ("tilted", Plane.SAGITTAL, Outcome.EDITED),
    "accepted in a clip": ("clip", Plane.ACQUIRED, Outcome.ACCEPTED),
    "rejected": ("axial", Plane.AXIAL, Outcome.REJECTED),
    "rejected on a reformatted plane": ("axial", Plane.SAGITTAL, Outcome.REJECTED),
    "rejected in a clip": ("clip", Plane.ACQUIRED, Outcome.REJECTED),
    "absent": ("axial", Plane.AXIAL, None),
}


@pytest.mark.parametrize("case", CASES)
def test_a_report_has_all_that_the_viewer_takes_for_granted(tmp_path, answered, case) -> None:
    """An SCOORD on an image of the series below every number and for every tracked thing."""
    place, plane, outcome = CASES[case]
    source = sources(tmp_path)[place]
    shape = source.volume.shape_ijk
    mask = np.zeros(shape, np.uint8)
    mask[3:9, 4:8, 2 if place == "clip" else slice(2, 4)] = 1
    result = answered(source.volume, plane, 2, mask, present=outcome is not None)
    decision = None if outcome is None else Decision(outcome, "No.", NOW)
    kept = mask if outcome in (Outcome.ACCEPTED, Outcome.EDITED) else None
    report = report_of(a_record(result, decision), kept, source)

    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    evidence = {
        (str(item.ReferencedSOPInstanceUID))
        for study_ in report.CurrentRequestedProcedureEvidenceSequence
        for series in study_.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    tracked, numbers = defaultdict(list), {}
    for group in report.ContentSequence[-1].ContentSequence:
        names = [item.ConceptNameCodeSequence[0].CodeValue for item in group.ContentSequence]
        uid = next(item.UID for item in group.ContentSequence if item.ValueType == "UIDREF")
        assert names.index("112040") == [i.ValueType for i in group.ContentSequence].index("UIDREF")
        assert names.count("112039") == names.count("112040") == 1
        tracked[uid] += group.ContentSequence
    for items in tracked.values():
        regions = [item for item in items if item.ValueType == "SCOORD"]
        assert len(regions) == 1
        for item in items:
            if item.ValueType == "NUM":
                below = list(item.ContentSequence)
                assert {region.ValueType for region in below} == {"SCOORD"}
                assert {region.RelationshipType for region in below} == {"INFERRED FROM"}
                regions += below
                concept = item.ConceptNameCodeSequence[0].CodeMeaning
                numbers[concept] = float(item.MeasuredValueSequence[0].NumericValue)
        for region in regions:
            assert region.GraphicType in ("POINT", "POLYLINE")
            image = region.ContentSequence[0].ReferencedSOPSequence[0]
            assert image.ReferencedSOPInstanceUID in evidence
            assert image.get("ReferencedFrameNumber") == (3 if place == "clip" else None)
    if kept is None:
        assert numbers == {}
    elif place != "clip":
        # 6 x 4 pixels of 1.5 x 0.75 mm on two slices; 4 mm apart, less under a tilted gantry.
        assert numbers["Area"] == pytest.approx(27)
        distance_mm = 4 if place == "axial" else 4 * np.cos(np.deg2rad(18))
        assert numbers["Volume"] == pytest.approx(2 * 27 * distance_mm, abs=1e-3)


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.REJECTED])
def test_slicers_reader_of_reports_finds_target_and_sizes(tmp_path, answered, outcome) -> None:
    """dcmqi, by which QuantitativeReporting opens a report in 3D Slicer."""
    tool = Path(sys.executable).with_name("tid1500reader")
    if not tool.exists():
        pytest.skip("dcmqi is absent; pip install -e '.[dev]'")
    source = synthetic(tmp_path, "axial")
    mask = np.zeros(source.volume.shape_ijk, np.uint8)
    mask[3:9, 4:8, 2:4] = 1
    result = answered(source.volume, Plane.AXIAL, 2, mask)
    kept = mask if outcome is Outcome.ACCEPTED else None
    report = report_of(a_record(result, Decision(outcome, "No.", NOW)), kept, source)
    path, read = tmp_path / "report.dcm", tmp_path / "read.json"
    report.save_as(path, write_like_original=False)
    command = [tool, "--inputDICOM", path, "--outputMetadata", read]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    groups = json.loads(read.read_text())["Measurements"]
    sizes = {
        item["quantity"]["CodeMeaning"]: (float(item["value"]), item["units"]["CodeValue"])
        for group in groups
        for item in group["measurementItems"]
    }
    findings = {group["Finding"]["CodeValue"] for group in groups if group["measurementItems"]}
    if kept is None:
        assert sizes == {}
    else:
        assert findings == {"10200004"}  # SNOMED CT: liver
        assert sizes["Area"] == (pytest.approx(27), "mm2")
        assert sizes["Volume"] == (pytest.approx(216), "mm3")
        assert [group["ReferencedSegment"] for group in groups if "ReferencedSegment" in group] == [
            1
        ]


def test_the_outline_of_an_accepted_mask_can_be_loaded_as_a_measurement(tmp_path, answered) -> None:
    """By the tracking identifier and the order of items that Cornerstone's adapter reads."""
    source = synthetic(tmp_path, "axial")
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[3:9, 4:8, 2] = 1
    report = report_of(a_record(answered(source.volume, Plane.AXIAL, 2, mask)), mask, source)
    group = report.ContentSequence[-1].ContentSequence[0]
    (identifier,) = [
        item.TextValue
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Tracking Identifier"
    ]
    assert identifier == "Cornerstone3DTools@^0.1.0:PlanarFreehandROI"
    first = next(item for item in group.ContentSequence if item.ValueType == "NUM")
    assert first.ContentSequence[0].GraphicData == [3, 4, 9, 4, 9, 8, 3, 8, 3, 4]


def test_a_report_and_a_record_tell_no_folder_of_the_server(tmp_path, answered) -> None:
    source = synthetic(tmp_path, "axial")
    mask = a_mask(source.volume)
    result = answered(source.volume, Plane.AXIAL, 4, mask)
    model = ModelIdentity(
        "/srv/lab/models/m7", "/srv/lab/models/m7 + /srv/lab/lora", "r", None, "x"
    )
    record = a_record(dataclasses.replace(result, reasoner=model, segmenter=model))
    report = report_of(record, mask, source)
    for told in (report.to_json(), json.dumps(record.to_dict())):
        assert "srv" not in told
        assert "m7 + lora" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("/srv/models/m7", "m7"),
        ("~/models/m7/", "m7"),
        ("./m7", "m7"),
        ("C:\\models\\m7", "m7"),
        ("/srv/my models at home/m7", "m7"),
        ("/srv/m7 at http://gpu:8000/v1", "m7 at http://gpu:8000/v1"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-7B-Instruct"),
        ("/", "folder"),
    ],
)
def test_a_models_identity_holds_no_path(given, told) -> None:
    assert ModelIdentity("m", given, None, None, "x").source == told


def test_a_region_in_the_patient_of_an_earlier_report_is_still_read(tmp_path, answered) -> None:
    from highdicom.sr import ImageRegion3D

    from monailabel_app.dicom.regions import read_region

    source = synthetic(tmp_path, "axial")
    mapping = answered(source.volume, Plane.CORONAL, 3, np.zeros(SHAPE_IJK, np.uint8)).mapping(
        source.volume
    )
    points_px = np.array([[2.0, 1.0], [7.5, 4.25], [3.0, 6.0], [2.0, 1.0]])
    ijk = np.c_[mapping.slice_px_to_ijk(points_px), np.ones(4)]
    region = ImageRegion3D(
        "POLYGON",
        (ijk @ source.volume.ijk_to_lps.T)[:, :3],
        frame_of_reference_uid=source.frame_of_reference_uid,
    )
    np.testing.assert_allclose(read_region(region, mapping, source), points_px, atol=1e-4)


# --- read back -----------------------------------------------------------------------------------


def test_the_archive_alone_tells_what_the_reader_called_it(tmp_path, answered) -> None:
    source = synthetic(tmp_path, "axial")
    result = answered(source.volume, Plane.AXIAL, 4, np.zeros(SHAPE_IJK, np.uint8))
    record = dataclasses.replace(a_record(result), target=Target("Cyst", (9, 8, 7)))
    read = read_result(report_of(record, None, source), None, source).record
    assert read.target == Target("Cyst", (9, 8, 7))


# --- what callers may write ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"label_info": [{"name": "x" * 300}]},
        {"label_info": [{"name": 7}]},
        {"label_info": [{"name": "a\0b"}]},
        {"label_info": ["spleen"]},
    ],
)
def test_names_of_segments_are_bounded_text(said) -> None:
    with pytest.raises(InputError, match="label_info"):
        read_model(Words, said, "the form field 'params'")


@pytest.mark.parametrize(
    "target",
    [
        {"name": "x" * 300},
        {"name": "a\0b"},
        {"name": "x", "path": "/etc"},
        {"color": [1, 2]},
        {"color": [1, 2, 256]},
        {"color": [1, 2, -1]},
        {"color": [True, 2, 3]},
        {"color": [1.5, 2, 3]},
    ],
)
def test_a_target_of_a_decision_is_a_name_and_a_colour(target) -> None:
    said = {"outcome": "rejected", "reason": "No.", "target": target}
    with pytest.raises(InputError, match="target"):
        read_model(StatedOutcome, said, "the body")


def test_what_stock_clients_call_a_colour_is_left_out() -> None:
    for color in ("#ff0000", [0.5, 1.0, 0.0], [300, 0, 0], {"r": 1}, [True, 1, 1], None):
        assert read_model(Words, {"label_info": [{"name": "x", "color": color}]}, "params")
        assert Target.of({"name": "x", "color": color}) == Target("x")
    assert Target.of({"color": [1, 2, 3, 255]}) == Target(None, (1, 2, 3))
