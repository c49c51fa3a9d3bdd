# SPDX-License-Identifier: Apache-2.0
"""Writing masks on the image's own grid."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medreasoner_infer.atomic import replacing
from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.nifti import RAS_TO_LPS, straightened
from medreasoner_infer.imaging.volume import Volume

_NIFTI_SUFFIXES = (".nii.gz", ".nii")
_ITK_SUFFIXES = (".nrrd", ".mha")
_MASK_SUFFIXES = (*_NIFTI_SUFFIXES, *_ITK_SUFFIXES, ".png")
_SCANNER_CODE = 1


def write_mask(
    mask_ijk: NDArray[Any],
    volume: Volume,
    path: str | os.PathLike[str],
    *,
    dtype: DTypeLike = np.uint8,
    compress: bool = True,
) -> Path:
    """Write a mask on exactly the image's voxel grid; atomic.

    The suffix decides: ``.nii`` and ``.nii.gz`` (LPS becomes NIfTI's RAS), ``.nrrd`` and ``.mha``,
    or ``.png`` for one slice of an image without patient geometry (white inside). Of a sheared grid
    (tilted gantry) see :func:`write_nifti`; NRRD and MetaImage keep it for ITK-based programs too.

    Args:
        mask_ijk: (I, J, K), boolean or integers that ``dtype`` holds, on the image's grid.
        volume: the image.
        path: file to write; an existing one is replaced.
        dtype: type of the voxels in the file; a PNG has uint8 always.
        compress: whether NRRD and MetaImage are compressed; NIfTI's suffix says it of itself.

    Returns:
        The path written.

    Raises:
        InputError: the mask is not on the image's grid, ``dtype`` does not hold its values, or the
            suffix does not fit.
    """
    target = Path(path)
    _require_mask(mask_ijk, volume, _most(dtype))
    mask = mask_ijk.astype(dtype, copy=False)
    suffix = next((s for s in _MASK_SUFFIXES if target.name.lower().endswith(s)), None)
    if suffix is None:
        raise InputError(
            f"A mask cannot be written as {target.suffix or 'a file without suffix'!r}; expected "
            f"one of {', '.join(_MASK_SUFFIXES)}."
        )
    with replacing(target, suffix) as temporary:
        if suffix in _NIFTI_SUFFIXES:
            write_nifti(mask, volume.ijk_to_lps, temporary)
        elif suffix in _ITK_SUFFIXES:
            _write_itk(mask, volume, temporary, compress)
        else:
            _write_png(mask, volume, temporary)
    return target


def _most(dtype: DTypeLike) -> int:
    kind = np.dtype(dtype)
    return int(np.iinfo(kind).max) if kind.kind in "iu" else 255


def _require_mask(mask_ijk: NDArray[Any], volume: Volume, most: int) -> None:
    if mask_ijk.shape != volume.shape_ijk:
        raise InputError(
            f"The mask has shape {mask_ijk.shape}, the image {volume.shape_ijk}; expected a mask "
            "in index order (I, J, K) on the image's grid."
        )
    fits = mask_ijk.dtype in (np.bool_, np.uint8) or (
        mask_ijk.dtype.kind in "iu" and mask_ijk.min() >= 0 and mask_ijk.max() <= most
    )
    if not fits:
        raise InputError(
            f"The mask holds {mask_ijk.dtype} values from {mask_ijk.min()} to {mask_ijk.max()}; "
            f"expected booleans or integers from 0 to {most}."
        )


def write_nifti(values_ijk: NDArray[Any], ijk_to_lps: NDArray[np.float64], path: Path) -> None:
    """Write a NIfTI file that nibabel and ITK read; LPS becomes NIfTI's RAS.

    The sform holds the grid as it is. Programs based on ITK refuse one whose axes are not at right
    angles, as a tilted gantry makes it, and take the qform: the same slices stacked straight, with
    the middle of the volume at its place.

    Args:
        values_ijk: (I, J, K), of numbers or of RGB24.
        ijk_to_lps: (4, 4) affine.
        path: file to write.
    """
    import nibabel

    affine = RAS_TO_LPS @ ijk_to_lps
    image = nibabel.Nifti1Image(values_ijk, affine, dtype=values_ijk.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=_SCANNER_CODE)
    image.set_qform(straightened(affine, values_ijk.shape), code=_SCANNER_CODE)
    nibabel.save(image, path)


def _write_itk(mask: NDArray[Any], volume: Volume, path: Path, compress: bool) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(mask.transpose(2, 1, 0)))
    spacing = np.array(volume.spacing_ijk_mm)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((volume.ijk_to_lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(volume.ijk_to_lps[:3, 3].tolist())
    sitk.WriteImage(image, str(path), useCompression=compress)


def _write_png(mask: NDArray[Any], volume: Volume, path: Path) -> None:
    from PIL import Image

    if not volume.is_picture or mask.shape[2] != 1:
        raise InputError(
            f"A PNG holds one slice and no patient geometry, and this image has {mask.shape[2]} "
            "slice(s). Write the mask as .nii.gz."
        )
    Image.fromarray(np.where(mask[:, :, 0].T > 0, 255, 0).astype(np.uint8)).save(path)
