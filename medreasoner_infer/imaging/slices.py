# SPDX-License-Identifier: Apache-2.0
"""Slices out of a volume and slice masks back into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.mapping import SliceMapping, slice_count, slice_mapping
from medreasoner_infer.imaging.plane import Plane
from medreasoner_infer.imaging.volume import Volume
from medreasoner_infer.imaging.window import Window, apply_window
from medreasoner_infer.types import SliceImage


def slice_values(volume: Volume, mapping: SliceMapping) -> NDArray[Any]:
    """Modality values of the displayed slice, (H, W) or (H, W, 3): a read-only view."""
    return _slice_view(volume.array, mapping)


def slice_image(volume: Volume, mapping: SliceMapping, window: Window | None) -> SliceImage:
    """The displayed slice, 8 bit, in a window or (``None``) as it is stored."""
    pixels = apply_window(slice_values(volume, mapping), window, volume.inverted)
    key = "/".join(
        (
            volume.key,
            mapping.plane.value,
            str(mapping.index),
            "stored" if window is None else f"{window.center!r}:{window.width!r}",
            "inverted" if volume.inverted else "normal",
        )
    )
    return SliceImage(pixels, mapping.spacing_xy_mm, key)


def letterbox(image: SliceImage, mapping: SliceMapping) -> NDArray[np.uint8]:
    """The square that the reasoner reads: uint8 (S, S, 3), isotropic in mm, black padding.

    Pillow's bicubic filter widens with the reduction, so that a large slice is anti-aliased when
    it is scaled down. Every pixel lies where :meth:`SliceMapping.slice_px_to_reasoner_px` says.

    Raises:
        InputError: the image is not the slice that the mapping describes.
    """
    from PIL import Image

    _require_shape(image.pixels.shape[:2], mapping)
    content = Image.fromarray(np.ascontiguousarray(image.pixels)).convert("RGB")
    if content.size != mapping.reasoner_content_wh_px:
        content = content.resize(mapping.reasoner_content_wh_px, Image.Resampling.BICUBIC)
    square = Image.new("RGB", (mapping.model_size, mapping.model_size))
    square.paste(content, mapping.reasoner_padding_xy_px)
    return np.array(square)


def put_mask(
    mask_hw: NDArray[Any], mapping: SliceMapping, out_ijk: NDArray[np.uint8], *, label: int = 1
) -> None:
    """Write a slice mask into a volume mask, in place.

    Args:
        mask_hw: (H, W), non-zero inside the target, on the displayed slice's pixels.
        mapping: which slice it is.
        out_ijk: uint8 of shape (I, J, K); the slice is overwritten whole.
        label: value written inside the target.

    Raises:
        InputError: a shape does not fit the mapping.
    """
    put_values(np.where(mask_hw, label, 0), mapping, out_ijk)


def put_values(values_hw: NDArray[Any], mapping: SliceMapping, out_ijk: NDArray[np.uint8]) -> None:
    """Write the values (H, W) of one displayed slice into a volume (I, J, K), in place.

    Raises:
        InputError: a shape does not fit the mapping.
    """
    _require_shape(values_hw.shape, mapping)
    _require_grid(out_ijk, mapping)
    _slice_view(out_ijk, mapping)[...] = values_hw


def slice_of_mask(mask_ijk: NDArray[Any], mapping: SliceMapping) -> NDArray[np.bool_]:
    """The inverse of :func:`put_mask`: bool (H, W) on the displayed slice's pixels.

    Raises:
        InputError: the mask has another shape than the image.
    """
    _require_grid(mask_ijk, mapping)
    return np.ascontiguousarray(_slice_view(mask_ijk, mapping) != 0)


@dataclass(frozen=True, eq=False)
class SliceStack(Sequence[SliceImage]):
    """All slices of a plane, windowed one at a time when asked for (propagation in 3-D)."""

    volume: Volume
    plane: Plane
    window: Window | None

    def __len__(self) -> int:
        return slice_count(self.volume, self.plane)

    def __getitem__(self, index: int) -> SliceImage:  # type: ignore[override]
        """The slice at a voxel index along the cut axis, from 0; no negative indices.

        Raises:
            IndexError: there is no such slice.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"slice {index} of a stack with the slices 0 to {len(self) - 1}")
        return slice_image(self.volume, self.mapping(index), self.window)

    def mapping(self, index: int) -> SliceMapping:
        """The coordinate chain of one slice of the stack."""
        return slice_mapping(self.volume, self.plane, index)


def _slice_view(array_ijk: NDArray[Any], mapping: SliceMapping) -> NDArray[Any]:
    axes = mapping.axes
    order = (axes.cut_axis, axes.y_axis, axes.x_axis, *range(3, array_ijk.ndim))
    view: NDArray[Any] = array_ijk.transpose(order)[mapping.index]
    return view[:: -1 if axes.flip_y else 1, :: -1 if axes.flip_x else 1]


def _require_shape(shape_hw: tuple[int, ...], mapping: SliceMapping) -> None:
    if tuple(shape_hw) != mapping.shape_hw:
        raise InputError(
            f"The slice has shape {tuple(shape_hw)}; the mapping describes {mapping.shape_hw}."
        )


def _require_grid(mask_ijk: NDArray[Any], mapping: SliceMapping) -> None:
    if mask_ijk.shape != mapping.shape_ijk:
        raise InputError(
            f"The volume mask has shape {mask_ijk.shape}; the image has {mapping.shape_ijk}."
        )
