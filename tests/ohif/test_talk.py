# SPDX-License-Identifier: Apache-2.0
"""A dialogue in the tab: what refers to an answer goes with it, and its diameters are drawn."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    return reader


def answered(reader: Reader, question: str) -> None:
    reader.ask(question)
    reader.wait_for_answer()


def test_sizes_join_the_target_and_both_diameters_are_drawn(reader, room) -> None:
    answered(reader, "Where is the liver?")
    first = room.records(room.ct)[0]
    reader.ask("How large is it?")
    expect(reader.facts).to_contain_text(re.compile(r"Longest diameter [\d.]+ mm"))
    expect(reader.targets).to_have_count(1)
    expect(reader.page.locator(".medreasoner-overlay line.diameter")).to_have_count(2)
    sizes = room.records(room.ct)[0]["result"]
    assert (sizes["kind"], sizes["reasoner"]) == ("measure", None)
    assert sizes["reading"]["about_inference_id"] == first["inference_id"]
    assert sizes["mask"]["voxels"] == first["result"]["mask"]["voxels"]
    reader.picture("talk-diameters")


def test_what_refers_to_nothing_here_is_not_guessed(reader, room) -> None:
    answered(reader, "Where is the liver?")
    answered(reader, "and on the other side?")
    told = room.records(room.ct)[0]["result"]
    assert told["outcome"] == "not_understood"
    assert "There is one liver" in told["reasoning"]
