# SPDX-License-Identifier: Apache-2.0
"""Drawing of the overlay with matplotlib's object interface (Agg, no pyplot, no global state)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from medreasoner_infer.imaging.overlay_agreement import agreement_handles, draw_agreement
from medreasoner_infer.imaging.overlay_content import OverlayContent
from medreasoner_infer.imaging.overlay_text import (
    LEFT_OUT_NOTE,
    TextBlock,
    TextLayout,
    TextMeasurer,
    TextStyle,
    drawable,
    lay_out,
)
from medreasoner_infer.types import SliceImage

DPI = 100
MARGIN_PX = 36
GUTTER_PX = 40
_IMAGE_MAX_WH_PX = (820, 820)
_IMAGE_MIN_SIDE_PX = 120
_FOOTER_PX = 64
_LEGEND_COLUMNS = 4
_TEXT_WIDTHS_PX = (560, 760, 960)
# Beside a flat slice the text may be this tall before its column is widened.
_TEXT_MIN_HEIGHT_PX = 640

BACKGROUND = "#101418"
_TEXT = "#e9edf1"
_MUTED = "#9ba7b4"
_TARGET = "#2dd4bf"
_BOX = "#fbbf24"
_OUTSIDE = "#f87171"
_NOT_UNDERSTOOD = "#c4b5fd"

_HEADING = TextStyle(10, _MUTED, "bold")
QUESTION = TextStyle(15, _TEXT, "bold")
BODY = TextStyle(13, _TEXT)
_SMALL = TextStyle(11, _MUTED)
_STROKE = withStroke(linewidth=3, foreground="black")


def overlay_figure(content: OverlayContent) -> Figure:
    """The slice with its findings on the left, the text on the right."""
    figure = Figure(dpi=DPI, facecolor=BACKGROUND)
    FigureCanvasAgg(figure)
    image_width, image_height = _image_size_px(content.image)
    column_height = image_height + _FOOTER_PX
    text_width, layout = _fit_text(text_blocks(content), column_height)
    panel_width = max(image_width, _IMAGE_MAX_WH_PX[0] // 2)
    width = 2 * MARGIN_PX + panel_width + GUTTER_PX + text_width
    height = 2 * MARGIN_PX + max(column_height, layout.height_px)
    figure.set_size_inches(width / DPI, height / DPI)
    left = MARGIN_PX + (panel_width - image_width) / 2
    bottom = height - MARGIN_PX - image_height
    axes = figure.add_axes(
        (left / width, bottom / height, image_width / width, image_height / height)
    )
    draw_panel(axes, content)
    _draw_footer(figure, content, MARGIN_PX, bottom)
    draw_text(figure, layout, MARGIN_PX + panel_width + GUTTER_PX, height - MARGIN_PX)
    return figure


def draw_panel(axes: Axes, content: OverlayContent) -> None:
    """The slice with mask, prompts, letters of its edges and scale bar; fills the axes."""
    _draw_slice(axes, content)
    _draw_findings(axes, content)
    _draw_edge_letters(axes, content)
    _draw_scale_bar(axes, content)


def text_blocks(content: OverlayContent) -> list[TextBlock]:
    """The blocks of the text column, from top to bottom."""
    nothing_found = _BOX if content.understood else _NOT_UNDERSTOOD
    outcome = TextStyle(15, _TARGET if content.present else nothing_found, "bold")
    question, reasoning = drawable(content.question), drawable(content.reasoning)
    is_whole = (question, reasoning) == (content.question, content.reasoning)
    notes = content.warnings if is_whole else (*content.warnings, LEFT_OUT_NOTE)
    sections = (
        ("QUESTION", question, QUESTION),
        ("OUTCOME", content.outcome, outcome),
        ("READINGS", content.readings, BODY),
        ("REASONING", reasoning, BODY),
        ("NOTES", drawable("\n".join(f"• {note}" for note in notes)), _SMALL),
        ("MODELS", "\n".join(content.models), _SMALL),
    )
    blocks: list[TextBlock] = []
    for heading, text, style in sections:
        if text.strip():
            blocks += [TextBlock(heading, _HEADING, 26), TextBlock(text, style, 2)]
    if content.notice:
        blocks.append(TextBlock(content.notice, TextStyle(11, _BOX, "bold"), 26))
    return blocks


def scale_bar_mm(width_mm: float) -> float:
    """The longest of 1, 2, 5, 10, 20, 50, ... mm within a quarter of the display's width."""
    decade = 10.0 ** np.floor(np.log10(width_mm / 4))
    return float(max(step * decade for step in (1, 2, 5) if step * decade <= width_mm / 4))


def _image_size_px(image: SliceImage) -> tuple[int, int]:
    """Width and height on the figure, in the slice's true proportions.

    A slice thinner than the smallest side (a reformat of few slices) is stretched to it.
    """
    height, width = image.pixels.shape[:2]
    width_mm, height_mm = width * image.spacing_xy_mm[0], height * image.spacing_xy_mm[1]
    scale = min(_IMAGE_MAX_WH_PX[0] / width_mm, _IMAGE_MAX_WH_PX[1] / height_mm)
    return (
        max(_IMAGE_MIN_SIDE_PX, round(width_mm * scale)),
        max(_IMAGE_MIN_SIDE_PX, round(height_mm * scale)),
    )


def _fit_text(blocks: list[TextBlock], height_px: float) -> tuple[int, TextLayout]:
    """The narrowest column in which the text is about as tall as the image, else the widest."""
    measurer = TextMeasurer(DPI)
    for width in _TEXT_WIDTHS_PX:
        layout = lay_out(blocks, width, measurer)
        if layout.height_px <= max(height_px, _TEXT_MIN_HEIGHT_PX):
            break
    return width, layout


def _draw_slice(axes: Axes, content: OverlayContent) -> None:
    """The slice, so placed that the axes' data coordinates are slice px."""
    height, width = content.image.pixels.shape[:2]
    pixels = content.image.pixels
    axes.imshow(
        pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=2),
        extent=(0, width, height, 0),
        aspect="auto",
        interpolation="bicubic",
    )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_findings(axes: Axes, content: OverlayContent) -> None:
    if content.agreement is not None:
        draw_agreement(axes, content.agreement)
    if content.mask is not None and content.mask.any():
        # A margin of one pixel closes the contour where the mask touches the slice's edge.
        padded = np.pad(content.mask.astype(np.float32), 1)
        ys, xs = (np.arange(length) - 0.5 for length in padded.shape)
        if content.agreement is None:
            axes.contourf(xs, ys, padded, levels=[0.5, 1.5], colors=[_TARGET], alpha=0.25)
        axes.contour(xs, ys, padded, levels=[0.5], colors=[_TARGET], linewidths=1.8)
    if content.bbox_xyxy_px is not None:
        x1, y1, x2, y2 = content.bbox_xyxy_px
        box = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=_BOX, linewidth=1.8)
        axes.add_patch(box)
    for ends in content.diameters_px:
        axes.add_line(_diameter_line(*zip(*ends, strict=True)))
    labels = content.point_labels or (1,) * len(content.points_xy_px)
    for (x, y), label in zip(content.points_xy_px, labels, strict=True):
        axes.add_line(_point_marker(x, y, inside=bool(label), size=9))


def _diameter_line(xs: tuple[float, ...], ys: tuple[float, ...]) -> Line2D:
    line = Line2D(xs, ys, color=_TEXT, linewidth=1.6, marker="|", markersize=8)
    line.set_path_effects([_STROKE])
    return line


def _point_marker(x: float, y: float, *, inside: bool, size: float) -> Line2D:
    return Line2D(
        [x],
        [y],
        linestyle="none",
        marker="o" if inside else "X",
        markersize=size,
        markerfacecolor=_TARGET if inside else _OUTSIDE,
        markeredgecolor="black",
        markeredgewidth=1.4,
        clip_on=False,
    )


def _draw_edge_letters(axes: Axes, content: OverlayContent) -> None:
    if content.edge_letters is None:
        return
    left, right, top, bottom = content.edge_letters
    places = (
        (left, 0.012, 0.5, "left", "center"),
        (right, 0.988, 0.5, "right", "center"),
        (top, 0.5, 0.988, "center", "top"),
        (bottom, 0.5, 0.012, "center", "bottom"),
    )
    for letters, x, y, horizontal, vertical in places:
        axes.text(
            x, y, letters, transform=axes.transAxes, ha=horizontal, va=vertical,
            color=_TEXT, fontsize=16, fontweight="bold", path_effects=[_STROKE],
            parse_math=False,
        )  # fmt: skip


def _draw_scale_bar(axes: Axes, content: OverlayContent) -> None:
    if not content.scale_known:
        return
    width_px, height_px = _image_size_px(content.image)
    width_mm = content.image.pixels.shape[1] * content.image.spacing_xy_mm[0]
    length_mm = scale_bar_mm(width_mm)
    end, y = 1 - 28 / width_px, 22 / height_px
    start = end - length_mm / width_mm
    stroke = withStroke(linewidth=5, foreground="black")
    bar = Line2D([start, end], [y, y], transform=axes.transAxes, color=_TEXT, linewidth=3)
    bar.set(solid_capstyle="butt", path_effects=[stroke])
    axes.add_line(bar)
    axes.text(
        (start + end) / 2, y + 8 / height_px, f"{length_mm:g} mm", transform=axes.transAxes,
        ha="center", va="bottom", color=_TEXT, fontsize=11, path_effects=[_STROKE],
    )  # fmt: skip


def _draw_footer(figure: Figure, content: OverlayContent, left: float, top: float) -> None:
    """Caption and legend below the slice; ``left`` and ``top`` in px from the lower left."""
    width, height = figure.get_size_inches() * DPI
    figure.text(
        left / width, (top - 12) / height, content.caption, va="top", color=_TEXT,
        fontproperties=TextStyle(12, _TEXT).font(), parse_math=False,
    )  # fmt: skip
    handles = _legend_handles(content)
    if handles:
        figure.legend(
            handles=handles, loc="upper left", frameon=False,
            ncols=min(len(handles), _LEGEND_COLUMNS),
            bbox_to_anchor=(left / width, (top - 34) / height), borderpad=0, borderaxespad=0,
            labelcolor=_MUTED, fontsize=11, handlelength=1.4, columnspacing=1.6,
        )  # fmt: skip


def _legend_handles(content: OverlayContent) -> list[Line2D | Rectangle]:
    handles: list[Line2D | Rectangle] = []
    if content.mask is not None and content.mask.any():
        fill = (*(int(_TARGET[i : i + 2], 16) / 255 for i in (1, 3, 5)), 0.25)
        handles.append(Rectangle((0, 0), 1, 1, facecolor=fill, edgecolor=_TARGET, label="mask"))
    if content.bbox_xyxy_px is not None:
        handles.append(Rectangle((0, 0), 1, 1, fill=False, edgecolor=_BOX, label="box"))
    if content.diameters_px:
        handles.append(Line2D([], [], color=_TEXT, linewidth=1.6, label="diameters"))
    labels = content.point_labels or (1,) * len(content.points_xy_px)
    for inside, label in ((True, "key points"), (False, "points outside")):
        if int(inside) in labels:
            marker = _point_marker(0, 0, inside=inside, size=8)
            marker.set_label(label)
            handles.append(marker)
    if content.agreement is not None:
        handles += agreement_handles()
    return handles


def draw_text(figure: Figure, layout: TextLayout, left: float, top: float) -> None:
    """``left`` and ``top`` in px from the figure's lower left."""
    width, height = figure.get_size_inches() * DPI
    for line in layout.lines:
        figure.text(
            left / width, (top - line.top_px) / height, line.text, va="top",
            color=line.style.colour, fontproperties=line.style.font(), parse_math=False,
        )  # fmt: skip
