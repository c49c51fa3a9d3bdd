# SPDX-License-Identifier: Apache-2.0
"""A submitted label on the grid of its image."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume


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
