# SPDX-License-Identifier: Apache-2.0
"""How much of a foreign file is read; checked on what its header says, before anything is held."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medreasoner_infer.errors import ImageTooLargeError, UnreadableImageError

_GIB = 1 << 30
_MIB = 1 << 20
# DEFLATE (RFC 1951) makes at most 258 bytes of two bits: see zlib's "maximum compression factor".
DEFLATE_RATIO = 1032


@dataclass(frozen=True)
class FileLimits:
    """What one image may hold.

    Attributes:
        voxel_bytes: of all its voxels as they are stored, uncompressed; a CT of 2,000 slices of
            512 x 512 takes 1 GiB.
        header_bytes: of everything that is not voxels.
        elements: data elements of a DICOM file, those within sequences counted too.
        frames: slices of one image.
        pixels: of one picture.
    """

    voxel_bytes: int = 4 * _GIB
    header_bytes: int = 64 * _MIB
    elements: int = 1_000_000
    frames: int = 20_000
    pixels: int = 178_956_970  # beyond which Pillow takes a picture for a decompression bomb


DEFAULT_LIMITS = FileLimits()


def require_size(shape: Sequence[int], voxel_bits: int, limits: FileLimits) -> int:
    """The bytes that voxels of a claimed shape take, checked.

    Args:
        shape: voxels along each axis, channels and frames included, as the header says.
        voxel_bits: bits of one value as it is stored.

    Raises:
        UnreadableImageError: an axis is empty or negative.
        ImageTooLargeError: more bytes than ``limits.voxel_bytes``.
    """
    if not shape or min(shape) < 1 or voxel_bits < 1:
        raise UnreadableImageError(
            f"The file's header names a grid of {_shown(shape)} voxels; expected at least one "
            "along each axis. Export the image again."
        )
    size = (math.prod(shape) * voxel_bits + 7) // 8
    if size > limits.voxel_bytes:
        raise ImageTooLargeError(
            f"The file's header names a grid of {_shown(shape)} voxels, which take "
            f"{size / _GIB:.3g} GiB; at most {limits.voxel_bytes / _GIB:.3g} GiB are read. Crop or "
            "resample the image."
        )
    return size


def require_present(size: int, available: int) -> None:
    """Check that a file can hold the bytes of its voxels.

    Args:
        size: bytes that the header claims.
        available: bytes that are there, or the most that they can be unpacked to.

    Raises:
        UnreadableImageError: there are fewer.
    """
    if size > available:
        raise UnreadableImageError(
            f"The file is damaged or cut short: its header claims {size} bytes of voxels, and at "
            f"most {available} are there. Export or copy it again."
        )


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(f"{length:.6g}" if length > 1 << 40 else str(length) for length in shape)
