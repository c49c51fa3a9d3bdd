# SPDX-License-Identifier: Apache-2.0
"""Several targets on one study, corrected, undone and stored: what is kept is what was seen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect
from support.conformance import parsed
from support.physical_space import segment_lps_mm
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
LIVER = "Which organ makes bile and fills the right upper abdomen?"
SPLEEN = "Which organ filters the blood and lies in the left upper abdomen?"
ABSENT = "Which organ stores urine in the pelvis?"


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    return reader


@pytest.fixture(autouse=True)
def nothing_left(reader) -> None:
    """No target and no mode of an earlier test."""
    reader.page.keyboard.press("Escape")
    reader.open_tab()
    while reader.targets.count():
        reader.tab.get_by_role("button", name=re.compile("^Delete")).first.click()


def answered(reader: Reader, question: str, *, through_volume: bool = False) -> None:
    reader.ask(question, through_volume=through_volume)
    reader.wait_for_answer()


def row(reader: Reader, name: str):
    return reader.targets.filter(has_text=name)


def test_the_next_question_leaves_the_mask_of_the_last_one(reader) -> None:
    answered(reader, LIVER)
    liver = reader.voxels_on_screen()
    answered(reader, SPLEEN)
    spleen = reader.voxels_on_screen()
    assert reader.targets.count() == 2
    assert len(liver) == 1
    assert len(spleen) == 2
    assert set(liver) < set(spleen)
    name = next(iter(liver))
    assert spleen[name] == liver[name] > 100
    reader.picture("targets-two")
    row(reader, name).get_by_role("button", name="Rename").click()
    reader.page.keyboard.type("Liver")
    reader.page.keyboard.press("Enter")
    renamed = {"Liver" if label == name else label: count for label, count in spleen.items()}
    reader.wait_for_voxels(renamed)
    reader.tab.get_by_role("button", name="Delete Liver").click()
    reader.wait_for_segmentations(1)
    reader.pane.click(button="middle", position={"x": 3, "y": 3})
    reader.page.keyboard.press("Control+z")
    reader.wait_for_voxels(renamed)
    assert reader.question.input_value() == SPLEEN  # in the viewer Ctrl+Z edits no text


def test_a_list_is_asked_one_by_one_as_targets_of_their_own(reader, room) -> None:
    reader.ask("Segment liver, spleen")
    expect(reader.targets).to_have_count(2)
    reader.wait_for_answer()
    asked = [record["result"]["query"] for record in room.records(room.ct)[:2]]
    assert asked == ["Segment spleen", "Segment liver"]
    assert reader.question.input_value() == "Segment liver, spleen"


def test_what_a_follow_up_goes_on_from_is_chosen_seen_sent_and_kept(reader, room) -> None:
    answered(reader, "Where is the liver?")
    asked = room.records(room.ct)[0]["result"]
    chip = reader.tab.get_by_label("What the question follows up on")
    expect(chip).to_be_hidden()
    reader.button("Follow up").click()
    expect(chip).to_have_text(re.compile(r"about: liver, axial [\d.]+ mm [SI]"))
    expect(reader.question).to_be_focused()
    reader.picture("targets-follow-up")
    chip.get_by_role("button", name="Do not follow up on liver").click()
    expect(chip).to_be_hidden()
    reader.button("Follow up").click()
    answered(reader, SPLEEN)
    expect(chip).to_be_hidden()
    expect(reader.facts).to_contain_text("This model answers each question by itself")
    followed = room.records(room.ct)[0]["result"]["follow_up"]
    assert followed["used"] is False  # by the embedded reasoner
    assert followed["target"] == {
        "name": "liver", "plane": "axial", "index": asked["slice"]["index"],
        "bbox_xyxy_slice_px": asked["prompts"]["bbox_xyxy_slice_px"],
    }  # fmt: skip
    answered(reader, SPLEEN)
    assert room.records(room.ct)[0]["result"]["follow_up"] is None


def test_a_question_asked_several_times_tells_how_far_the_answers_agree_and_can_be_taken_again(
    reader, room
) -> None:
    reader.tab.get_by_label("How often to ask").select_option("3 times")
    try:
        answered(reader, LIVER)
    finally:
        reader.tab.get_by_label("How often to ask").select_option("once")
    expect(reader.tab.get_by_text(re.compile(r"Several answers agree to \d+ %"))).to_be_visible()
    assert len(room.records(room.ct)[0]["result"]["samples"]) == 2
    reader.question.fill("")
    reader.tab.get_by_label("A question to ask again").select_option(LIVER)
    expect(reader.question).to_be_focused()
    assert reader.question.input_value() == LIVER


def test_a_click_keeps_what_was_painted_and_undo_takes_each_back(reader, room) -> None:
    answered(reader, LIVER)
    box = reader.drawn_box()
    asked = reader.voxels_on_screen()
    reader.paint(box.right + 30, box.top + 30)
    reader.wait_until_edited()
    painted = reader.voxels_on_screen()
    added = total(painted) - total(asked)
    assert added > 50
    reader.button("Click inside").click()
    reader.page.mouse.click(box.left + 0.3 * (box.right - box.left), (box.top + box.bottom) / 2)
    reader.wait_until_corrected()
    reader.page.keyboard.press("Escape")
    last = room.records(room.ct)[0]["result"]
    assert last["kind"] == "segment"
    # What was painted went with the click, which takes nothing away.
    assert total(reader.voxels_on_screen()) == last["mask"]["voxels"] >= total(painted)
    for expected in (painted, asked):
        reader.button("Undo").click()
        expect(reader.button("Redo")).to_be_enabled()
        reader.wait_for_voxels(expected)
    reader.button("Redo").click()
    reader.wait_for_voxels(painted)


def test_lasso_and_scribble_change_the_mask_in_their_own_direction_and_are_undone(
    reader, room
) -> None:
    answered(reader, LIVER)
    box = reader.drawn_box()
    asked = reader.masks_on_screen()
    (name,) = asked
    left, top = box.left - 10, box.top - 10
    square = [(left, top), (left + 60, top), (left + 60, top + 60), (left, top + 60)]
    draw(reader, "Lasso inside", square, "lasso")
    reader.picture("targets-lasso")
    lassoed = reader.masks_on_screen()
    assert lassoed[name] > asked[name]
    across = [(box.left + share * (box.right - box.left), (box.top + box.bottom) / 2)
              for share in (0.2, 0.4, 0.6)]  # fmt: skip
    draw(reader, "Click outside", across, "scribble")
    reader.picture("targets-scribble")
    scribbled = reader.masks_on_screen()
    assert scribbled[name] < lassoed[name]
    marks = reader.tab.get_by_label("Your points").get_by_role("button")
    expect(marks).to_have_text([re.compile("lasso 1 inside"), re.compile("scribble 2 outside")])
    prompts = room.records(room.ct)[0]["result"]["prompts"]
    assert prompts["point_sources"].count("reader") > 3
    for expected in (lassoed, asked):
        reader.button("Undo").click()
        reader.wait_for_voxels({name: len(expected[name])})
        assert reader.masks_on_screen() == expected


def draw(reader: Reader, mode: str, path: list[tuple[float, float]], kind: str) -> None:
    """One drag along a path, in px of the page, until it is answered."""
    reader.button(mode).click()
    reader.page.mouse.move(*path[0])
    reader.page.mouse.down()
    for place in path[1:]:
        reader.page.mouse.move(*place, steps=5)
    reader.page.mouse.up()
    expect(reader.button("Undo")).to_have_attribute("title", re.compile(f"^{kind}"))
    reader.wait_until_corrected()
    reader.page.keyboard.press("Escape")


def total(voxels: dict[str, int]) -> int:
    return sum(voxels.values())


def test_what_is_stored_after_a_brush_stroke_is_what_is_on_the_screen(reader, room) -> None:
    answered(reader, LIVER, through_volume=True)
    known = {parsed(content).SOPInstanceUID for content in room.stored(room.ct, "SEG")}
    box = reader.drawn_box()
    said = reader.facts.inner_text()
    asked = total(reader.voxels_on_screen())
    reader.paint(box.right + 30, box.top + 30)
    # At once, as a quick reader does: the stroke counts although nothing was said of it yet.
    reader.tab.get_by_role("button", name=re.compile("^(Accept|Submit mask as edited)$")).and_(
        reader.tab.locator("button:enabled")
    ).click()
    expect(reader.decision).to_have_text("This answer is edited. The PACS has it.")
    expect(reader.tab.get_by_label("Stored mask")).to_contain_text("Stored as it was on the screen")
    assert reader.facts.inner_text() != said  # the sizes are those of the edited mask
    seen = total(reader.voxels_on_screen())
    assert seen > asked
    (stored,) = [
        dataset
        for dataset in map(parsed, room.stored(room.ct, "SEG"))
        if dataset.SOPInstanceUID not in known
    ]
    assert stored.pixel_array.sum() == seen
    places = segment_lps_mm(stored)
    heights, counts = np.unique(np.round(places[:, 2], 1), return_counts=True)
    on_screen = reader.voxels_by_height()
    assert dict(zip(heights.tolist(), counts.tolist(), strict=True)) == pytest.approx(on_screen)
    reader.picture("targets-stored")


def test_a_segment_deleted_in_the_viewer_is_no_mask_to_submit(reader, room) -> None:
    answered(reader, LIVER)
    reports = len(room.stored(room.ct, "SR"))
    reader.page.evaluate(
        """() => { const { segmentationService } = window.services;
          const [{ segmentationId }] = segmentationService.getSegmentations();
          segmentationService.removeSegment(segmentationId, 1); }"""
    )
    expect(reader.targets).to_have_count(0)
    expect(reader.tab.locator(".section-decide")).to_be_hidden()
    assert len(room.stored(room.ct, "SR")) == reports
    reader.button("Undo").click()
    expect(reader.targets).to_have_count(1)
    reader.wait_for_segmentations(1)
    assert total(reader.voxels_on_screen()) > 100


@pytest.mark.parametrize("mode", ["Draw box", "Click outside", "Lasso outside"])
def test_escape_leaves_the_mode_and_ends_a_drag(reader, room, mode) -> None:
    answered(reader, LIVER)
    known = len(room.records(room.ct))
    box = reader.drawn_box()
    drag_begun(reader, mode)
    reader.page.keyboard.press("Escape")
    reader.page.mouse.up()
    expect(reader.button(mode)).to_have_attribute("aria-pressed", "false")
    expect(reader.page.locator(DRAWN_LINES)).to_have_count(0)
    again = reader.drawn_box()
    assert [again.right, again.bottom] == pytest.approx([box.right, box.bottom], abs=1)
    assert len(room.records(room.ct)) == known
    expect(reader.button("Accept")).to_be_enabled()
    expect(reader.button("Submit mask as edited")).to_be_disabled()
    expect(reader.facts).to_contain_text("cm²")


DRAWN_LINES = ".medreasoner-overlay polyline, .medreasoner-overlay polygon"


def drag_begun(reader: Reader, mode: str) -> None:
    """A drag from the box's corner to its middle and down, with the button still pressed."""
    box = reader.drawn_box()
    reader.button(mode).click()
    reader.page.mouse.move(box.left, box.top)
    reader.page.mouse.down()
    middle = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    reader.page.mouse.move(*middle, steps=3)
    reader.page.mouse.move(middle[0], box.bottom, steps=3)


def test_a_drag_that_is_lifted_beside_the_image_has_ended(reader) -> None:
    answered(reader, LIVER)
    drag_begun(reader, "Lasso outside")
    expect(reader.page.locator(DRAWN_LINES)).to_have_count(1)
    reader.page.mouse.move(20, 20, steps=3)
    reader.page.mouse.up()
    expect(reader.button("Undo")).to_have_attribute("title", re.compile("^lasso"))
    reader.wait_until_corrected()
    reader.page.keyboard.press("Escape")


def test_another_button_of_the_mouse_marks_nothing(reader, room) -> None:
    answered(reader, LIVER)
    known = len(room.records(room.ct))
    box = reader.drawn_box()
    reader.button("Click outside").click()
    for button in ("right", "middle"):
        reader.page.mouse.click(
            (box.left + box.right) / 2, (box.top + box.bottom) / 2, button=button
        )
    reader.page.keyboard.press("Escape")
    reader.wait_until_corrected()
    assert len(room.records(room.ct)) == known
    expect(reader.button("Accept")).to_be_enabled()


def test_the_window_on_the_screen_is_read_by_the_model_and_named(reader, room) -> None:
    answered(reader, LIVER)
    expect(reader.facts).to_contain_text("W 300 L 40")
    reader.page.evaluate(
        """() => { const viewport = window.services.cornerstoneViewportService
          .getCornerstoneViewport(window.services.viewportGridService.getActiveViewportId());
          viewport.setProperties({ voiRange: { lower: -1350, upper: 149 } });
          viewport.render(); }"""
    )
    expect(reader.pane).to_contain_text(re.compile(r"W:\s*1500"))
    reader.ask(LIVER)
    expect(reader.facts).to_contain_text("W 1500 L -600")
    read = room.records(room.ct)[0]["result"]["slice"]
    assert (read["window_center"], read["window_width"]) == (-600, 1500)
    reader.page.evaluate(
        """() => window.services.cornerstoneViewportService
          .getCornerstoneViewport(window.services.viewportGridService.getActiveViewportId())
          .resetProperties()"""
    )


def test_what_is_not_present_has_no_certainty_and_the_models_are_named(reader) -> None:
    answered(reader, ABSENT)
    expect(reader.facts).to_contain_text("Not present")
    expect(reader.facts).not_to_contain_text("%")
    expect(reader.tab).to_contain_text("Answer: embedded. Mask: embedded. Not for clinical use.")
    search = reader.tab.get_by_label("Find the slice in the whole series")
    search.check()
    try:
        answered(reader, ABSENT)
        expect(reader.facts).to_contain_text(re.compile(r"any of the \d+ slices looked at, of 20"))
    finally:
        search.uncheck()


def test_the_image_is_not_left_dimmed_after_a_search(reader) -> None:
    search = reader.tab.get_by_label("Find the slice in the whole series")
    reader.scroll_slices(-30)
    search.check()
    try:
        answered(reader, LIVER)
        reader.page.wait_for_timeout(1000)  # the viewer dims the image a little later
        reader.wait_until_not_loading()
        reader.scroll_slices(-1)  # from the slice that was found, not from where the search began
        reader.page.wait_for_timeout(1000)
        reader.wait_until_not_loading()
    finally:
        search.uncheck()


def test_another_tab_of_the_browser_lists_what_was_recorded_here(reader, room) -> None:
    page = reader.page.context.new_page()
    other = Reader.at(page, room.url)
    other.open_study(room.ct.study_uid, "segmentation")
    expect(other.history.first).to_be_visible()
    known = other.history.count()
    answered(reader, LIVER)
    expect(other.history).to_have_count(known + 1)
    page.close()


def test_the_first_key_opens_the_tab_and_what_is_typed_goes_into_the_question(
    readers, room
) -> None:
    reader = readers()
    reader.page.goto(f"{room.url}/ohif/segmentation?StudyInstanceUIDs={room.ct.study_uid}")
    reader.page.wait_for_selector('[data-cy="viewport-pane"] canvas')
    expect(reader.pane).to_contain_text(re.compile(r"W:\s*300"))
    reader.page.keyboard.press("Alt+q")
    expect(reader.question).to_be_focused()
    reader.page.keyboard.type("1 liver")
    assert reader.question.input_value() == "1 liver"
    expect(reader.pane).to_contain_text(
        re.compile(r"W:\s*300")
    )  # "1" is a key of the viewer for a window
    reader.page.close()


def test_keys_do_not_reach_the_viewer_when_what_had_the_focus_is_gone(reader) -> None:
    """A deleted row, a button that can be pressed no more: "1" is a key for another window."""
    answered(reader, LIVER)
    window = re.compile(r"W:\s*300")
    expect(reader.pane).to_contain_text(window)
    reader.tab.get_by_role("button", name=re.compile("^Delete")).focus()
    reader.page.keyboard.press("Enter")
    expect(reader.targets).to_have_count(0)
    reader.page.keyboard.press("1")
    reader.button("Undo").focus()
    for _ in range(2):
        reader.page.keyboard.press("Enter")
    reader.page.keyboard.press("1")
    reader.page.wait_for_timeout(300)
    expect(reader.pane).to_contain_text(window)


def test_a_letter_that_is_written_by_alt_gr_goes_into_the_text(reader) -> None:
    """On a German keyboard AltGr, which is Ctrl and Alt, makes "@" of Q."""
    answered(reader, LIVER)
    reader.tab.get_by_label("Reason for rejecting").focus()
    reader.page.keyboard.press("Control+Alt+q")
    expect(reader.tab.get_by_label("Reason for rejecting")).to_be_focused()


def test_axe_finds_nothing_in_the_tab(reader) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is absent; run npm ci")
    answered(reader, LIVER)
    reader.button("Follow up").click()
    reader.button("Click inside").click()
    reader.page.evaluate(AXE.read_text())
    found = reader.page.evaluate("axe.run('.medreasoner').then(({ violations }) => violations)")
    assert [(fault["id"], fault["impact"], fault["help"]) for fault in found] == []


def test_a_mask_is_stored_by_keys_alone(reader, room) -> None:
    keys = reader.page.keyboard
    known = len(room.stored(room.ct, "SEG"))
    keys.press("Alt+q")
    keys.press("Control+a")
    keys.type(LIVER)
    keys.press("Enter")
    reader.wait_for_answer()
    keys.press("Alt+Enter")
    expect(reader.decision).to_have_text("This answer is accepted. The PACS has it.")
    assert len(room.stored(room.ct, "SEG")) == known + 1


@pytest.mark.parametrize(
    ("mode", "is_searched", "expected"),
    [
        # Row and mode; Alt+Q, Enter, Alt+Enter.
        ("monai-label", False, {"click": 2, "key": 3}),
        # The first slice does not show the liver: Tab, Space and Shift+Tab have it searched for.
        ("segmentation", True, {"click": 2, "key": 6}),
    ],
)
def test_from_worklist_to_stored_mask_it_takes_few_clicks_and_keys_and_no_scrolling(
    readers, room, mode, is_searched, expected
) -> None:
    known = len(room.stored(room.ct, "SEG"))
    reader = readers()
    reader.count_by_hand()
    reader.open_from_worklist(room.ct.study_uid, "Browser, CT", mode)
    expect(reader.pane).to_contain_text(re.compile(r"W:\s*300"))
    keys = reader.page.keyboard
    keys.press("Alt+q")
    expect(reader.question).to_be_focused()
    if is_searched:
        for key in ("Tab", "Space", "Shift+Tab"):
            keys.press(key)
        expect(reader.tab.get_by_label("Find the slice in the whole series")).to_be_checked()
    keys.type(LIVER)
    keys.press("Enter")
    reader.wait_for_answer()
    keys.press("Alt+Enter")
    expect(reader.decision).to_have_text("This answer is accepted. The PACS has it.")
    assert reader.done_by_hand() == expected
    assert len(room.stored(room.ct, "SEG")) == known + 1
    reader.page.close()


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
def test_what_can_be_decided_is_in_sight_and_the_page_is_dark(reader, size) -> None:
    width, height = size
    before = reader.page.viewport_size
    reader.page.set_viewport_size({"width": width, "height": height})
    try:
        answered(reader, LIVER)
        for name in ("Accept", "Submit mask as edited", "Reject"):
            place = reader.button(name).bounding_box()
            assert place["y"] + place["height"] <= height
            assert reader.is_uncovered(reader.button(name))
        assert reader.luminance(reader.question, "background-color") < 0.05
        assert (
            contrast(
                reader.luminance(reader.question, "color", "::placeholder"),
                reader.luminance(reader.question, "background-color"),
            )
            >= 4.5
        )
        assert reader.tab.evaluate(CUT_TEXTS) == []
        reader.picture(f"targets-{width}x{height}")
    finally:
        reader.page.set_viewport_size(before)


# Texts that are wider than their place, but for those that only a screen reader says, and choices
# that do not fit into their field.
CUT_TEXTS = """tab => {
  const cut = [...tab.querySelectorAll('button, label, h2')]
    .filter(element => element.offsetParent && element.clientWidth > 1)
    .filter(element => element.scrollWidth > element.clientWidth + 1)
    .map(element => element.textContent);
  for (const select of tab.querySelectorAll('select')) {
    const isOpened = option => option.value === '' || !select.querySelector('optgroup');
    for (const option of [...select.options].filter(isOpened)) {
      const alone = select.cloneNode(false);
      alone.append(option.cloneNode(true));
      Object.assign(alone.style, { maxWidth: 'none', flex: 'none', position: 'absolute' });
      select.after(alone);
      if (select.offsetParent && alone.offsetWidth > select.offsetWidth + 1) cut.push(option.text);
      alone.remove();
    }
  }
  return cut;
}"""


def contrast(first: float, second: float) -> float:
    """WCAG 2.1's contrast ratio of two relative luminances."""
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)
