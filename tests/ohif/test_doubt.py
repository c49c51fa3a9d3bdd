# SPDX-License-Identifier: Apache-2.0
"""Where the model doubts, as a reader sees it: readings by name, and the map."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIVER = "Where is the liver?"
COLOURED = """canvas => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let [count, x, y] = [0, 0, 0];
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] === 0) continue;
    count += 1;
    x += (at / 4) % canvas.width;
    y += Math.floor(at / 4 / canvas.width);
  }
  return { count, x: x / count, y: y / count };
}"""


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    """One who has asked three times, through the volume."""
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    reader.open_tab()
    reader.tab.get_by_label("How often to ask").select_option("3 times")
    reader.ask(LIVER, through_volume=True)
    reader.wait_for_answer()
    return reader


def test_the_readings_are_told_by_name_and_number(reader, room) -> None:
    doubt = room.records(room.ct)[0]["result"]["doubt"]
    said = reader.tab.get_by_label("What the readings say").get_by_role("listitem")
    first = doubt["named"][0]
    name = first["name"] or "target"
    expect(said.first).to_contain_text(f"{first['count']} of {doubt['readings']}: {name}")
    expect(said.filter(has_text="Their masks agree to")).to_have_count(1)
    assert sum(each["count"] for each in doubt["named"]) == doubt["readings"]


def test_the_map_is_switched_on_over_the_box_and_off_by_button_and_key(reader) -> None:
    canvas = reader.page.locator("canvas.medreasoner-doubt")
    legend = reader.tab.get_by_label("Share of the readings")
    expect(canvas).to_be_hidden()
    expect(legend).to_be_hidden()
    reader.tab.get_by_role("button", name=re.compile("^Map of agreement")).click()
    expect(canvas).to_be_visible()
    expect(legend).to_contain_text("up to 25 %")
    coloured, box, bounds = canvas.evaluate(COLOURED), reader.drawn_box(), canvas.bounding_box()
    assert coloured["count"] > 100
    around = box.grown(0.5)
    assert around.left < bounds["x"] + coloured["x"] < around.right
    assert around.top < bounds["y"] + coloured["y"] < around.bottom
    reader.picture("doubt-map")
    reader.page.keyboard.press("Alt+m")
    expect(canvas).to_be_hidden()


def test_an_earlier_question_shows_its_map_again(reader, room) -> None:
    assert room.records(room.ct)[0]["doubt_map_kept"]
    before = pixels_of_map(reader)
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.open_tab()
    reader.history.first.click()
    assert pixels_of_map(reader) == before


def pixels_of_map(reader: Reader) -> int:
    """How many pixels of the viewport the map colours, switched on and off again."""
    canvas = reader.page.locator("canvas.medreasoner-doubt")
    button = reader.tab.get_by_role("button", name=re.compile("^Map of agreement"))
    button.click()
    expect(canvas).to_be_visible()
    count: int = canvas.evaluate(COLOURED)["count"]
    button.click()
    return count


def test_one_goes_through_the_doubtful_slices_by_button_and_key_and_back(reader, room) -> None:
    """Which slices are doubtful depends on the weights; so the server's reply is told some."""

    def tell_slices(route: Route) -> None:
        reply = route.fetch()
        told = reply.json()
        told["doubtful_slices"] = [
            {"index": 3, "reason": "end"}, {"index": 8, "reason": "segmenter"}
        ]  # fmt: skip
        route.fulfill(response=reply, json=told)

    reader.page.route("**/medreasoner/doubts/*", tell_slices)
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.open_tab()
    reader.history.first.click()
    go = reader.tab.get_by_role("button", name=re.compile("^Next doubtful slice"))
    expect(go).to_be_enabled()
    expect(reader.pane).to_contain_text("(11/")  # which was asked about
    go.click()
    first = arrived(reader, 11)
    reader.page.keyboard.press("Alt+.")
    second = arrived(reader, first[0])
    assert {first[1], second[1]} == {
        "This slice: the mask ends at or near this slice, and the target may go on.",
        "This slice: the segmenter is not sure of its mask.",
    }
    assert abs(first[0] - second[0]) == 8 - 3
    here = second
    for key in ("Alt+,", "Alt+.", "Alt+."):  # back, on, and round the end
        reader.page.keyboard.press(key)
        there = arrived(reader, here[0])
        assert there == (second if here == first else first)
        here = there


def arrived(reader: Reader, left: int) -> tuple[int, str]:
    """Which slice the viewer shows when it has left one, and why it is doubtful."""
    expect(reader.pane).not_to_contain_text(f"({left}/")
    number = int(re.search(r"\((\d+)/", reader.slice_text).group(1))
    here = reader.tab.locator(".section-doubt [role=status]")
    expect(here).to_have_text(re.compile("^This slice: "))
    return number, here.inner_text()
