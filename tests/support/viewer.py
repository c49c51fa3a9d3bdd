# SPDX-License-Identifier: Apache-2.0
"""OHIF in headless Chromium, as a radiologist uses it."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import ConsoleMessage, Locator, Page, expect

WAIT_MS = 180_000
# Headless Chromium draws WebGL by software with these.
FLAGS = [
    "--no-sandbox", "--disable-background-networking", "--use-gl=angle",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
SIZE = {"width": 1600, "height": 1000}
MOST_SHOTS = 30
BETWEEN_SHOTS_MS = 300
_REDNESS_STEP = 12
_NUMBER_OF_SLICE = re.compile(r"\((\d+)/(\d+)\)")

# Notes how much of the reasoning is on the page whenever it changes.
_WATCH = """() => {
  const text = document.querySelector('.medreasoner .reasoning');
  window.seenLengths = [];
  new MutationObserver(() => window.seenLengths.push(text.textContent.length))
    .observe(text, { childList: true, characterData: true, subtree: true });
}"""

_SHAPES = """shape => {
  const found = [...document.querySelectorAll(`svg.medreasoner-overlay ${shape}`)];
  const bounds = found.map(element => element.getBoundingClientRect());
  return bounds.length && bounds.map(b => [b.left, b.top, b.right, b.bottom]);
}"""


# The viewer's own word on the masks: by segmentation its label and slices, each with its height in
# LPS mm, its image, the count of its voxels and their numbers in that image, row by row, as text.
_MASKS = """() => {
  const { segmentationService } = window.services;
  const { cache, metaData } = window.cornerstone;
  return segmentationService.getSegmentations().map(segmentation => {
    const { segmentationId, label, representationData } = segmentation;
    const volume = segmentationService.getLabelmapVolume(segmentationId);
    const ids = volume ? volume.imageIds : representationData.Labelmap.imageIds;
    const slices = ids.map(id => {
      const image = cache.getImage(id);
      const plane = metaData.get('imagePlaneModule', image.referencedImageId);
      const { SOPInstanceUID } = metaData.get('instance', image.referencedImageId);
      const voxels = [];
      image.voxelManager.getScalarData().forEach((value, at) => value > 0 && voxels.push(at));
      return [plane.imagePositionPatient[2], SOPInstanceUID, voxels.length, voxels.join()];
    });
    return [label, slices];
  });
}"""

# What a hand does: clicks, turns of the wheel, keys but for letters in a text and Alt and the like.
_HANDS = """() => {
  const note = kind => event => event.isTrusted && console.log('HAND', kind);
  addEventListener('pointerdown', note('click'), true);
  addEventListener('wheel', note('wheel'), true);
  addEventListener('keydown', event => {
    const isHeld = ['Alt', 'Control', 'Meta', 'Shift'].includes(event.key);
    const isLetter = event.key.length === 1 && !event.altKey && !event.ctrlKey;
    if (!event.repeat && !isHeld && !(isLetter && event.target.matches('textarea, [type=text]'))) {
      note('key')(event);
    }
  }, true);
}"""

_LUMINANCE = """(element, [property, pseudo]) => {
  const [r, g, b] = getComputedStyle(element, pseudo)[property].match(/[\\d.]+/g).map(Number)
    .map(value => value / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}"""


@dataclass(frozen=True)
class BoxPx:
    """A rectangle on the page, in CSS px."""

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, share: float) -> BoxPx:
        """Larger by ``share`` of its size on every side."""
        dx, dy = share * (self.right - self.left), share * (self.bottom - self.top)
        return BoxPx(self.left - dx, self.top - dy, self.right + dx, self.bottom + dy)


@dataclass
class Reader:
    """A person before the viewer; all that the page says is noted in ``console``."""

    page: Page
    server: str
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, page: Page, server: str) -> Reader:
        page.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        reader = cls(page, server)
        page.on("console", reader._hear)
        page.on("pageerror", lambda error: reader._note_fault(f"PAGE ERROR {error}"))
        page.on("request", lambda request: reader.requested.append(request.url))
        return reader

    def _hear(self, message: ConsoleMessage) -> None:
        self.console.append(message.text)
        # The start page asks another host for its fonts, which the policy stops.
        if message.type == "error" and "fonts.googleapis.com" not in message.text:
            self.errors.append(f"{message.text} ({message.location.get('url')})")

    def _note_fault(self, text: str) -> None:
        self.console.append(text)
        self.errors.append(text)

    # The viewer

    def choose_in_worklist(self, study_uid: str, patient: str, mode: str) -> None:
        self.open_from_worklist(study_uid, patient, mode)
        self.open_tab()

    def open_from_worklist(self, study_uid: str, patient: str, mode: str) -> None:
        self.page.goto(f"{self.server}/ohif/")
        self.choose_row(study_uid, patient, mode)

    def choose_row(self, study_uid: str, patient: str, mode: str) -> None:
        """In the worklist that is shown."""
        row = self.page.locator("tr").filter(has_text=patient).first
        row.click()
        self.page.locator(f'[data-cy="mode-{mode}-{study_uid}"]').click()
        self.page.wait_for_selector('[data-cy="viewport-pane"] canvas')

    def open_study(self, study_uid: str, mode: str) -> None:
        self.page.goto(f"{self.server}/ohif/{mode}?StudyInstanceUIDs={study_uid}")
        self.open_tab()

    def open_tab(self) -> None:
        self.page.wait_for_selector('[data-cy="viewport-pane"] canvas')
        self.page.locator('[data-cy="question-btn"]').click()
        self.question.wait_for()

    def open_basic_viewer(self, study_uid: str) -> None:
        """Stock OHIF without a tab of ours."""
        self.page.goto(f"{self.server}/ohif/viewer?StudyInstanceUIDs={study_uid}")
        self.page.wait_for_selector('[data-cy="viewport-pane"] canvas')

    def open_result(self, modality: str, description: str) -> None:
        """Open a series without pictures, by its description, in the viewport."""
        series = self.page.locator('[data-cy="study-browser-thumbnail-no-image"]')
        told = re.compile(rf"^{modality}\s*{re.escape(description)}")
        series.filter(has_text=told).first.dblclick()

    def rename_target(self, name: str, new_name: str) -> None:
        """As in the list of targets."""
        self.targets.filter(has_text=name).get_by_label("Rename").click()
        field = self.tab.get_by_label(f"Name of {name}")
        field.fill(new_name)
        field.press("Enter")

    def scroll_slices(self, steps: int) -> None:
        """Turn the wheel and wait until the viewer says that it shows that slice."""
        expect(self.pane).to_contain_text(_NUMBER_OF_SLICE)
        number, count = map(int, _NUMBER_OF_SLICE.search(self.pane.inner_text()).groups())
        self.pane.hover()
        for _ in range(abs(steps)):
            self.page.mouse.wheel(0, 100 if steps > 0 else -100)
        wanted = min(max(number + steps, 1), count)
        expect(self.pane).to_contain_text(f"({wanted}/{count})")

    @property
    def pane(self) -> Locator:
        return self.page.locator('[data-cy="viewport-pane"]').first

    @property
    def slice_text(self) -> str:
        """The viewer's own words on which slice is shown, e.g. ``(11/20)``."""
        text = self.pane.inner_text()
        return text[text.rindex("(") :] if "(" in text else ""

    # The tab

    @property
    def tab(self) -> Locator:
        return self.page.locator(".medreasoner")

    @property
    def question(self) -> Locator:
        return self.page.locator("#medreasoner-question")

    @property
    def reasoning(self) -> Locator:
        return self.tab.locator(".reasoning")

    @property
    def alert(self) -> Locator:
        return self.tab.locator("[role=alert]")

    @property
    def facts(self) -> Locator:
        return self.tab.get_by_label("About the answer")

    @property
    def decision(self) -> Locator:
        return self.tab.get_by_label("Decision")

    @property
    def targets(self) -> Locator:
        """The rows of the list of targets."""
        return self.tab.locator(".targets li")

    @property
    def history(self) -> Locator:
        return self.tab.locator(".history li button")

    def button(self, name: str) -> Locator:
        return self.tab.get_by_role("button", name=name, exact=True)

    def ask(self, question: str, *, through_volume: bool = False) -> None:
        """Type the question and press Enter; returns while the model works."""
        self.tab.get_by_label("Segment through the volume").set_checked(through_volume)
        self.question.fill(question)
        self.page.evaluate(_WATCH)
        self.question.press("Enter")

    def wait_for_answer(self) -> None:
        """Until the model has answered and the answer is recorded."""
        expect(self.button("Reject")).to_be_enabled()
        expect(self.alert).to_have_text("")

    def wait_until_edited(self) -> None:
        """The tab knows that the mask is no longer the model's."""
        expect(self.button("Submit mask as edited")).to_be_enabled()

    def wait_until_corrected(self) -> None:
        """A correction has been recorded."""
        expect(self.tab.locator(".status")).to_have_text("")
        expect(self.button("Ask (Enter)")).to_be_enabled()
        expect(self.alert).to_have_text("")

    def wait_until_not_loading(self) -> None:
        """The viewer covers no image with its word of loading."""
        expect(self.page.get_by_text("Loading...")).to_have_count(0)

    # What the page's policy stops

    def note_policy(self) -> None:
        """From the next page on, note what the content security policy stops."""
        self.page.add_init_script(
            """document.addEventListener('securitypolicyviolation', event =>
              console.log('POLICY', event.violatedDirective, event.blockedURI))"""
        )

    def stopped_by_policy(self) -> list[str]:
        """What was stopped besides the fonts that the start page asks another host for."""
        noted = [text for text in self.console if text.startswith("POLICY")]
        refused = [text for text in self.console if "EvalError" in text]
        return refused + [text for text in noted if "fonts.googleapis.com" not in text]

    # What it takes

    def count_by_hand(self) -> None:
        """From the next page on, note what a hand does."""
        self.page.add_init_script(f"({_HANDS})()")

    def done_by_hand(self) -> dict[str, int]:
        """How many clicks, keys and turns of the wheel there were; letters of texts are none."""
        return dict(Counter(text[5:] for text in self.console if text.startswith("HAND ")))

    # The viewer's own tools

    def paint(self, x: float, y: float) -> None:
        """A stroke of the viewer's brush that ends at (x, y), in px of the page."""
        self.page.locator('[data-cy="panelSegmentationWithTools-btn"]').click()
        self.page.locator('[data-cy="Brush"], [data-cy="Brush-btn"]').first.click()
        self.page.mouse.move(x - 30, y)
        self.page.mouse.down()
        self.page.mouse.move(x, y, steps=5)
        self.page.mouse.up()
        self.page.locator('[data-cy="question-btn"]').click()

    def voxels_on_screen(self) -> dict[str, int]:
        """How many voxels the viewer shows of each segmentation, by its label."""
        masks = self.page.evaluate(_MASKS)
        return {label: sum(count for _, _, count, _ in slices) for label, slices in masks}

    def masks_on_screen(self) -> dict[str, set[tuple[str, int]]]:
        """The voxels that the viewer shows of each segmentation, by its label.

        Each is the SOP Instance UID of its image, and its number in it, row by row.
        """
        masks = self.page.evaluate(_MASKS)
        return {
            label: {
                (uid, int(at))
                for _, uid, count, voxels in slices
                if count
                for at in voxels.split(",")
            }
            for label, slices in masks
        }

    def voxels_by_height(self) -> dict[float, int]:
        """How many voxels the viewer shows on each slice that has any, by its height in LPS mm."""
        ((_, slices),) = self.page.evaluate(_MASKS)
        return {round(height, 1): count for height, _, count, _ in slices if count}

    def wait_for_voxels(self, expected: dict[str, int]) -> None:
        """Until the viewer shows that many."""
        self._until(lambda: self.voxels_on_screen() == expected)

    def wait_for_segmentations(self, count: int) -> None:
        """Until the viewer has that many."""
        self._until(lambda: len(self.voxels_on_screen()) == count)

    def _until(self, holds: Callable[[], bool]) -> None:
        for _ in range(MOST_SHOTS):
            if holds():
                return
            self.page.wait_for_timeout(BETWEEN_SHOTS_MS)
        raise AssertionError(f"The viewer shows {self.voxels_on_screen()}.")

    # What is legible

    def luminance(self, element: Locator, style: str, pseudo: str = "") -> float:
        """WCAG 2.1's relative luminance of a colour of an element, or of a part of it."""
        return element.evaluate(_LUMINANCE, [style, pseudo])

    def is_uncovered(self, element: Locator) -> bool:
        """Whether a click on an element's middle, without scrolling, would hit it."""
        return element.evaluate(
            """element => { const { x, y, width, height } = element.getBoundingClientRect();
              const hit = document.elementFromPoint(x + width / 2, y + height / 2);
              return element.contains(hit); }"""
        )

    def seen_lengths(self) -> list[int]:
        """How long the reasoning was each time that it changed."""
        return self.page.evaluate("window.seenLengths")

    # What is drawn

    def drawn_box(self) -> BoxPx:
        """Read at once, since the overlay is drawn anew whenever the image is."""
        return BoxPx(*self._drawn("rect")[0])

    def drawn_points(self) -> list[tuple[float, float]]:
        return [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in self._drawn("circle")]

    def _drawn(self, shape: str) -> list[list[float]]:
        """Left, top, right and bottom of each such shape of the overlay; waits for one."""
        return self.page.wait_for_function(_SHAPES, arg=shape).json_value()

    def pixels(self) -> np.ndarray:
        """The page at rest as RGB (H, W, 3), one pixel for a CSS px, without box and points."""
        shot = self._screenshot()
        for _ in range(MOST_SHOTS):
            last, shot = shot, self._screenshot()
            if np.array_equal(last, shot):
                return shot
            self.page.wait_for_timeout(BETWEEN_SHOTS_MS)
        raise AssertionError(f"The page still changes after {MOST_SHOTS} pictures.")

    def _screenshot(self) -> np.ndarray:
        hide = "svg.medreasoner-overlay { visibility: hidden }"
        return np.array(Image.open(io.BytesIO(self.page.screenshot(style=hide))).convert("RGB"))

    def picture(self, name: str) -> None:
        """Keep what is seen, where MEDREASONER_SCREENSHOTS says."""
        folder = os.environ.get("MEDREASONER_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")
            (Path(folder) / f"{name}.txt").write_text("\n".join(self.console[-200:]))


def reddened(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where a page (H, W, 3) has turned towards red, the colour of the mask: bool (H, W)."""
    redness = [shot[..., 0].astype(int) - shot[..., 1] for shot in (before, after)]
    return redness[1] - redness[0] > _REDNESS_STEP


def share_within(marked: np.ndarray, box: BoxPx) -> float:
    """The share of a box's pixels that are marked."""
    return float(_cut(marked, box).mean())


def count_beyond(marked: np.ndarray, pane: BoxPx, box: BoxPx) -> int:
    """How many pixels of the pane are marked outside the box."""
    return int(_cut(marked, pane).sum() - _cut(marked, box).sum())


def _cut(marked: np.ndarray, box: BoxPx) -> np.ndarray:
    rows = slice(max(round(box.top), 0), round(box.bottom))
    return marked[rows, max(round(box.left), 0) : round(box.right)]
