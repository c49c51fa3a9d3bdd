# SPDX-License-Identifier: Apache-2.0
"""What a reader may do with an answer, each in the real viewer."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.conformance import assert_dsrdump_reads
from support.viewer import Reader, reddened, share_within

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUESTION = "Which organ makes bile and fills the right upper abdomen?"
# The model knows no such target on a slice of the upper abdomen.
ABSENT = "Which organ stores urine in the pelvis?"


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    """Sits before the CT; every test asks a question of its own."""
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    return reader


def answered(reader: Reader, question: str = QUESTION) -> None:
    reader.ask(question)
    reader.wait_for_answer()


def test_a_rejected_answer_is_recorded_with_the_reason_and_kept_in_the_pacs(
    reader, room, tmp_path
) -> None:
    answered(reader)
    reports = len(room.stored(room.ct, "SR"))
    reader.button("Reject").click()
    expect(reader.alert).to_have_text("Say why the answer is rejected.")
    reader.tab.get_by_label("Reason for rejecting").fill("It is the spleen.")
    reader.button("Reject").click()
    expect(reader.decision).to_have_text("This answer is rejected. The PACS has it.")
    reader.picture("panel-rejected")
    expect(reader.history.first).to_contain_text("rejected")
    expect(reader.button("Accept")).to_be_disabled()
    record = room.records(room.ct)[0]
    assert record["decision"]["outcome"] == "rejected"
    assert record["decision"]["reason"] == "It is the spleen."
    stored = room.stored(room.ct, "SR")
    assert len(stored) == reports + 1
    assert any("It is the spleen." in assert_dsrdump_reads(text, tmp_path) for text in stored)


def test_a_cancelled_question_leaves_no_record_and_another_may_be_asked(reader, room) -> None:
    known = len(room.records(room.ct))
    with room.server.paused():  # an answer takes but tenths of a second, nobody is that quick
        reader.ask(QUESTION, through_volume=True)
        expect(reader.button("Cancel (Esc)")).to_be_enabled()
        reader.question.press("Escape")
        expect(reader.tab.locator(".status")).to_have_text("Cancelled.")
        expect(reader.button("Ask (Enter)")).to_be_enabled()
        room.server.wait_until_left()
    expect(reader.alert).to_have_text("")
    answered(reader)
    assert len(room.records(room.ct)) == known + 1


def test_a_click_inside_runs_the_segmenter_alone(reader, room) -> None:
    answered(reader)
    told = reader.reasoning.inner_text()
    box = reader.drawn_box()
    window = re.search(r"W:\s*\d+\s*L:\s*\d+", reader.pane.inner_text()).group()
    reader.button("Click inside").click()
    # In a corner of the box, where the mask is not: elsewhere nothing would change.
    reader.page.mouse.click(
        box.left + 0.06 * (box.right - box.left), box.top + 0.06 * (box.bottom - box.top)
    )
    # The reader's own point joins the model's two.
    expect(reader.page.locator("svg.medreasoner-overlay circle")).to_have_count(3)
    expect(reader.button("Submit mask as edited")).to_be_enabled()
    correction, question = room.records(room.ct)[:2]
    assert (correction["result"]["kind"], question["result"]["kind"]) == ("segment", "ask")
    assert correction["result"]["reasoner"] is None
    assert correction["result"]["prompts"]["point_sources"] == [
        "reasoner", "reasoner", "reader",
    ]  # fmt: skip
    assert reader.reasoning.inner_text() == told
    expect(reader.button("Accept")).to_be_disabled()
    assert window in reader.pane.inner_text()  # a click with our tool is no windowing


def test_a_box_drawn_on_the_image_is_segmented(reader, room) -> None:
    answered(reader)
    asked = reader.drawn_box()
    reader.button("Draw box").click()
    reader.page.mouse.move(asked.left, asked.top)
    reader.page.mouse.down()
    middle = (asked.left + asked.right) / 2, (asked.top + asked.bottom) / 2
    reader.page.mouse.move(*middle, steps=4)
    reader.page.mouse.up()
    expect(reader.button("Submit mask as edited")).to_be_enabled()
    reader.picture("panel-box")
    drawn = reader.drawn_box()
    assert (drawn.right, drawn.bottom) == pytest.approx(middle, abs=3)
    assert room.records(room.ct)[0]["result"]["prompts"]["bbox_source"] == "reader"


def test_everything_works_by_keyboard(reader, room) -> None:
    """The tab, a question, a corrected box, and a decision, without a mouse."""
    keys = reader.page.keyboard
    reader.page.locator("body").click(position={"x": 5, "y": 995})
    keys.press("Alt+q")
    expect(reader.question).to_be_focused()
    reader.tab.get_by_label("Segment through the volume").set_checked(False)
    reader.question.focus()
    keys.press("Control+a")
    keys.type(QUESTION)
    keys.press("Enter")
    reader.wait_for_answer()
    asked = reader.drawn_box()
    tab_to(reader, "Box by keys")
    for _ in range(5):
        keys.press("ArrowRight")
    for _ in range(3):
        keys.press("Shift+ArrowUp")
    moved = reader.drawn_box()
    assert (moved.left, moved.bottom) == pytest.approx((asked.left + 20, asked.bottom - 12), abs=2)
    keys.press("Enter")
    expect(reader.button("Submit mask as edited")).to_be_enabled()
    tab_to(reader, "Submit mask as edited")
    keys.press("Enter")
    expect(reader.decision).to_have_text("This answer is edited. The PACS has it.")
    reader.picture("panel-keyboard")
    question = next(r for r in room.records(room.ct) if r["result"]["kind"] == "ask")
    assert question["decision"]["outcome"] == "edited"


def tab_to(reader: Reader, name: str) -> None:
    """Press the tabulator until the button has the focus, as it must within one round."""
    for _ in range(30):
        reader.page.keyboard.press("Tab")
        if reader.page.evaluate("document.activeElement.textContent") == name:
            return
    raise AssertionError(f"{name} cannot be reached by the tabulator.")


def test_an_absent_target_is_said_to_be_absent_and_has_no_mask(reader, room) -> None:
    answered(reader)
    box = reader.drawn_box()
    with_mask = reader.pixels()
    answered(reader, ABSENT)
    while reader.targets.count() > 1:  # the others stay on the screen until they are hidden
        reader.tab.get_by_role("button", name=re.compile("^Delete")).first.click()
    expect(reader.facts.locator("li").first).to_have_text(re.compile("^Not present"))
    expect(reader.facts.locator("li").first).to_have_class(re.compile("alert"))
    reader.picture("panel-not-present")
    expect(reader.page.locator("svg.medreasoner-overlay > *")).to_have_count(0)
    assert share_within(reddened(reader.pixels(), with_mask), box) > 0.15  # it was there before
    expect(reader.button("Accept")).to_be_enabled()
    assert room.records(room.ct)[0]["present"] is False


def test_a_question_not_understood_is_violet_without_a_percentage_and_cannot_be_accepted(
    reader,
) -> None:
    def without_understanding(route) -> None:
        answer = route.fetch()
        said, count = re.subn(r'"outcome": ?"absent"', '"outcome": "not_understood"', answer.text())
        assert count > 0
        route.fulfill(response=answer, body=said)

    reader.page.route("**/medreasoner/streams/ask?*", without_understanding)
    try:
        answered(reader, ABSENT)
    finally:
        reader.page.unroute("**/medreasoner/streams/ask?*")
    first = reader.facts.locator("li").first
    expect(first).to_have_text("The question was not understood: nothing is said of any target.")
    expect(first).to_have_css("color", "rgb(208, 184, 255)")
    expect(reader.facts).not_to_contain_text("%")
    expect(reader.targets.last).to_contain_text("not understood")
    expect(reader.page.locator("svg.medreasoner-overlay > *")).to_have_count(0)
    reader.picture("panel-not-understood")
    expect(reader.button("Accept")).to_be_disabled()
    expect(reader.button("Reject")).to_be_enabled()
    expect(reader.button("Ask (Enter)")).to_be_enabled()


def test_a_fault_of_the_server_is_a_sentence_and_one_may_ask_again(reader) -> None:
    reader.page.route(
        "**/medreasoner/streams/ask?*",
        lambda route: route.fulfill(
            status=503, content_type="application/json", body='{"detail": "The line is full."}'
        ),
    )
    reader.ask(QUESTION)
    expect(reader.alert).to_have_text("The line is full.")
    reader.page.unroute("**/medreasoner/streams/ask?*")
    reader.page.route("**/medreasoner/streams/ask?*", lambda route: route.abort())
    reader.ask(QUESTION)
    expect(reader.alert).to_have_text("The server cannot be reached; is it running?")
    reader.picture("panel-fault")
    reader.page.unroute("**/medreasoner/streams/ask?*")
    answered(reader)


def test_the_slice_is_found_in_the_whole_series_and_shown(reader) -> None:
    reader.tab.get_by_label("Find the slice in the whole series").check()
    try:
        reader.scroll_slices(-30)
        answered(reader)
        expect(reader.facts).to_contain_text("slices looked at")
        reader.page.wait_for_selector("svg.medreasoner-overlay rect")
    finally:
        reader.tab.get_by_label("Find the slice in the whole series").uncheck()


def test_a_history_that_the_pacs_did_not_give_is_not_called_empty_and_can_be_read_again(
    readers, room
) -> None:
    reader = readers()
    fault = '{"detail": "The DICOMweb server did not answer; try again."}'
    reader.page.route(
        "**/medreasoner/history?*",
        lambda route: route.fulfill(status=502, content_type="application/json", body=fault),
    )
    reader.open_study(room.mr.study_uid, "segmentation")
    about = reader.tab.get_by_label("About the history")
    expect(about).to_have_text("The DICOMweb server did not answer; try again.")
    expect(reader.tab).not_to_contain_text("None on this study.")
    reader.picture("panel-history-fault")
    reader.page.unroute("**/medreasoner/history?*")
    reader.button("Read again").click()
    expect(about).to_be_empty()
    expect(reader.button("Read again")).to_be_hidden()
    expect(reader.tab).to_contain_text("None on this study.")
