# SPDX-License-Identifier: Apache-2.0
"""What the viewer itself does with what is stored, under the policy of its pages."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.conformance import parsed
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIVER = "Which organ makes bile and fills the right upper abdomen?"


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    """Sits before the CT, of which one answer has been accepted."""
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    reader.ask(LIVER, through_volume=True)
    reader.wait_for_answer()
    reader.button("Accept").click()
    expect(reader.decision).to_have_text("This answer is accepted. The PACS has it.")
    return reader


def test_a_stored_mask_opens_and_the_policy_stops_nothing_that_the_viewer_needs(
    reader, room, readers
) -> None:
    (stored,) = map(parsed, room.stored(room.ct, "SEG"))
    viewer = readers()
    viewer.note_policy()
    viewer.page.goto(f"{room.url}/ohif/viewer?StudyInstanceUIDs={room.ct.study_uid}")
    series = viewer.page.locator('[data-cy="study-browser-thumbnail-no-image"]')
    series.filter(has_text=re.compile("^SEG")).first.dblclick()
    viewer.page.get_by_role("button", name="Yes", exact=True).click()
    viewer.wait_for_segmentations(1)
    (voxels,) = viewer.voxels_on_screen().values()
    assert voxels == stored.pixel_array.sum()
    viewer.picture("stock-seg")
    for layout, panes in (("MPR", 3), ("3D four up", 4)):
        viewer.page.locator('[data-cy="Layout"]').click()
        viewer.page.locator(f'[data-cy="{layout}"]').click()
        expect(viewer.page.locator('[data-cy="viewport-pane"] canvas')).to_have_count(panes)
        viewer.page.wait_for_timeout(3000)  # the volume is drawn a little later
        viewer.picture(f"stock-{layout[:3].strip()}")
    assert viewer.stopped_by_policy() == []
    viewer.page.close()


def test_the_viewers_own_export_stores_the_segmentation(reader, room) -> None:
    known = len(room.stored(room.ct, "SEG"))
    reader.page.locator('[data-cy="panelSegmentationWithTools-btn"]').click()
    menus = reader.page.locator('button[aria-haspopup="menu"]:visible')
    below = reader.page.get_by_text("Appearance Settings").bounding_box()["y"]
    places = [menus.nth(at).bounding_box() for at in range(menus.count())]
    menus.nth(next(at for at, place in enumerate(places) if place["y"] > below)).click()
    reader.page.get_by_text("Export & Download").hover()
    reader.page.get_by_text("Export DICOM SEG").click()
    reader.page.get_by_role("dialog").or_(reader.page.locator("body")).get_by_label(
        "Enter the report name"
    ).or_(reader.page.locator('input[type="text"]:visible').last).last.fill("By the viewer")
    reader.page.get_by_text("Save", exact=True).last.click()
    expect(
        reader.page.locator('[data-cy="study-browser-thumbnail-no-image"]').filter(
            has_text="By the viewer"
        )
    ).to_be_visible()
    assert len(room.stored(room.ct, "SEG")) == known + 1
    assert not any("Error Boundary" in text for text in reader.console)
