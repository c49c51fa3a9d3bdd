# SPDX-License-Identifier: Apache-2.0
"""Text beside the overlay: wrapping by the font's own metrics, and stacking of blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties, get_font_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_SPACING = 1.42
# Used, where installed, for characters that matplotlib's own font lacks.
_FALLBACK_FAMILIES = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "Noto Sans")

MeasureWidth = Callable[[str], float]


@dataclass(frozen=True)
class TextStyle:
    """Size in points, colour and weight of a text."""

    size_pt: float
    colour: str
    weight: str = "normal"

    def font(self) -> FontProperties:
        """The font of this style, with fallbacks for other scripts."""
        installed = set(get_font_names())
        families = ["DejaVu Sans", *(f for f in _FALLBACK_FAMILIES if f in installed)]
        return FontProperties(family=families, size=self.size_pt, weight=self.weight)


@dataclass(frozen=True)
class TextBlock:
    """A paragraph or heading; ``gap_px`` is the space above it."""

    text: str
    style: TextStyle
    gap_px: float = 0.0


@dataclass(frozen=True)
class PlacedLine:
    """A line of text and the distance of its top from the top of the text column, in px."""

    text: str
    style: TextStyle
    top_px: float


@dataclass(frozen=True)
class TextLayout:
    """All lines of a column, and its height in px."""

    lines: tuple[PlacedLine, ...]
    height_px: float


def lay_out(blocks: list[TextBlock], width_px: float, figure: Figure) -> TextLayout:
    """Wrap and stack blocks in a column of the given width."""
    lines: list[PlacedLine] = []
    top = 0.0
    for block in blocks:
        top += block.gap_px if lines else 0.0
        step = block.style.size_pt * figure.dpi / 72 * LINE_SPACING
        for line in wrap(block.text, width_px, width_of(block.style, figure)):
            lines.append(PlacedLine(line, block.style, top))
            top += step
    return TextLayout(tuple(lines), top)


def width_of(style: TextStyle, figure: Figure) -> MeasureWidth:
    """A function that measures the width in px of a line in a style."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    font = style.font()

    def measure(line: str) -> float:
        return renderer.get_text_width_height_descent(line, font, ismath=False)[0]

    return measure


def wrap(text: str, width_px: float, measure: MeasureWidth) -> list[str]:
    """Break a text into lines no wider than ``width_px``.

    Lines break between words and at the text's own line breaks; a word that is wider than the
    column is broken within. Only white space is lost.
    """
    lines: list[str] = []
    for paragraph in text.strip().splitlines():
        lines.extend(_wrap_paragraph(paragraph, width_px, measure))
    return lines


def _wrap_paragraph(paragraph: str, width_px: float, measure: MeasureWidth) -> list[str]:
    lines: list[str] = []
    line = ""
    for word in paragraph.split():
        candidate = f"{line} {word}" if line else word
        if measure(candidate) <= width_px:
            line = candidate
            continue
        if line:
            lines.append(line)
        *full, line = _break_word(word, width_px, measure)
        lines.extend(full)
    return [*lines, line]


def _break_word(word: str, width_px: float, measure: MeasureWidth) -> list[str]:
    parts = [""]
    for character in word:
        if parts[-1] and measure(parts[-1] + character) > width_px:
            parts.append("")
        parts[-1] += character
    return parts
