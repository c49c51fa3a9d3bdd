# SPDX-License-Identifier: Apache-2.0
"""Palette colours of DICOM images (PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_COLOURS = ("Red", "Green", "Blue")
_MOST_8_BIT = 255


def palette_colours(frames: NDArray[Any], dataset: Dataset) -> NDArray[np.uint8]:
    """The colours of palette indices, (..., 3).

    Indices before the first entry get its colour, those behind the last one that one's. Entries
    are 8 bits wide where none is beyond 255, whatever the descriptor says.
    """
    if "RedPaletteColorLookupTableData" in dataset:
        rgb = np.stack([_looked_up(frames, dataset, colour) for colour in _COLOURS], axis=-1)
    else:
        from pydicom.pixel_data_handlers import apply_color_lut

        rgb = apply_color_lut(frames, dataset)[..., :3]
    wide = rgb.dtype != np.uint8 and rgb.max() > _MOST_8_BIT
    return np.asarray(rgb >> 8 if wide else rgb, dtype=np.uint8)


def _looked_up(frames: NDArray[Any], dataset: Dataset, colour: str) -> NDArray[Any]:
    count, first, _ = dataset[f"{colour}PaletteColorLookupTableDescriptor"].value
    count = int(count) % (1 << 16) or 1 << 16
    entries = _entries(dataset, f"{colour}PaletteColorLookupTableData", count)
    return entries[np.clip(frames.astype(np.int64) - int(first), 0, count - 1)]


def _entries(dataset: Dataset, keyword: str, count: int) -> NDArray[Any]:
    """The entries: words of the file's byte order, of which each may hold two."""
    data = dataset[keyword].value
    words = np.frombuffer(data[: len(data) // 2 * 2], _word(dataset)).astype("<u2")
    packed = len(words) < count
    return (words.view("u1") if packed else words)[:count]


def _word(dataset: Dataset) -> str:
    return "<u2" if dataset.is_little_endian else ">u2"
