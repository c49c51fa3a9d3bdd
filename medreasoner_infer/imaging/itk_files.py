# SPDX-License-Identifier: Apache-2.0
"""Reading NRRD and MetaImage files through SimpleITK."""

from __future__ import annotations

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
    import SimpleITK

DETACHED_HEADERS = (".mhd", ".nhdr")


def load_itk(path: Path, modality: str | None = None) -> Volume:
    """Read a .nrrd, .nhdr, .mha or .mhd file; sheared directions are kept.

    Raises:
        UnreadableImageError: damaged file, several time points, or unusable geometry.
    """
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UnreadableImageError(
            f"The {path.suffix} file cannot be read: it is damaged, or the file with its pixels "
            "is missing beside it. Export or copy it again."
        ) from error
    values, value_warnings = replace_non_finite(compact(_index_order(image)))
    code, guessed = resolve_modality(modality, values)
    return Volume(
        array=values,
        ijk_to_lps=_ijk_to_lps(image),
        modality=code,
        key=content_key(_files_of(path)),
        source=path,
        modality_guessed=guessed,
        warnings=(*_orientation_warnings(path, image), *value_warnings),
    )


def _index_order(image: SimpleITK.Image) -> np.ndarray:
    import SimpleITK as sitk

    components = image.GetNumberOfComponentsPerPixel()
    values = sitk.GetArrayFromImage(image)
    channels = values.ndim - image.GetDimension()
    values = values.transpose(*range(image.GetDimension())[::-1], *range(-channels, 0))
    if image.GetDimension() == 2:
        values = np.expand_dims(values, 2)
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        values = values[:, :, :, 0]
    grey = components == 1 and values.ndim == 3
    colour = components == 3 and values.ndim == 4 and values.dtype == np.uint8
    if grey or colour:
        return values
    raise UnreadableImageError(
        f"The file holds {components} value(s) per voxel on a grid of {image.GetSize()}; expected "
        "one grey 3-D image or 8-bit RGB. Export a single time point or channel."
    )


def _ijk_to_lps(image: SimpleITK.Image) -> np.ndarray:
    dimension = image.GetDimension()
    kept = min(dimension, 3)
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:kept, :kept]
    affine = np.eye(4)
    affine[:kept, :kept] = direction * np.array(image.GetSpacing()[:kept])
    affine[:kept, 3] = image.GetOrigin()[:kept]
    return affine


def _files_of(path: Path) -> list[Path]:
    if path.suffix.lower() not in DETACHED_HEADERS:
        return [path]
    return sorted(path.parent.glob(f"{path.stem}.*"))


def _orientation_warnings(path: Path, image: SimpleITK.Image) -> tuple[str, ...]:
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    if not is_nrrd or image.HasMetaDataKey("NRRD_space"):
        return ()
    return (
        "The NRRD file does not say how the patient lies; left and right, front and back may be "
        "displayed the wrong way round.",
    )
