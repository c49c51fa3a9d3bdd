# SPDX-License-Identifier: Apache-2.0
"""What all readers share: identity of the content, compact values, a guess at the modality."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.volume import Volume

# Air is about -1000 HU; MR, ultrasound and radiographs have no values this far below zero.
CT_LOWER_HU = -500


def content_key(paths: Iterable[Path]) -> str:
    """Identity of files for caches: a hash over their full names, sizes and modification times.

    It changes when a file is replaced and costs no reading of pixels.
    """
    digest = hashlib.sha256()
    for path in sorted(path.resolve() for path in paths):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """The same values in the smallest of uint8 (kept only), int16, int32 and float32.

    Raises:
        UnreadableImageError: complex values, or integers beyond 32 bits.
    """
    if values.dtype in (np.uint8, np.int16, np.float32):
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        for dtype in (np.int16, np.int32):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return values.astype(dtype)
    raise UnreadableImageError(
        f"The image's values are of type {values.dtype}, which is not a grey-level image. Export "
        "it as 16-bit integers or as 32-bit reals."
    )


def replace_non_finite(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Zeros in place of NaN and infinity, and a warning where there were any."""
    if values.dtype.kind != "f":
        return values, ()
    bad = ~np.isfinite(values)
    if not bad.any():
        return values, ()
    share = 100 * bad.mean()
    return np.where(bad, np.float32(0), values), (
        f"{share:.2g} % of the voxels hold no number; they are shown as 0.",
    )


def resolve_modality(modality: str | None, values: NDArray[Any]) -> tuple[str, bool]:
    """The modality of a file that does not name one: the caller's, or a guess from the values.

    The guess is CT where grey values fall to -500 or below, as only Hounsfield units do, and "OT"
    (other) elsewhere.

    Returns:
        DICOM code, and whether it was guessed.
    """
    if modality:
        return modality.strip().upper(), False
    looks_like_hu = values.ndim == 3 and values.dtype.kind in "if" and values.min() <= CT_LOWER_HU
    return ("CT" if looks_like_hu else "OT"), True


def volume_of_files(
    files: Sequence[Path],
    values: NDArray[np.number[Any]],
    ijk_to_lps: NDArray[np.float64],
    modality: str | None,
    warnings: Sequence[str],
) -> Volume:
    """The volume of files of a format that names no modality.

    Args:
        files: all that were read, that which was asked for first.
        values: (I, J, K) or (I, J, K, 3), of any type and maybe not finite.
        ijk_to_lps: (4, 4) affine.
        modality: as in :func:`resolve_modality`.
        warnings: of the reader.

    Raises:
        UnreadableImageError: values that are no grey levels, or unusable geometry.
    """
    finite, value_warnings = replace_non_finite(compact(values))
    code, guessed = resolve_modality(modality, finite)
    return Volume(
        array=finite,
        ijk_to_lps=ijk_to_lps,
        modality=code,
        key=content_key(files),
        source=files[0],
        modality_guessed=guessed,
        warnings=(*warnings, *value_warnings),
    )
