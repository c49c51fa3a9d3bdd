# SPDX-License-Identifier: Apache-2.0
"""Reading NIfTI files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.content import volume_of_files
from medreasoner_infer.imaging.inflating import inflate
from medreasoner_infer.imaging.limits import (
    DEFAULT_LIMITS,
    DEFLATE_RATIO,
    FileLimits,
    require_present,
    require_size,
)
from medreasoner_infer.imaging.places import open_file
from medreasoner_infer.imaging.volume import Volume

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

# NIfTI's world is RAS, ours is LPS: the first two axes change their sign.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MILLIMETRES_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_FORM_TOLERANCE_MM = 0.1
_GZIP_MARK = b"\x1f\x8b"
_HEADER_BYTES_OF_NIFTI_1, _HEADER_BYTES = 348, 540


def load_nifti(
    path: Path, modality: str | None = None, limits: FileLimits = DEFAULT_LIMITS
) -> Volume:
    """Read a .nii or .nii.gz file; the sform is preferred to the qform, and may hold shear.

    Header and voxels are taken from one stream, opened once; nibabel interprets the header and
    never opens a file by name. No more is unpacked than the header's grid takes.

    Raises:
        UnreadableImageError: damaged file, several time points, or unusable geometry.
        ImageTooLargeError: more voxels than ``limits``.
    """
    with open_file(path) as file:
        packed = file.read(2) == _GZIP_MARK
        file.seek(0)
        header = _header(file, packed)
        file.seek(0)
        stored = _stored_values(file, packed, header, limits)
    values = _three_dimensional(_scaled(stored, header))
    warnings = (*_geometry_warnings(header), *_unit_warnings(header))
    return volume_of_files([path], values, _ijk_to_lps(header), modality, warnings)


def _header(file: io.FileIO, packed: bool) -> Nifti1Header:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    head = bytes(inflate(file, _HEADER_BYTES) if packed else file.read(_HEADER_BYTES))
    if head[4:7] == b"n+2":
        return Nifti2Header(head[: Nifti2Header.template_dtype.itemsize])
    return Nifti1Header(head[: Nifti1Header.template_dtype.itemsize])


def _stored_values(
    file: io.FileIO, packed: bool, header: Nifti1Header, limits: FileLimits
) -> NDArray[Any]:
    """The voxels as they are in the file, on the header's grid."""
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    size = require_size(shape, 8 * dtype.itemsize, limits)
    offset = header.get_data_offset()
    if not _HEADER_BYTES_OF_NIFTI_1 <= offset <= limits.header_bytes:
        raise UnreadableImageError(
            f"The NIfTI file is damaged: its voxels are said to start at byte {offset}, at most "
            f"{limits.header_bytes} is expected. Export the image again."
        )
    length = os.fstat(file.fileno()).st_size
    require_present(offset + size, length * (DEFLATE_RATIO if packed else 1))
    whole = offset + size
    content = inflate(file, whole) if packed else io.BufferedReader(file).read(whole)
    require_present(offset + size, len(content))
    return np.ndarray(shape, dtype, content, offset, order="F")


def _scaled(stored: NDArray[Any], header: Nifti1Header) -> NDArray[Any]:
    from nibabel.volumeutils import apply_read_scaling

    if stored.dtype.fields:
        return np.stack([stored[channel] for channel in ("R", "G", "B")], axis=-1)
    slope, intercept = header.get_slope_inter()
    if slope is None or (slope, intercept) == (1.0, 0.0):
        return stored
    factors = (np.float32(slope), np.float32(intercept))
    return apply_read_scaling(stored, *factors).astype(np.float32, copy=False)


def _three_dimensional(values: NDArray[Any]) -> NDArray[Any]:
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


def _ijk_to_lps(header: Nifti1Header) -> NDArray[np.float64]:
    affine = np.array(header.get_best_affine(), dtype=np.float64)
    affine[:3] *= _MILLIMETRES_PER_UNIT.get(_length_unit(header) or "mm", 1.0)
    return RAS_TO_LPS @ affine


def _length_unit(header: Nifti1Header) -> str | None:
    """The unit of lengths, ``None`` where its code is none that the format knows."""
    try:
        length, _ = header.get_xyzt_units()
    except KeyError:
        return None
    return str(length)


def _unit_warnings(header: Nifti1Header) -> tuple[str, ...]:
    if _length_unit(header) is not None:
        return ()
    return (
        "The NIfTI file gives its lengths in a unit that the format does not know; they are taken "
        "for millimetres.",
    )


def _geometry_warnings(header: Nifti1Header) -> tuple[str, ...]:
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = _qform(header)
    if not sform_code and not qform_code:
        return (
            "The NIfTI file does not say how the patient lies; left and right, front and back may "
            "be displayed the wrong way round.",
        )
    if sform is None or qform is None:
        return ()
    shape = header.get_data_shape()
    corner = np.array([*(length - 1 for length in (*shape, 1, 1)[:3]), 1.0])
    origin = np.array([0.0, 0.0, 0.0, 1.0])
    gap = max(np.linalg.norm((sform - qform) @ point) for point in (origin, corner))
    if gap <= _FORM_TOLERANCE_MM:
        return ()
    return (
        f"The NIfTI file holds two geometries that differ by up to {gap:.1f} mm; its sform is "
        "used. Another viewer may place the image differently.",
    )


def _qform(header: Nifti1Header) -> tuple[NDArray[np.float64] | None, int]:
    """The qform and its code; none where its quaternion is no rotation."""
    from nibabel.spatialimages import HeaderDataError

    try:
        qform, code = header.get_qform(coded=True)
    except (HeaderDataError, ValueError):
        return None, 0
    return qform, int(code)
