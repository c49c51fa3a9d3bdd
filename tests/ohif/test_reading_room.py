# SPDX-License-Identifier: Apache-2.0
"""From the worklist to a result in the PACS and back, in the real viewer, on CT, MR and DX.

``MEDREASONER_SCREENSHOTS`` names a folder for pictures of what was seen.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect
from support.conformance import (
    assert_dciodvfy_finds_no_error,
    assert_dsrdump_reads,
    parsed,
)
from support.physical_space import segment_lps_mm
from support.series import DicomStudy
from support.viewer import BoxPx, Reader, count_beyond, reddened, share_within

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUESTION = "Which organ makes bile and fills the right upper abdomen?"
LEAST_SHARE_IN_BOX = 0.15
# The mask may cross the box's edge a little; far away nothing may change.
FAR = 0.25
MOST_FAR_PX = 50


def ask_and_look(reader: Reader, name: str, *, through_volume: bool) -> BoxPx:
    """Ask, see the reasoning grow, box and points, and the mask where the box is."""
    before = reader.pixels()
    reader.ask(QUESTION, through_volume=through_volume)
    reader.wait_for_answer()
    reader.picture(f"{name}-answered")
    lengths = reader.seen_lengths()
    assert len(lengths) > 3
    assert lengths == sorted(lengths)
    box = reader.drawn_box()
    assert len(reader.drawn_points()) == 2
    for x, y in reader.drawn_points():
        assert box.left <= x <= box.right
        assert box.top <= y <= box.bottom
    changed = reddened(before, reader.pixels())
    assert share_within(changed, box) > LEAST_SHARE_IN_BOX
    pane = reader.pane.bounding_box()
    edges = BoxPx(pane["x"], pane["y"], pane["x"] + pane["width"], pane["y"] + pane["height"])
    assert count_beyond(changed, edges, box.grown(FAR)) < MOST_FAR_PX
    return box


def assert_kept_in_pacs(room, study: DicomStudy, folder: Path, outcome: str) -> None:
    """One valid SEG and one valid SR, which say what was seen."""
    (segmentation,) = room.stored(study, "SEG")
    (report,) = room.stored(study, "SR")
    assert_dciodvfy_finds_no_error(segmentation, folder)
    assert_dciodvfy_finds_no_error(report, folder)
    text = assert_dsrdump_reads(report, folder)
    assert QUESTION in text
    record = room.records(study)[-1]
    assert record["decision"]["outcome"] == outcome
    assert record["result"]["reasoning"] in text
    assert parsed(report).ContentTemplateSequence[0].TemplateIdentifier == "1500"
    references = parsed(segmentation).ReferencedSeriesSequence[0]
    assert references.SeriesInstanceUID == study.series_uid


def assert_segment_lies_in_box(room, study: DicomStudy) -> None:
    """On the slice that was asked about, by the SEG's own geometry."""
    (segmentation,) = room.stored(study, "SEG")
    result = room.records(study)[-1]["result"]
    corners = np.sort(result["prompts"]["bbox_corners_lps_mm"], axis=0)
    on_slice = segment_lps_mm(parsed(segmentation))
    height = result["slice"]["center_lps_mm"][2]
    on_slice = on_slice[np.abs(on_slice[:, 2] - height) < 0.5]
    margin = FAR * (corners[1] - corners[0])[:2]
    inside = (on_slice[:, :2] >= corners[0, :2] - margin) & (
        on_slice[:, :2] <= corners[1, :2] + margin
    )
    assert len(on_slice) > 100
    assert inside.all(axis=1).mean() > 0.99


def see_it_again(reader: Reader, room, study: DicomStudy, box: BoxPx, name: str) -> None:
    """Reload the page; what only the PACS has is listed and shown as it was."""
    room.forget(study)
    assert room.records(study) == []
    reader.page.reload()
    reader.open_tab()
    expect(reader.history.first).to_contain_text(QUESTION)
    expect(reader.history.first).to_contain_text("in the PACS")
    before = reader.pixels()
    reader.history.first.click()
    expect(reader.reasoning).not_to_be_empty()
    reader.page.wait_for_selector("svg.medreasoner-overlay rect")
    reader.picture(f"{name}-again")
    assert reader.question.input_value() == QUESTION
    again = reader.drawn_box()
    assert [again.left, again.top, again.right, again.bottom] == pytest.approx(
        [box.left, box.top, box.right, box.bottom], abs=2
    )
    assert share_within(reddened(before, reader.pixels()), box) > LEAST_SHARE_IN_BOX
    expect(reader.alert).to_have_text("")


def test_a_ct_is_asked_about_accepted_kept_in_the_pacs_and_shown_again(
    readers, room, tmp_path
) -> None:
    reader = readers()
    reader.choose_in_worklist(room.ct.study_uid, "Browser, CT", "monai-label")
    reader.picture("ct-opened")
    shown_before = reader.slice_text.split("\n")[0]
    box = ask_and_look(reader, "ct", through_volume=True)
    reader.scroll_slices(4)
    expect(reader.page.locator("svg.medreasoner-overlay rect")).to_have_count(0)
    expect(reader.pane).not_to_contain_text(shown_before)
    reader.button("Go to slice").click()
    reader.page.wait_for_selector("svg.medreasoner-overlay rect")
    expect(reader.pane).to_contain_text(shown_before)
    reader.button("Accept").click()
    expect(reader.decision).to_have_text("This answer is accepted. The PACS has it.")
    reader.picture("ct-accepted")
    assert_kept_in_pacs(room, room.ct, tmp_path, "accepted")
    assert_segment_lies_in_box(room, room.ct)
    see_it_again(reader, room, room.ct, box, "ct")


def test_an_mr_is_asked_about_edited_by_the_viewers_brush_and_submitted(
    readers, room, tmp_path
) -> None:
    reader = readers()
    reader.choose_in_worklist(room.mr.study_uid, "Browser, MR", "segmentation")
    reader.scroll_slices(10)
    box = ask_and_look(reader, "mr", through_volume=True)
    voxels = room.records(room.mr)[-1]["result"]["mask"]["voxels"]
    paint_with_brush(reader, box)
    reader.page.locator('[data-cy="question-btn"]').click()
    reader.button("Submit mask as edited").click()
    expect(reader.decision).to_have_text("This answer is edited. The PACS has it.")
    reader.picture("mr-edited")
    assert_kept_in_pacs(room, room.mr, tmp_path, "edited")
    assert_segment_lies_in_box(room, room.mr)
    (segmentation,) = room.stored(room.mr, "SEG")
    assert parsed(segmentation).pixel_array.sum() > voxels
    see_it_again(reader, room, room.mr, box, "mr")


def paint_with_brush(reader: Reader, box: BoxPx) -> None:
    """A stroke of the viewer's own tool, within the box's upper right corner."""
    reader.page.locator('[data-cy="panelSegmentationWithTools-btn"]').click()
    reader.page.locator('[data-cy="Brush"], [data-cy="Brush-btn"]').first.click()
    x, y = box.right - 15, box.top + 15
    reader.page.mouse.move(x - 30, y)
    reader.page.mouse.down()
    reader.page.mouse.move(x, y, steps=5)
    reader.page.mouse.up()
    reader.picture("mr-brushed")


def test_a_radiograph_is_asked_about_boxed_by_the_reader_and_kept(readers, room, tmp_path) -> None:
    for image in room.dx.images:
        path = tmp_path / "dx.dcm"
        image.save_as(path, write_like_original=False)
        assert_dciodvfy_finds_no_error(path.read_bytes(), tmp_path)
    reader = readers()
    reader.choose_in_worklist(room.dx.study_uid, "Browser, DX", "viewer")
    reader.ask(QUESTION)
    reader.wait_for_answer()
    pane = reader.pane.bounding_box()
    x, y = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2
    reader.button("Draw box").click()
    reader.page.mouse.move(x - 60, y - 60)
    reader.page.mouse.down()
    reader.page.mouse.move(x + 60, y + 60, steps=4)
    reader.page.mouse.up()
    expect(reader.button("Submit mask as edited")).to_be_enabled()
    (seen,) = reader.voxels_on_screen().values()
    reader.picture("dx-boxed")
    reader.button("Submit mask as edited").click()
    expect(reader.decision).to_have_text("This answer is edited. The PACS has it.")
    assert_kept_in_pacs(room, room.dx, tmp_path, "edited")
    (segmentation,) = map(parsed, room.stored(room.dx, "SEG"))
    assert segmentation.pixel_array.sum() == seen > 0


def test_nothing_is_fetched_from_elsewhere(readers, room) -> None:
    reader = readers()
    reader.open_study(room.mr.study_uid, "viewer")
    own = (room.url, "blob:", "data:")
    elsewhere = [url for url in reader.requested if not url.startswith(own)]
    # The start page names a font host; the content security policy stops the request.
    assert all("fonts." in url for url in elsewhere)
    blocked = [text for text in reader.console if "fonts.googleapis.com" in text]
    assert any("Content Security Policy" in text for text in blocked)
    assert httpx.get(f"{room.url}/info/").status_code == 200
