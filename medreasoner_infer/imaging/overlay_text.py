# SPDX-License-Identifier: Apache-2.0
"""Text beside the overlay: wrapping by the font's own metrics, and stacking of blocks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, get_font, get_font_names

LINE_SPACING = 1.42
_OWN_FAMILY = "DejaVu Sans"  # comes with matplotlib
# Families whose names begin so are used, where installed, for characters that the own one lacks.
_FALLBACK_FAMILIES = (
    "Noto Sans", "Source Han Sans", "WenQuanYi", "Droid Sans Fallback", "IPA", "Nanum", "FreeSans",
    "Arial Unicode", "Unifont",
)  # fmt: skip
LEFT_OUT = "[…]"
LEFT_OUT_NOTE = (
    f"{LEFT_OUT} stands for characters that no font of this machine draws; answer.json has the "
    "whole text. Fonts such as Noto Sans CJK (package fonts-noto-cjk) draw them."
)

# Width in px of a word, of a character or of a single space.
MeasureWidth = Callable[[str], float]


@dataclass(frozen=True)
class TextStyle:
    """Size in points, colour and weight of a text."""

    size_pt: float
    colour: str
    weight: str = "normal"

    def font(self) -> FontProperties:
        """The font of this style, with fallbacks for other scripts."""
        return FontProperties(family=_families(), size=self.size_pt, weight=self.weight)


@cache
def _families() -> list[str]:
    installed = sorted(get_font_names())
    return [_OWN_FAMILY, *(name for name in installed if name.startswith(_FALLBACK_FAMILIES))]


@cache
def _drawn_characters() -> frozenset[int]:
    """Code points that the fonts have between them."""
    files = [findfont(FontProperties(family=[family])) for family in _families()]
    return frozenset(code for file in files for code in get_font(file).get_charmap())


def drawable(text: str) -> str:
    """``text`` with :data:`LEFT_OUT` for each run of characters that would be drawn as boxes."""
    drawn = _drawn_characters()
    marked = "".join(c if c.isspace() or ord(c) in drawn else "\0" for c in text)
    return re.sub("\0+", LEFT_OUT, marked)


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


class TextMeasurer:
    """Measures words at a resolution, each once: shaping text is slow."""

    def __init__(self, dpi: float) -> None:
        self.dpi = dpi
        self._renderer = RendererAgg(1, 1, dpi)
        self._by_style: dict[TextStyle, MeasureWidth] = {}

    def line_height_px(self, style: TextStyle) -> float:
        """Distance between the tops of two lines."""
        return style.size_pt * self.dpi / 72 * LINE_SPACING

    def for_style(self, style: TextStyle) -> MeasureWidth:
        """A function that measures words in a style."""
        if style not in self._by_style:
            self._by_style[style] = self._measure(style)
        return self._by_style[style]

    def _measure(self, style: TextStyle) -> MeasureWidth:
        font = style.font()

        def ink_width(text: str) -> float:
            size_px = self._renderer.get_text_width_height_descent(text, font, ismath=False)
            return float(size_px[0])

        @cache
        def width(text: str) -> float:
            return ink_width("x x") - ink_width("xx") if text == " " else ink_width(text)

        return width


def lay_out(blocks: list[TextBlock], width_px: float, measurer: TextMeasurer) -> TextLayout:
    """Wrap and stack blocks in a column of the given width."""
    lines: list[PlacedLine] = []
    top = 0.0
    for block in blocks:
        top += block.gap_px if lines else 0.0
        for line in wrap(block.text, width_px, measurer.for_style(block.style)):
            lines.append(PlacedLine(line, block.style, top))
            top += measurer.line_height_px(block.style)
    return TextLayout(tuple(lines), top)


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
    lines: list[list[str]] = [[]]
    used = 0.0
    for word in paragraph.split():
        for part in _break_word(word, width_px, measure):
            needed = measure(part) + (measure(" ") if lines[-1] else 0.0)
            if lines[-1] and used + needed > width_px:
                lines.append([])
                used, needed = 0.0, measure(part)
            lines[-1].append(part)
            used += needed
    return [" ".join(line) for line in lines]


def _break_word(word: str, width_px: float, measure: MeasureWidth) -> list[str]:
    if measure(word) <= width_px:
        return [word]
    parts, used = [""], 0.0
    for character in word:
        used += measure(character)
        if parts[-1] and used > width_px:
            parts.append("")
            used = measure(character)
        parts[-1] += character
    return parts
