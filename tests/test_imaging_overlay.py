# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import OverlayContent, write_overlay
from medreasoner_infer.imaging.overlay_figure import overlay_figure, scale_bar_mm, text_blocks
from medreasoner_infer.imaging.overlay_text import wrap
from medreasoner_infer.types import SliceImage

LONG = " ".join(f"word{number}" for number in range(700))


def content(**changes: object) -> OverlayContent:
    image = SliceImage(np.full((40, 60), 90, np.uint8), (1.0, 2.0), "key")
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:20, 10:30] = True
    full = OverlayContent(
        image,
        mask=mask,
        bbox_xyxy_px=(10, 10, 30, 20),
        points_xy_px=((15, 15), (50, 30)),
        point_labels=(1, 0),
        edge_letters=("R", "L", "A", "P"),
        caption="axial · slice 3",
        question="Where is the organ that makes bile?",
        reasoning="It lies on the right.",
        outcome="Target found.",
        models=("Reasoner: nano",),
        notice="Not for clinical use.",
        warnings=("The slices are not quite evenly spaced.",),
    )
    return replace(full, **changes)


def shown_texts(overlay: OverlayContent) -> list[str]:
    figure = overlay_figure(overlay)
    return [text.get_text() for text in (*figure.texts, *figure.axes[0].texts)]


def test_everything_that_is_given_is_shown() -> None:
    shown = " ".join(shown_texts(content()))
    for part in ("QUESTION", "makes bile?", "OUTCOME", "Target found.", "REASONING", "right.",
                 "Reasoner: nano", "Not for clinical use.", "• The slices", "axial · slice 3",
                 "10 mm"):  # fmt: skip
        assert part in shown


def test_what_is_not_given_leaves_no_heading() -> None:
    shown = shown_texts(
        content(reasoning="", warnings=(), models=(), notice=None, edge_letters=None)
    )
    assert not {"REASONING", "NOTES", "MODELS", "R", "L", "A", "P"} & set(shown)


def test_no_scale_bar_without_a_scale() -> None:
    assert "10 mm" not in shown_texts(content(scale_known=False))


@pytest.mark.parametrize("text", [LONG, "x" * 1500, "a\nb\n\nc", "costs $5 and \\alpha_1 $"])
def test_no_word_of_the_reasoning_is_cut_off(text: str) -> None:
    overlay = content(reasoning=text)
    figure = overlay_figure(overlay)
    figure.canvas.draw()
    lines = [text for text in figure.texts if text.get_color() == "#e9edf1"]
    assert "".join(text.split()) in "".join("".join(line.get_text().split()) for line in lines)
    width, height = figure.get_size_inches() * figure.dpi
    for line in figure.texts:
        box = line.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height


def test_wrapping_breaks_between_words_and_within_words_too_long_for_a_line() -> None:
    assert wrap("one two three", 7, len) == ["one two", "three"]
    assert wrap("a abcdefgh b", 4, len) == ["a", "abcd", "efgh", "b"]
    assert wrap("first\nsecond line", 20, len) == ["first", "second line"]
    assert wrap("  ", 5, len) == []


@pytest.mark.parametrize(
    ("width_mm", "bar_mm"), [(300, 50), (400, 100), (399, 50), (80, 20), (8, 2), (2.4, 0.5)]
)
def test_the_scale_bar_is_round_and_at_most_a_quarter(width_mm: float, bar_mm: float) -> None:
    assert scale_bar_mm(width_mm) == pytest.approx(bar_mm)


def test_the_slice_is_drawn_in_its_true_proportions() -> None:
    figure = overlay_figure(content())
    box = figure.axes[0].get_position()
    width, height = figure.get_size_inches()
    assert box.width * width / (box.height * height) == pytest.approx(60 / 80, rel=0.01)


def test_the_png_shows_box_and_mask_at_their_place(tmp_path: Path) -> None:
    path = write_overlay(content(edge_letters=None, points_xy_px=(), point_labels=()),
                         tmp_path / "overlay.png")  # fmt: skip
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    figure = overlay_figure(content())
    box = figure.axes[0].get_position()
    height, width = pixels.shape[:2]

    def at(x_px: float, y_px: float) -> np.ndarray:
        column = (box.x0 + box.width * x_px / 60) * width
        row = (1 - box.y1 + box.height * y_px / 40) * height
        return pixels[round(row), round(column)]

    assert at(5, 5).tolist() == [90, 90, 90]
    inside = at(20, 15)
    assert inside[1] > inside[0] + 20  # tinted by the mask
    edge = at(10, 13)
    assert edge.max() > 150  # box and contour


def test_a_mask_that_touches_the_edge_and_an_empty_one_can_be_drawn(tmp_path: Path) -> None:
    for value in (True, False):
        write_overlay(content(mask=np.full((40, 60), value)), tmp_path / "overlay.png")
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.png"]


def test_colour_and_single_row_slices_can_be_drawn(tmp_path: Path) -> None:
    for pixels in (np.zeros((4, 6, 3), np.uint8), np.zeros((1, 300), np.uint8)):
        overlay = OverlayContent(SliceImage(pixels, (1, 1), "k"), outcome="Nothing.", present=False)
        assert write_overlay(overlay, tmp_path / "o.png").stat().st_size > 0


def test_what_was_not_understood_is_neither_green_nor_the_colour_of_not_present() -> None:
    def colour(**flags: bool) -> str:
        shown = OverlayContent(content().image, outcome="Said.", present=False, **flags)
        return next(block.style.colour for block in text_blocks(shown) if block.text == "Said.")

    assert colour() == "#fbbf24"
    assert colour(understood=False) == "#c4b5fd"


def test_drawing_leaves_pyplot_and_its_global_state_alone() -> None:
    code = (
        "import sys, numpy as np\n"
        "from medreasoner_infer.imaging import OverlayContent\n"
        "from medreasoner_infer.imaging.overlay_figure import overlay_figure\n"
        "from medreasoner_infer.types import SliceImage\n"
        "overlay_figure(OverlayContent(SliceImage(np.zeros((4, 4), np.uint8), (1, 1), 'k')))\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_content_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"mask has shape \(3, 3\), the slice \(40, 60\)"):
        content(mask=np.zeros((3, 3), bool))
    with pytest.raises(InputError, match="2 points came with 1 labels"):
        content(point_labels=(1,))


@pytest.mark.filterwarnings("error:Glyph")
@pytest.mark.parametrize("text", ["肝脏在哪里？", "أين الكبد؟", "где печень? 🙂", "plain"])
def test_no_character_is_drawn_as_a_box(text: str) -> None:
    """matplotlib warns of each character that its fonts lack, and draws a box."""
    overlay = content(question=text, reasoning=f"{text} liver", warnings=(text,))
    overlay_figure(overlay).canvas.draw()
    shown = " ".join(shown_texts(overlay))
    assert "liver" in shown
    assert ("[…]" in shown) == ("no font of this machine" in shown)
    assert text in shown or "[…]" in shown
