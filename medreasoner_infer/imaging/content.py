# SPDX-License-Identifier: Apache-2.0
"""What all readers share: identity of the content, compact values, a guess at the modality."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.volume import Volume
from medreasoner_infer.imaging.window import thinned
from medreasoner_infer.modalities import KNOWN_MODALITIES

# Air is about -1000 HU, and no CT image is without any; scanners pad with -2000 or -3024 HU.
_AIR_HU = (-4096, -500)
_LEAST_AIR_SHARE = 0.01
_LARGEST_BELIEVED_MM = 100.0
_MOST_ASPECT = 8.0
_ASPECT_ROUNDING = 0.01


def content_key(values: NDArray[Any], ijk_to_lps: NDArray[np.float64]) -> str:
    """Identity of an image for caches: a hash over its voxels, their type and where they lie.

    Args:
        values: (I, J, K) or (I, J, K, 3).
        ijk_to_lps: (4, 4) affine.
    """
    digest = hashlib.blake2b(f"{values.shape} {values.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(ijk_to_lps, dtype=np.float64).data)
    for k in range(values.shape[2]):
        digest.update(np.ascontiguousarray(values[:, :, k].T).data)
    return digest.hexdigest()


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


def pixel_sides(height: float, width: float) -> tuple[float, float]:
    """Height and width of a pixel of which the ratio alone is known, the width as 1.

    Ratios that no camera or scanner has, and such as differ from 1 by rounding, are taken for 1.
    """
    ratio = height / width if width > 0 else 1.0
    told = 1 / _MOST_ASPECT <= ratio <= _MOST_ASPECT and abs(ratio - 1) > _ASPECT_ROUNDING
    return ratio if told else 1.0, 1.0


def replace_non_finite(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Zeros in place of NaN and infinity, and a warning where there were any."""
    if values.dtype.kind != "f":
        return values, ()
    bad = ~np.isfinite(values)
    if not bad.any():
        return values, ()
    share = 100 * bad.mean()
    return np.where(bad, np.float32(0), values), (
        f"{share:.3g} % of the voxels hold no number; they are shown as 0.",
    )


def resolve_modality(
    modality: str | None, values: NDArray[Any]
) -> tuple[str, bool, tuple[str, ...]]:
    """The modality of a file that does not name one: the caller's, or a guess from the values.

    The guess is CT where a hundredth of the grey values are those of air in Hounsfield units, and
    "OT" (other) elsewhere. A few such values are no CT: interpolated MR overshoots.

    Returns:
        DICOM code, whether it was guessed, and a warning where the guess chooses the window.
    """
    if modality:
        return modality.strip().upper(), False, ()
    if values.ndim != 3 or values.dtype == np.uint8:
        return "OT", True, ()
    sample = thinned(values)
    air = (sample >= _AIR_HU[0]) & (sample <= _AIR_HU[1])
    if air.mean() < _LEAST_AIR_SHARE:
        return "OT", True, ()
    return (
        "CT",
        True,
        (
            "The file does not name its modality. It is taken for CT, as its values look like "
            "Hounsfield units; where that is wrong, name it (on the command line --modality, one "
            f"of {', '.join(KNOWN_MODALITIES)}).",
        ),
    )


def _size_warning(ijk_to_lps: NDArray[np.float64]) -> tuple[str, ...]:
    lengths = np.linalg.norm(ijk_to_lps[:3, :3], axis=0)
    if not lengths.max() > _LARGEST_BELIEVED_MM:
        return ()
    return (
        f"The file's voxels are {' x '.join(f'{length:.4g}' for length in lengths)} mm large. Its "
        "unit of length may be mistaken, and every size that is told with it.",
    )


def volume_of_files(
    source: Path,
    values: NDArray[np.number[Any]],
    ijk_to_lps: NDArray[np.float64],
    modality: str | None,
    warnings: Sequence[str],
    *,
    spacing_known: bool = True,
) -> Volume:
    """The volume of files of a format that names no modality.

    Args:
        source: the file that was asked for.
        values: (I, J, K) or (I, J, K, 3), of any type and maybe not finite.
        ijk_to_lps: (4, 4) affine.
        modality: as in :func:`resolve_modality`.
        warnings: of the reader.
        spacing_known: the affine is in real millimetres.

    Raises:
        UnreadableImageError: values that are no grey levels, or unusable geometry.
    """
    finite, value_warnings = replace_non_finite(compact(values))
    code, guessed, modality_warnings = resolve_modality(modality, finite)
    return Volume(
        array=finite,
        ijk_to_lps=ijk_to_lps,
        modality=code,
        key=content_key(finite, ijk_to_lps),
        source=source,
        spacing_known=spacing_known,
        modality_guessed=guessed,
        warnings=(*warnings, *_size_warning(ijk_to_lps), *value_warnings, *modality_warnings),
    )
