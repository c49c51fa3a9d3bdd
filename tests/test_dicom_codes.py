# SPDX-License-Identifier: Apache-2.0
"""SNOMED CT codes of segments, against pydicom's dictionary of the DICOM context groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("highdicom")

from pydicom.sr._concepts_dict import concepts

from monailabel_app.dicom.codes import CodeTable, ConceptCode, SegmentCodes, code_table
from monailabel_app.dicom.label_segments import segments_of

ROOT = Path(__file__).resolve().parents[1]
STRUCTURE = ConceptCode("123037004", "Anatomical Structure")
FINDING = ConceptCode("49755003", "Morphologically Abnormal Structure")
LEFT, RIGHT = ConceptCode("7771000", "Left"), ConceptCode("24028007", "Right")


@pytest.fixture(scope="module")
def table() -> CodeTable:
    return code_table()


@pytest.mark.parametrize("name", ["kidney_left", "Left kidney", "kidney, LEFT"])
def test_a_paired_organ_is_coded_with_its_side(table, name) -> None:
    kidney = ConceptCode("64033007", "Kidney")
    assert table.find(name) == SegmentCodes(STRUCTURE, kidney, None, LEFT)


def test_a_finding_is_coded_with_its_region_and_side(table) -> None:
    expected = SegmentCodes(
        FINDING, ConceptCode("367643001", "Cyst"), ConceptCode("64033007", "Kidney"), RIGHT
    )
    assert table.find("right renal cyst") == expected


@pytest.mark.parametrize("name", ["MedReasoner target", "unicorn", "", "left liver", "Segment 1"])
def test_what_is_not_listed_is_honestly_unspecified_and_never_the_spleen(table, name) -> None:
    tissue = ConceptCode("85756007", "Tissue")
    assert table.find(name) == SegmentCodes(tissue, tissue)


def test_every_target_of_the_questions_has_a_code(table) -> None:
    targets = yaml.safe_load((ROOT / "training" / "embedded" / "queries.yaml").read_text())
    names = [target["name"] for target in targets["targets"].values()]
    assert [name for name in names if table.find(name) == table.unspecified] == []


def test_every_label_of_totalsegmentator_has_a_code(table, shared_data) -> None:
    manifest = json.loads((shared_data / "manifest.json").read_text())
    names = {name for group in manifest["label_names"].values() for name in group.values()}
    missing = {name for name in names if table.find(name) == table.unspecified}
    assert missing == {"intervertebral_discs"}


def test_codes_that_pydicom_knows_mean_what_the_table_says() -> None:
    """A transposed digit makes another concept; shared words are enough to notice."""
    known: dict[str, str] = {}
    for entries in concepts["SCT"].values():
        for code, (meaning, _) in entries.items():
            known[code] = f"{known.get(code, '')} {meaning}".lower()
    synonyms = {"8887007": "innominate vein", "108369006": "tumor"}
    text = (ROOT / "monailabel_app" / "dicom" / "codes.yaml").read_text()
    stated = yaml.safe_load(text)
    pairs = [
        entry["code"] for group in ("structures", "findings") for entry in stated[group].values()
    ]
    checked = [(code, meaning) for code, meaning in pairs if code in known]
    assert len(checked) > 45
    for code, meaning in checked:
        words = set(synonyms.get(code, meaning).lower().split())
        assert words & set(known[code].replace("(", " ").split()), (code, meaning, known[code])


def test_a_clients_own_codes_win_over_the_name() -> None:
    attributes = {
        "SegmentedPropertyCategoryCodeSequence": {
            "CodeValue": "49755003", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Altered",
        },
        "SegmentedPropertyTypeCodeSequence": {
            "CodeValue": "4147007", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Mass",
        },
    }  # fmt: skip
    entries = [{"name": "Liver", "idx": 7, "segmentAttribute": attributes}, {"name": "Liver"}]
    named, placed = segments_of(entries, [7, 2], None)
    assert named.codes.kind == ConceptCode("4147007", "Mass")
    assert placed.codes.kind == ConceptCode("10200004", "Liver")
    assert named.model is None
