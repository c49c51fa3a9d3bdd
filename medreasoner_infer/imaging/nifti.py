# SPDX-License-Identifier: Apache-2.0
"""Reading NIfTI files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.content import (
    compact,
    content_key,
    replace_non_finite,
    resolve_modality,
)
from medreasoner_infer.imaging.volume import Volume

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header, Nifti1Image

# NIfTI's world is RAS, ours is LPS: the first two axes change their sign.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MILLIMETRES_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_FORM_TOLERANCE_MM = 0.1


def load_nifti(path: Path, modality: str | None = None) -> Volume:
    """Read a .nii or .nii.gz file; the sform is preferred to the qform, and may hold shear.

    Raises:
        UnreadableImageError: damaged file, several time points, or unusable geometry.
    """
    import nibabel

    errors = (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        OSError,
        EOFError,
        ValueError,
        zlib.error,
    )
    try:
        image = nibabel.load(path)
        values = _read_values(image)
    except errors as error:
        raise UnreadableImageError(
            "The file is named as NIfTI but cannot be read as NIfTI: it is damaged or incomplete. "
            "Export or copy it again."
        ) from error
    values, value_warnings = replace_non_finite(compact(_three_dimensional(values)))
    code, guessed = resolve_modality(modality, values)
    return Volume(
        array=values,
        ijk_to_lps=_ijk_to_lps(image),
        modality=code,
        key=content_key([path]),
        source=path,
        modality_guessed=guessed,
        warnings=(*_geometry_warnings(image), *value_warnings),
    )


def _read_values(image: Nifti1Image) -> np.ndarray:
    stored = image.dataobj
    if image.get_data_dtype().fields:
        colour = np.asanyarray(stored)
        return np.stack([colour[channel] for channel in ("R", "G", "B")], axis=-1)
    if (stored.slope, stored.inter) == (1.0, 0.0):
        return np.asanyarray(stored)
    return image.get_fdata(dtype=np.float32, caching="unchanged")


def _three_dimensional(values: np.ndarray) -> np.ndarray:
    if values.ndim == 2:
        return values[..., np.newaxis]
    colour = values.dtype == np.uint8 and values.ndim in (4, 5) and values.shape[-1] == 3
    if colour and (values.ndim == 4 or values.shape[3] == 1):
        return values.reshape(*values.shape[:3], 3)
    if values.ndim > 3 and all(length == 1 for length in values.shape[3:]):
        return values.reshape(values.shape[:3])
    if values.ndim == 3:
        return values
    raise UnreadableImageError(
        f"The NIfTI file has shape {values.shape}: it holds several time points, echoes or "
        "directions. Give one 3-D image; with nibabel: img.slicer[..., 0]."
    )


def _ijk_to_lps(image: Nifti1Image) -> np.ndarray:
    unit = image.header.get_xyzt_units()[0]
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _MILLIMETRES_PER_UNIT.get(unit, 1.0)
    return RAS_TO_LPS @ affine


def _geometry_warnings(image: Nifti1Image) -> tuple[str, ...]:
    header: Nifti1Header = image.header
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    if not sform_code and not qform_code:
        return (
            "The NIfTI file does not say how the patient lies; left and right, front and back may "
            "be displayed the wrong way round.",
        )
    if sform is None or qform is None:
        return ()
    corner = np.array([*(length - 1 for length in (*image.shape, 1, 1)[:3]), 1.0])
    origin = np.array([0.0, 0.0, 0.0, 1.0])
    gap = max(np.linalg.norm((sform - qform) @ point) for point in (origin, corner))
    if gap <= _FORM_TOLERANCE_MM:
        return ()
    return (
        f"The NIfTI file holds two geometries that differ by up to {gap:.1f} mm; its sform is "
        "used. Another viewer may place the image differently.",
    )
