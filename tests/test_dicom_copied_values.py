# SPDX-License-Identifier: Apache-2.0
"""Malformed values that a result only repeats of its images keep no result out of the archive."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

pytest.importorskip("highdicom")
pytest.importorskip("sqlalchemy")

from pydicom.datadict import dictionary_description, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medreasoner_infer.imaging import Plane, load_volume
from medreasoner_infer.result import Inference
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.codes import code_table
from monailabel_app.dicom.copied_values import mend_copied
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.report import ReferencedSegment, ReportContent, write_report
from monailabel_app.dicom.segmentation import SegmentSpec, write_segmentation
from monailabel_app.dicom.source import SourceSeries, open_source
from monailabel_app.store.records import InferenceRecord

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

LIVER = code_table().find("liver")
MODULES = (
    "patient", "general-study", "patient-study", "clinical-trial-subject", "clinical-trial-study",
)  # fmt: skip
CONTENTS = (b"00/00/0000", b"2020-01-01", b"12:00 ", b"\xff\xfe\\x\\1,5\n", b"x" * 2000 + b"\\y")


def set_raw(header: pydicom.Dataset, keyword: str, content: bytes) -> None:
    """The bytes as another program wrote them."""
    tag, vr = Tag(tag_for_keyword(keyword)), dictionary_VR(keyword)
    as_written = "LO" if vr == "SQ" else vr
    header._dict[tag] = RawDataElement(tag, as_written, len(content), content, 0, False, True)


@pytest.fixture
def headers(tmp_path) -> list[Path]:
    grid = CtGrid((1, 1, 2), (0, 0, 0), np.eye(3))
    return sorted(write_ct_series(np.zeros((3, 4, 5)), grid, tmp_path / "ct", seed=1).iterdir())


def series(files: list[Path], **contents: bytes) -> SourceSeries:
    for path in files:
        dataset = pydicom.dcmread(path)
        for keyword, content in contents.items():
            set_raw(dataset, keyword, content)
        dataset.save_as(path)
    folder = files[0].parent
    return open_source(folder, load_volume(folder))


def written(source: SourceSeries) -> pydicom.Dataset:
    mask = np.ones(source.volume.shape_ijk, np.uint8)
    segmentation = write_segmentation(mask, [SegmentSpec(1, "x", LIVER)], source, new_ids())
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(to_bytes(segmentation)))


def copied_keywords() -> list[str]:
    """As highdicom has them from the standard."""
    from highdicom._modules import MODULE_ATTRIBUTE_MAP

    found = (item for name in MODULES for item in MODULE_ATTRIBUTE_MAP[name])
    keywords = [str(item["keyword"]) for item in found if not item["path"]]
    return [keyword for keyword in keywords if keyword != "StudyInstanceUID"]


@pytest.mark.parametrize("content", CONTENTS)
def test_no_malformed_value_of_patient_or_study_keeps_a_result_out(headers, content) -> None:
    contents = dict.fromkeys(copied_keywords(), content)
    source = series(headers, **contents)
    assert source.frames
    result = written(source)
    for keyword in contents:
        result.get(keyword)  # can be parsed
    assert not [said for said in source.warnings if content.decode("latin-1").strip() in said]


@pytest.mark.parametrize("keyword", copied_keywords())
def test_each_value_is_looked_at(keyword) -> None:
    header = pydicom.Dataset()
    header.is_little_endian, header.is_implicit_VR = True, False
    set_raw(header, keyword, b"x" * 20001)
    # What a PACS finds a patient by is repeated as the images have it.
    found_by = keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyID")
    said = mend_copied(header)
    is_free_text = dictionary_VR(keyword) in ("PN", "UC", "UT")
    assert bool(said) is not found_by or is_free_text


@pytest.mark.parametrize(
    ("keyword", "content", "expected", "said"),
    [
        ("PatientBirthDate", b"00/00/0000", "", "malformed"),
        ("PatientBirthDate", b"19700231", "", "malformed"),
        ("PatientBirthDate", b"12/31/1970", "", "malformed"),
        ("PatientBirthDate", b"1970-12-31", "19701231", "repaired"),
        ("StudyDate", b"2020.01.02", "20200102", "repaired"),
        ("StudyDate", b"20200102\\20200103", "", "malformed"),
        ("StudyTime", b"12:00 ", "1200", "repaired"),
        ("StudyTime", b"250000", "", "malformed"),
        ("PatientAge", b"45Y ", "045Y", "repaired"),
        ("PatientAge", b"old", None, "malformed"),
        ("PatientWeight", b"70,5", 70.5, "repaired"),
        ("PatientWeight", b"heavy", None, "malformed"),
        ("PatientSex", b"m", "M", "repaired"),
        ("PatientName", b"Doe\\Jane", "Doe Jane", "repaired"),
        ("PatientComments", b"a" * 20000, "a" * 10237 + "...", "repaired"),
        ("PatientID", b"1" * 70, "1" * 70, None),
        ("PatientBirthDate", b"19701231", "19701231", None),
    ],
)
def test_a_value_is_repaired_where_it_means_one_thing(
    headers, keyword, content, expected, said
) -> None:
    source = series(headers, **{keyword: content})
    assert written(source).get(keyword) == expected
    name = dictionary_description(keyword)
    sentences = [sentence for sentence in source.warnings if sentence.startswith(name)]
    assert [said in sentence for sentence in sentences] == ([True] if said else [])


def test_a_text_is_as_long_as_its_characters_not_its_bytes(headers) -> None:
    text = "膵" * 64
    for path in headers:
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet, dataset.StudyDescription = "ISO_IR 192", text
        dataset.save_as(path)
    source = series(headers)
    assert written(source).StudyDescription == text
    assert not [said for said in source.warnings if said.startswith("Study Description")]


def test_lossy_images_that_do_not_tell_how_much_keep_their_result(headers) -> None:
    result = written(series(headers, LossyImageCompression=b"01"))
    assert result.LossyImageCompression == "01"
    assert "LossyImageCompressionRatio" not in result


def test_the_report_is_written_as_well(headers, answered) -> None:
    source = series(headers, PatientBirthDate=b"00/00/0000", StudyDate=b"2020-01-02")
    mask = np.ones(source.volume.shape_ijk, np.uint8)
    result = answered(source.volume, Plane.AXIAL, 1, mask)
    record = InferenceRecord(
        id=result.inference_id,
        created_at=datetime.fromisoformat(result.created_at),
        task="medreasoner",
        image_id="image",
        present=result.present,
        result=Inference.from_dict(json.loads(json.dumps(result.to_dict()))),
        mask_sha256=None,
        mask_file=None,
    )
    segmentation = write_segmentation(mask, [SegmentSpec(1, "x", LIVER)], source, new_ids())
    content = ReportContent(record, mask, ReferencedSegment(segmentation, 1), LIVER, "MedReasoner")
    report = write_report(content, source, new_ids())
    assert (report.PatientBirthDate, report.StudyDate) == ("", "20200102")
