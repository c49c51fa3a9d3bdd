# SPDX-License-Identifier: Apache-2.0
"""What was checked of a reasoning is marked in it, told as text and kept with the record."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

VERDICTS = {"holds": "✓", "does not hold": "✗", "cannot be checked": "?"}
CLASSES = {"holds": "holds", "does not hold": "fails", "cannot be checked": "unknown"}


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    reader.open_tab()
    return reader


def test_each_statement_is_marked_with_what_was_measured(reader, room) -> None:
    reader.tab.get_by_label("Ask again without what it points to").check()
    reader.ask("Where is the liver?")
    reader.wait_for_answer()
    result = room.records(room.ct)[0]["result"]
    statements = result["checks"]["statements"]
    assert statements, "the embedded reasoner says where and how its target is"
    marked = reader.tab.locator(".reasoning .statement")
    expect(marked).to_have_count(len(statements))
    expect(reader.tab.locator(".reasoning")).to_have_text(result["reasoning"])
    listed = reader.tab.get_by_label("Checked statements").get_by_role("listitem")
    removal = result["checks"]["removal"]
    expect(listed).to_have_count(len(statements) + (removal is not None))
    if removal is not None:
        expect(listed.first).to_have_text(removal["explanation"])
    for number, statement in enumerate(statements):
        span = marked.nth(number)
        said = result["reasoning"][statement["start"] : statement["end"]]
        expect(span).to_have_text(said)
        expect(span).to_have_class(re.compile(CLASSES[statement["verdict"]]))
        expect(span).to_have_attribute("title", re.compile(re.escape(statement["measured"])))
        row = listed.nth(number + (removal is not None))
        expect(row).to_contain_text(f"{VERDICTS[statement['verdict']]} “{said}”")
    reader.picture("checked-reasoning")


def test_the_targets_of_the_page_tell_where_neighbours_lie(reader, room) -> None:
    reader.tab.get_by_label("Ask again without what it points to").uncheck()
    reader.ask("Where is the spleen?")
    reader.wait_for_answer()
    checks = room.records(room.ct)[0]["result"]["checks"]
    assert checks["removal"] is None
    told = [s for s in checks["statements"] if s["kind"] == "neighbour" and "liver" in s["claim"]]
    assert all("not known" not in statement["measured"] for statement in told)
