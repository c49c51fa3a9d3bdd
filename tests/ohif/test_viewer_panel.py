# SPDX-License-Identifier: Apache-2.0
"""What the viewer's own panel does to a target is what the tab knows, and what is stored."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from support.conformance import parsed
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIVER = "Where is the liver?"
NAVY = [10, 20, 120]


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    reader.ask(LIVER)
    reader.wait_for_answer()
    return reader


def in_viewer(reader: Reader, action: str) -> None:
    """Call the viewer's service as its own panel does, with the segmentation and viewport."""
    reader.page.evaluate(
        f"""() => {{ const {{ segmentationService, viewportGridService }} = window.services;
          const viewport = viewportGridService.getActiveViewportId();
          const [{{ segmentationId: id }}] = segmentationService.getSegmentations();
          {action}; }}"""
    )


def segments_stored(room) -> list:
    return [parsed(content) for content in room.stored(room.ct, "SEG")]


def test_a_mask_that_is_hidden_is_not_stored_unseen(reader, room) -> None:
    hide = reader.tab.get_by_role("button", name="Hide liver")
    for switch in (hide.click, lambda: in_viewer(reader, HIDDEN)):
        switch()
        expect(hide).to_have_attribute("aria-pressed", "true")
        reader.button("Accept").click()
        expect(reader.alert).to_have_text(
            "The mask is hidden; show it, so that what is stored has been seen."
        )
        assert segments_stored(room) == []
        reader.button("Undo").click()
        expect(hide).to_have_attribute("aria-pressed", "false")
        assert reader.page.evaluate(SEEN)


HIDDEN = "segmentationService.toggleSegmentVisibility(viewport, id, 1, 'Labelmap')"
SEEN = """() => { const { segmentationService, viewportGridService } = window.services;
  const viewport = viewportGridService.getActiveViewportId();
  return segmentationService.getSegmentationRepresentations(viewport)[0].segments[1].visible; }"""


def test_name_and_colour_that_the_viewers_panel_gives_are_stored(reader, room) -> None:
    whole = "segmentationService.addOrUpdateSegmentation({ segmentationId: id, label: 'Whole' })"
    in_viewer(reader, whole)
    expect(reader.targets).to_contain_text("Whole")
    in_viewer(reader, "segmentationService.setSegmentLabel(id, 1, 'Liver by the panel')")
    expect(reader.targets).to_contain_text("Liver by the panel")
    in_viewer(reader, f"segmentationService.setSegmentColor(viewport, id, 1, {[*NAVY, 255]})")
    swatch = reader.targets.locator(".swatch")
    expect(swatch).to_have_css("background-color", "rgb(10, 20, 120)")
    accept = reader.button("Accept")
    accept.dblclick()  # pressed twice, stored once
    expect(reader.decision).to_have_text("This answer is accepted. The PACS has it.")
    (stored,) = segments_stored(room)
    (segment,) = stored.SegmentSequence
    assert segment.SegmentLabel == "Liver by the panel"
    assert stored.pixel_array.sum() == sum(reader.voxels_on_screen().values())
    assert room.records(room.ct)[0]["target"]["color"] == NAVY


def test_what_is_painted_as_another_segment_of_a_target_is_stored_with_it(reader, room) -> None:
    """OHIF's *Add segment* makes one in the same labelmap."""
    (before,) = reader.voxels_on_screen().values()
    box = reader.drawn_box()
    in_viewer(reader, "segmentationService.addSegment(id, { label: 'More' })")
    reader.paint(box.right + 30, box.top + 30)
    reader.wait_until_edited()
    (seen,) = reader.voxels_on_screen().values()
    assert seen > before
    reader.picture("panel-other-segment")
    reader.button("Submit mask as edited").click()
    expect(reader.decision).to_have_text("This answer is edited. The PACS has it.")
    newest = max(segments_stored(room), key=lambda stored: int(stored.InstanceNumber))
    assert newest.pixel_array.sum() == seen
