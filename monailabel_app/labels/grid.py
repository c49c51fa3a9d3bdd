# SPDX-License-Identifier: Apache-2.0
"""A submitted label on the grid of its image."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from medreasoner_infer.errors import InputError, UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.imaging.places import open_file


def require_on_image(label: Volume, volume: Volume) -> None:
    """Check that a label can be of an image, without putting it onto the image's grid.

    Raises:
        InputError: it is in colour, holds negative values or fractions, has another size than an
            image without patient geometry, or lies wholly beside the image in the patient.
    """
    if label.is_colour:
        raise UnreadableImageError("The label is a colour image; expected whole numbers per voxel.")
    if label.array.min() < 0:
        raise InputError("The label holds negative values; expected 0 outside, 1 and above inside.")
    if label.array.dtype.kind == "f" and (np.rint(label.array) != label.array).any():
        raise InputError(
            "The label holds fractions, as probabilities do, or a mask that was resampled by "
            "interpolation; expected whole numbers, 0 outside, 1 and above inside."
        )
    if volume.is_picture or label.is_picture:
        if label.shape_ijk != volume.shape_ijk:
            raise InputError(
                f"The label has {label.shape_ijk} voxels and the image {volume.shape_ijk}; submit "
                "one that was made on this image."
            )
    elif not _overlaps(label, volume):
        raise InputError(
            "The label lies wholly beside the image; submit one that was made on this image."
        )


def _overlaps(label: Volume, volume: Volume) -> bool:
    """Whether the label's box, in the image's IJK, meets the image's (voxel centres, half out)."""
    edges = np.array([(-0.5, size - 0.5) for size in label.shape_ijk])
    corners = np.array(np.meshgrid(*edges)).reshape(3, -1)
    corners_lps = label.ijk_to_lps[:3, :3] @ corners + label.ijk_to_lps[:3, 3:]
    to_ijk = np.linalg.inv(volume.ijk_to_lps)
    corners_ijk = to_ijk[:3, :3] @ corners_lps + to_ijk[:3, 3:]
    upper = np.array(volume.shape_ijk) - 0.5
    return bool((corners_ijk.max(axis=1) > -0.5).all() and (corners_ijk.min(axis=1) < upper).all())


def label_on_grid(label: Volume, volume: Volume) -> np.ndarray | None:
    """Label values (I, J, K) on the image's grid, int32, nearest neighbour in the patient's space.

    A segmentation read back from a PACS has only its non-empty slices, so its grid may differ.
    ``None`` where an image without patient geometry has a label of another size.
    """
    from scipy import ndimage

    if label.is_colour:
        raise UnreadableImageError("The label is a colour image; expected whole numbers per voxel.")
    values = np.rint(label.array).astype(np.int32)
    same_shape = label.shape_ijk == volume.shape_ijk
    if volume.is_picture or label.is_picture:
        return values if same_shape else None
    if same_shape and np.allclose(label.ijk_to_lps, volume.ijk_to_lps, atol=1e-2):
        return values
    to_label = np.linalg.inv(label.ijk_to_lps) @ volume.ijk_to_lps
    return ndimage.affine_transform(
        values, to_label, output_shape=volume.shape_ijk, order=0, mode="constant", cval=0
    )


def label_of_voxels(content_path: Path, volume: Volume) -> np.ndarray:
    """A label sent as bare uint8 voxels, on the grid of its image.

    OHIF sends these: one byte per voxel, I fastest, no header.

    Returns:
        uint8 (I, J, K), to be written with :func:`~medreasoner_infer.imaging.write_mask`.

    Raises:
        InputError: the file's length is not the image's number of voxels.
        UnreadableImageError: it cannot be opened.
    """
    expected = math.prod(volume.shape_ijk)
    with open_file(content_path) as file:
        length = os.fstat(file.fileno()).st_size
        if length != expected:
            raise InputError(
                f"The label has {length} bytes and no header; expected one byte for each of the "
                f"image's {volume.shape_ijk} voxels, {expected} in all. Send it again, or as NIfTI."
            )
        voxels = np.fromfile(file, np.uint8, expected)
    return voxels.reshape(volume.shape_ijk, order="F")


def is_empty_label(label_file: Path) -> bool:
    """Whether a label holds nothing but zeros.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    return not load_volume(label_file).array.any()
