# SPDX-License-Identifier: Apache-2.0
"""Where the model doubts, as a reader sees it: readings by name, and the map."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
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
