# SPDX-License-Identifier: Apache-2.0
"""Three targets of one study, from question to archive, voxel by voxel.

What was on the screen is what highdicom and the viewer itself read, which know nothing of ours.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import expect
from support.conformance import (
    assert_dciodvfy_finds_no_error,
    assert_dsrdump_reads,
    parsed,
)
from support.viewer import Reader

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

highdicom = pytest.importorskip("highdicom")

# What is asked, and what the tab calls it at first.
QUESTIONS = {
    "Which organ makes bile and fills the right upper abdomen?": "Target 1",
    "Where is the spleen?": "spleen",
    "Where is the aorta?": "aorta",
}
NAMES = ("Liver", "spleen", "Aorta by two hands")

Masks = dict[str, set[tuple[str, int]]]


def choose(reader: Reader, name: str) -> None:
    row = reader.targets.filter(has_text=name).locator("button.go")
    row.click()
    expect(row).to_have_attribute("aria-current", "true")
    reader.wait_until_corrected()


def click(reader: Reader, mode: str, share_x: float, share_y: float) -> None:
    """One click at shares of the box's width and height, until it is answered."""
    box = reader.drawn_box()
    reader.button(mode).click()
    reader.page.mouse.click(
        box.left + share_x * (box.right - box.left), box.top + share_y * (box.bottom - box.top)
    )
    expect(reader.button("Undo")).to_have_attribute("title", re.compile("^click"))
    reader.wait_until_corrected()
    reader.page.keyboard.press("Escape")


def brush(reader: Reader) -> None:
    """A stroke beside the target, until the tab has taken it."""
    box = reader.drawn_box()
    reader.paint(box.right + 20, box.top + 10)
    expect(reader.button("Undo")).to_have_attribute("title", re.compile("^brush"))


@pytest.fixture(scope="module")
def reader(readers, room) -> Reader:
    reader = readers()
    reader.open_study(room.ct.study_uid, "segmentation")
    reader.scroll_slices(10)
    return reader


@pytest.fixture(scope="module")
def seen(reader, room) -> Masks:
    """What was on the screen, by target, when it was stored."""
    for question, name in QUESTIONS.items():
        reader.ask(question, through_volume=name == "Target 1")
        reader.wait_for_answer()
    asked = reader.masks_on_screen()
    assert set(asked) == set(QUESTIONS.values())
    after_clicks = correct_by_clicks(reader, asked)
    after_brush = correct_by_brush(reader, after_clicks)
    corrected = correct_by_both(reader, after_brush)
    undo_and_redo(reader, after_brush, corrected)
    reader.rename_target("Target 1", NAMES[0])
    reader.rename_target("aorta", NAMES[2])
    delete(reader, room)
    named = dict(zip(NAMES, (corrected[name] for name in QUESTIONS.values()), strict=True))
    for name in NAMES:
        store(reader, name)
    assert reader.masks_on_screen() == named
    reader.picture("three-stored")
    return named


def correct_by_clicks(reader: Reader, before: Masks) -> Masks:
    choose(reader, "Target 1")
    reader.tab.get_by_label("Segment through the volume").uncheck()
    click(reader, "Click inside", 0.06, 0.06)
    grown = reader.masks_on_screen()
    click(reader, "Click outside", 0.5, 0.5)
    shrunk = reader.masks_on_screen()
    assert grown["Target 1"] > before["Target 1"]
    assert shrunk["Target 1"] < grown["Target 1"]
    assert_only_changed(before, shrunk, "Target 1")
    return shrunk


def correct_by_brush(reader: Reader, before: Masks) -> Masks:
    choose(reader, "spleen")
    brush(reader)
    after = reader.masks_on_screen()
    assert after["spleen"] > before["spleen"]
    assert_only_changed(before, after, "spleen")
    return after


def correct_by_both(reader: Reader, before: Masks) -> Masks:
    choose(reader, "aorta")
    click(reader, "Click inside", 0.06, 0.94)
    clicked = reader.masks_on_screen()
    assert clicked["aorta"] > before["aorta"]
    brush(reader)
    after = reader.masks_on_screen()
    assert after["aorta"] > clicked["aorta"]
    assert_only_changed(before, after, "aorta")
    return after


def assert_only_changed(before: Masks, after: Masks, name: str) -> None:
    """The other targets are as they were."""
    assert {key: after[key] for key in after if key != name} == {
        key: before[key] for key in before if key != name
    }


def undo_and_redo(reader: Reader, before: Masks, after: Masks) -> None:
    """Both corrections of the last target, and both again."""
    for name, wanted in (("Undo", before), ("Redo", after)):
        for _ in range(2):
            reader.button(name).click()
        reader.wait_for_voxels({label: len(voxels) for label, voxels in wanted.items()})
        assert reader.masks_on_screen() == wanted


def delete(reader: Reader, room) -> None:
    """One by mistake, which comes back, and a fourth for good."""
    known = reader.masks_on_screen()
    reader.tab.get_by_role("button", name="Delete spleen").click()
    reader.wait_for_segmentations(2)
    reader.button("Undo").click()
    reader.wait_for_segmentations(3)
    assert reader.masks_on_screen() == known
    reader.ask("Where is the stomach?")
    reader.wait_for_answer()
    reader.tab.get_by_role("button", name="Delete stomach").click()
    reader.wait_for_segmentations(3)
    assert room.stored(room.ct, "SEG") == []


def store(reader: Reader, name: str) -> None:
    choose(reader, name)
    reader.button("Submit mask as edited").click()
    expect(reader.decision).to_have_text("This answer is edited. The PACS has it.")
    expect(reader.tab.get_by_label("Stored mask")).to_contain_text("Stored as it was on the screen")


def differing(found: set, expected: set) -> str:
    return f"{len(found - expected)} voxels too many, {len(expected - found)} too few"


def test_highdicom_reads_what_was_on_the_screen(seen, room) -> None:
    images = [str(image.SOPInstanceUID) for image in room.ct.images]
    found = {}
    for stored in map(parsed, room.stored(room.ct, "SEG")):
        (segment,) = stored.SegmentSequence
        frames = highdicom.seg.Segmentation.from_dataset(stored).get_pixels_by_source_instance(
            images, segment_numbers=[1], assert_missing_frames_are_empty=True
        )
        places = np.argwhere(frames[..., 0].reshape(len(images), -1))
        found[str(segment.SegmentLabel)] = {(images[image], at) for image, at in places.tolist()}
    assert set(found) == set(NAMES)
    for name in NAMES:
        assert len(seen[name]) > 500
        assert found[name] == seen[name], differing(found[name], seen[name])


def test_the_basic_viewer_shows_what_was_on_the_screen(seen, readers, room) -> None:
    viewer = readers()
    viewer.open_basic_viewer(room.ct.study_uid)
    found: Masks = {}
    for number, name in enumerate(NAMES, 1):
        viewer.open_result("SEG", f"MedReasoner: {name}, edited")
        viewer.page.get_by_role("button", name="Yes", exact=True).click()
        viewer.wait_for_segmentations(number)
        shown = viewer.masks_on_screen()
        found[name] = next(shown[label] for label in shown if shown[label] not in found.values())
        assert found[name] == seen[name], differing(found[name], seen[name])
    viewer.picture("three-stock")
    assert viewer.errors == []
    viewer.page.close()


def test_validators_find_no_error_in_what_was_stored(seen, room, tmp_path) -> None:
    reports, segmentations = (room.stored(room.ct, modality) for modality in ("SR", "SEG"))
    assert len(reports) == len(segmentations) == len(NAMES)
    for report in reports:
        assert_dsrdump_reads(report, tmp_path)
    for stored in (*reports, *segmentations):
        assert_dciodvfy_finds_no_error(stored, tmp_path)
