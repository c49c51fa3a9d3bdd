# SPDX-License-Identifier: Apache-2.0
"""Results in the Basic Viewer, which has nothing of ours: each opens and shows the right thing."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect
from support.conformance import (
    assert_dciodvfy_finds_no_error,
    assert_dsrdump_reads,
    parsed,
)
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIVER = "Which organ makes bile and fills the right upper abdomen?"
SPLEEN = "Where is the spleen?"
FIRST_COLOUR = [221, 84, 84]

# Name and colour, as the viewer has them, of the one segment that it shows.
_SEGMENT = """() => {
  const { segmentationService, viewportGridService } = window.services;
  const viewportId = viewportGridService.getState().activeViewportId;
  const [{ segmentationId, segments }] = segmentationService.getSegmentations();
  const color = segmentationService.getSegmentColor(viewportId, segmentationId, 1);
  return [segments[1].label, [...color].slice(0, 3)];
}"""


_MEASURED = """() => window.services.measurementService.getMeasurements()
  .map(measurement => measurement.displayText.primary[0])"""


def outlined_mm2(room) -> float:
    """The area within the outline of the accepted report, by the shoelace formula."""
    (report,) = (
        report
        for report in map(parsed, room.stored(room.ct, "SR"))
        if report.SeriesDescription.endswith("accepted")
    )
    outline = report.ContentSequence[-1].ContentSequence[0]
    (region,) = (item for item in outline.ContentSequence if item.ValueType == "SCOORD")
    x, y = np.array(region.GraphicData, dtype=float).reshape(-1, 2).T
    row_mm, column_mm = map(float, room.ct.images[0].PixelSpacing)
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2 * row_mm * column_mm


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    """Has accepted one answer about the CT, and rejected another."""
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    reader.ask(LIVER, through_volume=True)
    reader.wait_for_answer()
    reader.rename_target("Target 1", "Liver")
    reader.button("Accept").click()
    expect(reader.decision).to_have_text("This answer is accepted. The PACS has it.")
    reader.ask(SPLEEN)
    reader.wait_for_answer()
    reader.tab.get_by_label("Reason for rejecting").fill("Not asked for.")
    reader.button("Reject").click()
    expect(reader.decision).to_have_text("This answer is rejected. The PACS has it.")
    return reader


def test_a_row_of_the_history_names_target_state_series_and_slice(reader) -> None:
    place = r" · \d+: .+ · axial [\d.]+ mm [SI] · "
    rejected, accepted = reader.history.first, reader.history.nth(1)
    expect(rejected).to_have_text(re.compile(rf"^spleen: {re.escape(SPLEEN)}rejected · .*{place}"))
    expect(accepted).to_have_text(re.compile(rf"^Liver: {re.escape(LIVER)}accepted · .*{place}"))


@pytest.mark.parametrize(
    ("name", "is_restorable"),
    [
        ("MedReasoner: Liver, accepted", True),
        ("MedReasoner: spleen, rejected", False),
    ],
)
def test_a_report_opens_in_the_basic_viewer_without_an_error(
    reader, room, readers, name, is_restorable
) -> None:
    viewer = readers()
    viewer.open_basic_viewer(room.ct.study_uid)
    viewer.open_result("SR", name)
    status = viewer.page.locator('[data-cy="viewport-pane"]').first
    expect(status.get_by_text("SR", exact=True)).to_be_visible()
    expect(status.locator("svg polyline, svg line").first).to_be_attached()
    expect(status.get_by_text("LOAD", exact=True)).to_have_count(1 if is_restorable else 0)
    viewer.picture(f"stock-sr-{name[-8:]}")
    assert viewer.errors == []
    viewer.page.close()


def test_an_accepted_outline_is_loaded_as_a_measurement(reader, room, readers) -> None:
    viewer = readers()
    viewer.open_basic_viewer(room.ct.study_uid)
    viewer.open_result("SR", "MedReasoner: Liver, accepted")
    viewer.page.get_by_text("LOAD", exact=True).click(force=True)
    viewer.page.wait_for_function(
        "() => window.services.measurementService.getMeasurements().length === 1"
    )
    # The viewer measures the polygon itself.
    (shown,) = viewer.page.evaluate(_MEASURED)
    assert float(shown.split()[0]) == pytest.approx(outlined_mm2(room), abs=1)
    viewer.picture("stock-sr-loaded")
    assert viewer.errors == []
    viewer.page.close()


def test_a_segmentation_opens_in_the_basic_viewer_by_name_and_colour(reader, room, readers) -> None:
    (stored,) = map(parsed, room.stored(room.ct, "SEG"))
    viewer = readers()
    viewer.open_basic_viewer(room.ct.study_uid)
    viewer.open_result("SEG", "MedReasoner: Liver, accepted")
    viewer.page.get_by_role("button", name="Yes", exact=True).click()
    viewer.wait_for_segmentations(1)
    (voxels,) = viewer.voxels_on_screen().values()
    assert voxels == stored.pixel_array.sum()
    (label, rgb) = viewer.page.evaluate(_SEGMENT)
    assert label == stored.SegmentSequence[0].SegmentLabel == "Liver"
    assert rgb == pytest.approx(FIRST_COLOUR, abs=1)
    viewer.picture("stock-seg-named")
    assert viewer.errors == []
    viewer.page.close()


def test_validators_find_no_error_in_what_was_stored(reader, room, tmp_path) -> None:
    for stored in room.stored(room.ct, "SR"):
        assert_dsrdump_reads(stored, tmp_path)
        assert_dciodvfy_finds_no_error(stored, tmp_path)
    for stored in room.stored(room.ct, "SEG"):
        assert_dciodvfy_finds_no_error(stored, tmp_path)
