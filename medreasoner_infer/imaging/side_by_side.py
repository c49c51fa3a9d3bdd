# SPDX-License-Identifier: Apache-2.0
"""Two slices beside each other on one scale, e.g. of a prior and of a current examination."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.atomic import replacing
from medreasoner_infer.imaging.overlay_content import OverlayContent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL_MAX_WH_PX = (640, 640)
_TITLE_PX = 34


@dataclass(frozen=True, eq=False)
class SideBySide:
    """What the picture shows.

    Attributes:
        left: a slice with its findings.
        right: another one.
        titles: above each, e.g. with the date.
        heading: the sentence below both.
        lines: what follows it, one sentence each.
    """

    left: OverlayContent
    right: OverlayContent
    titles: tuple[str, str]
    heading: str
    lines: tuple[str, ...] = ()


def write_side_by_side(content: SideBySide, path: str | os.PathLike[str]) -> Path:
    """Draw both, a millimetre equally long in each; atomic PNG.

    Returns:
        The path written.
    """
    target = Path(path)
    figure = side_by_side_figure(content)
    with replacing(target, ".png") as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor())
    return target


def side_by_side_figure(content: SideBySide) -> Figure:
    """Both slices, their titles, and the text below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from medreasoner_infer.imaging import overlay_figure as style
    from medreasoner_infer.imaging.overlay_text import TextBlock, TextMeasurer, drawable, lay_out

    panels = (content.left, content.right)
    sizes = _sizes_px(panels)
    margin, gutter = style.MARGIN_PX, style.GUTTER_PX
    width = 2 * margin + gutter + sum(size[0] for size in sizes)
    blocks = [
        TextBlock(drawable(content.heading), style.QUESTION),
        *(TextBlock(drawable(line), style.BODY, 8) for line in content.lines),
    ]
    layout = lay_out(blocks, width - 2 * margin, TextMeasurer(style.DPI))
    tallest = max(size[1] for size in sizes)
    height = 3 * margin + _TITLE_PX + tallest + layout.height_px
    figure = Figure(dpi=style.DPI, facecolor=style.BACKGROUND)
    FigureCanvasAgg(figure)
    figure.set_size_inches(width / style.DPI, height / style.DPI)
    top, left = height - margin, float(margin)
    for panel, title, (wide, tall) in zip(panels, content.titles, sizes, strict=True):
        heading = lay_out([TextBlock(title, style.BODY)], wide, TextMeasurer(style.DPI))
        style.draw_text(figure, heading, left, top)
        bottom = top - _TITLE_PX - tall
        place = (left / width, bottom / height, wide / width, tall / height)
        style.draw_panel(figure.add_axes(place), panel)
        left += wide + gutter
    style.draw_text(figure, layout, margin, top - _TITLE_PX - tallest - margin)
    return figure


def _sizes_px(panels: tuple[OverlayContent, ...]) -> list[tuple[int, int]]:
    """Width and height of each, by one number of px a millimetre."""
    sizes_mm = []
    for panel in panels:
        rows, columns = panel.image.pixels.shape[:2]
        x_mm, y_mm = panel.image.spacing_xy_mm
        sizes_mm.append((columns * x_mm, rows * y_mm))
    scale = min(
        most / max(size[axis] for size in sizes_mm) for axis, most in enumerate(_PANEL_MAX_WH_PX)
    )
    return [(max(1, round(wide * scale)), max(1, round(tall * scale))) for wide, tall in sizes_mm]
