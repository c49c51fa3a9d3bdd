# SPDX-License-Identifier: Apache-2.0
"""A comparison with a prior as a reader sees it: the numbers of the program, and of the report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from playwright.sync_api import expect
from support.conformance import assert_dciodvfy_finds_no_error, assert_dsrdump_reads, parsed
from support.series import DicomStudy, earlier_study
from support.viewer import Reader

from medreasoner_infer.change import VERDICT_WORDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUESTION = "Where is the liver?"
PRIOR_DATE, SHOWN_DATE = "20200301", "2020-03-01"


@pytest.fixture(scope="module")
def prior(room) -> DicomStudy:
    """The same patient before, in the archive."""
    study = earlier_study(room.ct, PRIOR_DATE)
    room.add(study)
    return study


@pytest.fixture(scope="module")
def reader(readers, room, prior) -> Reader:
    """One who has compared the eleventh slice with the prior."""
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    choice = reader.tab.get_by_label("Earlier examination")
    expect(choice).to_be_visible()
    assert SHOWN_DATE in choice.inner_text()
    reader.question.fill(QUESTION)
    reader.button("Compare").click()
    expect(reader.tab.get_by_label("About the change")).to_be_visible()
    return reader


@pytest.fixture(scope="module")
def records(reader, room, prior) -> tuple[dict, dict]:
    """What the server has recorded of the current examination and of the prior one."""
    return room.records(room.ct)[0], room.records(prior)[0]


@pytest.fixture(scope="module")
def by_program(records, room, prior, tmp_path_factory) -> dict:
    """``change.json`` of ``medreasoner prior`` on the same series, slice and window."""
    folder = tmp_path_factory.mktemp("program")
    for name, study in (("current", room.ct), ("prior", prior)):
        (folder / name).mkdir()
        for number, image in enumerate(study.images):
            pydicom.dcmwrite(folder / name / f"{number:03}.dcm", image, write_like_original=False)
    shown = records[0]["result"]["slice"]
    asked = [
        folder / "current", folder / "prior", QUESTION, "--slice", shown["index"],
        "--window", f"{shown['window_center']:g}/{shown['window_width']:g}",
        "--device", "cpu", "--out", folder / "out",
    ]  # fmt: skip
    command = [sys.executable, "-m", "monailabel_app.cli", "prior", *map(str, asked)]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    told: dict = json.loads(Path(folder / "out" / "change.json").read_text("utf-8"))
    return told


def test_the_numbers_are_those_of_the_program(records, by_program) -> None:
    told = records[1]["result"]["prior_of"]
    assert told["change"] == by_program["change"]
    assert told["alignment"]["method"] == by_program["alignment"]["method"] == "same_frame"


def test_the_table_has_the_numbers_of_the_record(reader, records) -> None:
    change = records[1]["result"]["prior_of"]["change"]
    table = reader.tab.get_by_label("Change since the prior")
    expect(table.get_by_role("columnheader").nth(1)).to_have_text(f"prior {SHOWN_DATE}")
    rows = table.get_by_role("row").filter(has=reader.page.get_by_role("cell")).all()
    sizes = {"volume": "volume_ml", "long diameter": "long_axis_mm",
             "short diameter": "short_axis_mm"}  # fmt: skip
    assert len(rows) == len(sizes), "the phantom and the real CT show a liver"
    for row in rows:
        name, before, after, _, verdict = row.get_by_role("cell").all_inner_texts()
        size = change[sizes[name]]
        for text, told in ((before, size["before"]), (after, size["after"])):
            shown = [float(value) for value in re.findall(r"\d+(?:\.\d+)?", text)]
            assert shown == pytest.approx([told["value"], told["uncertainty"]], rel=0.05, abs=0.05)
        assert verdict == VERDICT_WORDS[size["verdict"]]
    lines = reader.tab.get_by_label("About the change").get_by_role("listitem")
    expect(lines.first).to_have_text(change["statement"])
    reader.picture("prior")


def test_the_picture_of_both_opens(reader) -> None:
    address = reader.tab.get_by_role("link", name="Picture of both").get_attribute("href")
    reply = reader.page.request.get(f"{reader.server}{address}")
    assert reply.ok
    assert reply.body()[:4] == b"\x89PNG"


def test_the_report_in_the_archive_has_the_same_numbers(
    reader, room, prior, records, tmp_path
) -> None:
    reader.button("Store comparison").click()
    expect(reader.tab.locator(".section-priors .comparing")).to_contain_text("not reviewed")
    (report,) = room.stored(room.ct, "SR")
    masks = [*room.stored(room.ct, "SEG"), *room.stored(prior, "SEG")]
    assert len(masks) == 2
    for content in (report, *masks):
        assert_dciodvfy_finds_no_error(content, tmp_path)
    assert_dsrdump_reads(report, tmp_path)
    change = records[1]["result"]["prior_of"]["change"]
    volume = change["volume_ml"]
    numbers = list(numbers_of(parsed(report)))
    found = [value for name, value in numbers if name == "Volume"]
    assert found == pytest.approx([1000 * volume[when]["value"] for when in ("after", "before")])
    (fraction,) = [value for name, value in numbers if name == "Fractional Change"]
    assert fraction == pytest.approx(volume["percent"], abs=1e-3)


def numbers_of(report: pydicom.Dataset) -> Iterator[tuple[str, float]]:
    """Name and value of every number of a report, in its order."""
    for item in report.get("ContentSequence", []):
        if item.ValueType == "NUM":
            measured = float(item.MeasuredValueSequence[0].NumericValue)
            yield item.ConceptNameCodeSequence[0].CodeMeaning, measured
        yield from numbers_of(item)
