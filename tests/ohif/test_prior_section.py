# SPDX-License-Identifier: Apache-2.0
"""A prior of the patient in the real viewer: compared, listed, stored, and opened by others."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from support.series import DicomStudy, earlier_study
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

LIVER = "Where is the liver?"


@pytest.fixture(scope="module")
def prior(room) -> DicomStudy:
    """The CT as it was before, which the archive has as well."""
    study = earlier_study(room.ct, "20200301")
    room.add(study)
    return study


@pytest.fixture(scope="module")
def reader(readers, room, prior) -> Reader:
    """Has compared the CT with its prior."""
    reader = readers()
    reader.choose_in_worklist(room.ct.study_uid, "Browser, CT", "segmentation")
    reader.scroll_slices(10)
    reader.question.fill(LIVER)
    reader.button("Compare").click()
    expect(reader.tab.get_by_role("table", name="Change since the prior")).to_be_visible()
    return reader


def test_both_answers_of_a_comparison_are_listed_here_and_in_another_tab(
    reader, readers, room
) -> None:
    expect(reader.history.filter(has_text=LIVER)).to_have_count(1)
    other = readers()
    other.open_study(room.ct.study_uid, "segmentation")
    expect(other.history.filter(has_text=LIVER)).to_have_count(1)
    reader.button("Compare").click()
    expect(other.history.filter(has_text=LIVER)).to_have_count(2)
    other.page.close()


def test_a_stored_comparison_opens_in_the_basic_viewer_without_an_error(
    reader, readers, room
) -> None:
    reader.button("Store comparison").click()
    expect(reader.tab).to_contain_text("Stored in both studies, marked as not reviewed.")
    table = reader.tab.get_by_role("table", name="Change since the prior")
    assert table.evaluate("table => table.scrollWidth <= table.parentElement.clientWidth")
    expect(reader.tab.get_by_label("About the change")).to_contain_text(f"Asked of both: {LIVER}")
    reader.picture("prior-stored")
    viewer = readers()
    viewer.open_basic_viewer(room.ct.study_uid)
    viewer.open_result("SR", "MedReasoner: liver, compared")
    pane = viewer.page.locator('[data-cy="viewport-pane"]').first
    expect(pane.get_by_text("SR", exact=True)).to_be_visible()
    expect(pane.locator("svg polyline, svg line").first).to_be_attached()
    viewer.picture("prior-stock")
    assert viewer.errors == []
    viewer.page.close()


def test_escape_stops_a_comparison(reader, room) -> None:
    with room.server.paused():
        reader.button("Compare").click()
        expect(reader.tab.locator(".comparing")).to_have_text("Comparing both examinations")
        reader.page.keyboard.press("Escape")
        expect(reader.tab.locator(".comparing")).to_have_text("")
        expect(reader.button("Compare")).to_be_enabled()
    expect(reader.alert).to_have_text("")


def test_a_look_at_the_worklist_leaves_the_targets_of_a_study(reader, room) -> None:
    reader.ask(LIVER)
    reader.wait_for_answer()
    known = reader.voxels_on_screen()
    reader.page.go_back()  # within the viewer's page, as its own way back to the worklist is
    expect(reader.tab).to_have_count(0)
    reader.choose_row(room.ct.study_uid, "Browser, CT", "segmentation")
    reader.open_tab()
    expect(reader.targets).to_have_count(1)
    reader.wait_for_voxels(known)
    expect(reader.button("Accept")).to_be_enabled()
