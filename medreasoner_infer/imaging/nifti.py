# SPDX-License-Identifier: Apache-2.0
"""Reading NIfTI files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
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
from medreasoner_infer.imaging.volume import Volume, is_invertible

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

# NIfTI's world is RAS, ours is LPS: the first two axes change their sign.
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MILLIMETRES_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_FORM_TOLERANCE_MM = 0.1
_NO_SFORM = (
    "The sform of the NIfTI file is no geometry (its rows are zero or alike); its qform is used."
)
# nifti1.h: CIFTI's own intents are those of "connectivity", and three values of one voxel a colour.
_CIFTI_INTENTS = range(3000, 3100)
_RGB_VECTOR = 2003
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
    _require_volume(header)
    values = _three_dimensional(_scaled(stored, header), header)
    affine, warnings = _geometry(header)
    return volume_of_files(path, values, affine, modality, (*warnings, *_unit_warnings(header)))


def _require_volume(header: Nifti1Header) -> None:
    if int(header["intent_code"]) in _CIFTI_INTENTS:
        raise UnreadableImageError(
            "This is a CIFTI file: values on the brain's surface, not an image. Give the volume as "
            "NIfTI."
        )


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


def _three_dimensional(values: NDArray[Any], header: Nifti1Header) -> NDArray[Any]:
    """(I, J, K), or (I, J, K, 3) where the header says that the last axis holds colours."""
    told = header.get_data_dtype().fields or int(header["intent_code"]) == _RGB_VECTOR
    is_colour = bool(told) and values.dtype == np.uint8 and values.shape[-1] == 3
    grid = values.shape[:-1] if is_colour else values.shape
    if all(length == 1 for length in grid[3:]):
        grid_ijk = (*grid, 1)[:3]
        return values.reshape(*grid_ijk, 3) if is_colour else values.reshape(grid_ijk)
    raise UnreadableImageError(
        f"The NIfTI file has shape {values.shape}: it holds several time points, echoes or "
        "directions. Give one 3-D image; with nibabel: img.slicer[..., 0]."
    )


def _geometry(header: Nifti1Header) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Voxel index to LPS in millimetres, and warnings.

    The sform is taken, the qform where there is none or it is no geometry, else the voxel sizes.
    """
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = _qform(header)
    sform = sform if sform_code else None
    qform = qform if qform_code else None
    if sform is not None and qform is not None and not is_invertible(sform):
        return _in_lps(qform, header), (_NO_SFORM,)
    warnings = _form_warnings(sform, qform, header.get_data_shape())
    best = next((form for form in (sform, qform) if form is not None), header.get_base_affine())
    return _in_lps(best, header), warnings


def _in_lps(affine: NDArray[np.float64], header: Nifti1Header) -> NDArray[np.float64]:
    scaled = np.array(affine, dtype=np.float64)
    scaled[:3] *= _MILLIMETRES_PER_UNIT.get(_length_unit(header) or "mm", 1.0)
    return RAS_TO_LPS @ scaled


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


def straightened(affine: NDArray[np.float64], shape_ijk: Sequence[int]) -> NDArray[np.float64]:
    """The same grid with axes at right angles, which a qform can hold.

    I stays, J stays in its plane with I, K becomes their normal; the middle stays where it is.
    """
    axes, upper = np.linalg.qr(affine[:3, :3])
    straight = affine.copy()
    straight[:3, :3] = axes * np.diag(upper)
    middle = np.array([*((length - 1) / 2 for length in (*shape_ijk, 1, 1)[:3]), 1.0])
    straight[:3, 3] += ((affine - straight) @ middle)[:3]
    return straight


def _form_warnings(
    sform: NDArray[np.float64] | None, qform: NDArray[np.float64] | None, shape: tuple[int, ...]
) -> tuple[str, ...]:
    if sform is None and qform is None:
        return (
            "The NIfTI file does not say how the patient lies; left and right, front and back may "
            "be displayed the wrong way round.",
        )
    if sform is None or qform is None:
        return ()
    gap = _gap_mm(sform, qform, shape)
    if min(gap, _gap_mm(straightened(sform, shape), qform, shape)) <= _FORM_TOLERANCE_MM:
        return ()
    return (
        f"The NIfTI file holds two geometries that differ by up to {gap:.1f} mm; its sform is "
        "used. Another viewer may place the image differently.",
    )


def _gap_mm(sform: NDArray[np.float64], qform: NDArray[np.float64], shape: Sequence[int]) -> float:
    """How far apart two forms place the first voxel or the last one."""
    corner = np.array([*(length - 1 for length in (*shape, 1, 1)[:3]), 1.0])
    origin = np.array([0.0, 0.0, 0.0, 1.0])
    return float(max(np.linalg.norm((sform - qform) @ point) for point in (origin, corner)))


def _qform(header: Nifti1Header) -> tuple[NDArray[np.float64] | None, int]:
    """The qform and its code; none where its quaternion is no rotation."""
    from nibabel.spatialimages import HeaderDataError

    try:
        qform, code = header.get_qform(coded=True)
    except (HeaderDataError, ValueError):
        return None, 0
    return qform, int(code)
