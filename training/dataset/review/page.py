# SPDX-License-Identifier: Apache-2.0
"""``review.html``: a page that needs neither a server nor the network, to decide row by row."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_training import pages
from medreasoner_training.dataset.opening import open_case
from medreasoner_training.dataset.review.table import COLUMNS, DANGEROUS, GUARD
from medreasoner_training.evaluation import EvaluationRow
from medreasoner_training.evaluation.pictures import Case

PAGE_TEMPLATE = "page.html"
_JPEG_QUALITY = 90


def write_review_page(
    name: str,
    rows: Iterable[EvaluationRow],
    path: Path,
    on_row: Callable[[int], None] | None = None,
) -> int:
    """Write the page, whole or not at all; returns its rows.

    The page holds every picture, so give it a few hundred rows at a time.

    Args:
        name: of the data set.
        rows: with their pictures.
        path: of the page.
        on_row: called with the rows done.

    Raises:
        EvaluationDataError: a row cannot be read.
        MissingExtraError: Jinja is not installed.
    """
    images: dict[str, str] = {}
    cards: list[dict[str, Any]] = []
    for row in rows:
        cards.append(_card(row, open_case(row), images))
        if on_row is not None:
            on_row(len(cards))
    places = {key: number for number, key in enumerate(images)}
    data = {
        "cards": [{**card, "image": places[card["image"]]} for card in cards],
        "images": list(images.values()),
        "columns": COLUMNS,
        "dangerous": (*DANGEROUS, GUARD),
        "guard": GUARD,
    }
    ids = hashlib.sha256("\0".join(card["id"] for card in cards).encode()).hexdigest()[:16]
    values = {"name": name, "data": data, "key": ids}
    pages.write_page(__package__, PAGE_TEMPLATE, path, values)
    return len(cards)


def outline_path(mask: NDArray[np.bool_]) -> str:
    """The edges between a mask's pixels and the others as an SVG path, in pixels of the mask."""
    padded = np.pad(mask, 1).astype(np.int8)
    across = np.diff(padded, axis=0)[:, 1:-1] != 0
    down = np.diff(padded, axis=1)[1:-1].T != 0
    level = [f"M{x} {y}h{n}" for y, x, n in _runs(across)]
    upright = [f"M{x} {y}v{n}" for x, y, n in _runs(down)]
    return "".join((*level, *upright))


def _runs(edges: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Line, start and length of each run of true values along the rows."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lines, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    return [
        (int(line), int(start), int(end - start))
        for line, start, end in zip(lines, starts, ends, strict=True)
    ]


def _card(row: EvaluationRow, case: Case, images: dict[str, str]) -> dict[str, Any]:
    height, width = case.shown.mapping.shape_hw
    pixels = np.ascontiguousarray(case.shown.image.pixels)
    key = hashlib.sha256(pixels.tobytes()).hexdigest()
    if key not in images:
        images[key] = _jpeg(pixels)
    truth = case.truth
    return {
        "id": row.id,
        "question": row.question,
        "reasoning": row.reasoning,
        "category": row.category,
        "modality": row.modality,
        "kind": row.kind,
        "language": row.language,
        "split": row.split,
        "licence": row.licence,
        "target": "absent" if truth is None else "present",
        "image": key,
        "size": [width, height],
        "outline": "" if case.mask is None else outline_path(case.mask),
        "box": None if truth is None else truth.bbox_xyxy_px,
        "points": [] if truth is None else truth.points_xy_px,
    }


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(stream.getvalue()).decode("ascii")
