# SPDX-License-Identifier: Apache-2.0
"""Loading an image of any supported format: the only place where foreign files are opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.formats import (
    DETACHED_HEADERS,
    EXPECTED,
    NOT_SUPPORTED,
    ImageFormat,
    format_of,
)
from medreasoner_infer.imaging.limits import DEFAULT_LIMITS, FileLimits
from medreasoner_infer.imaging.volume import Volume

_DAMAGED = "it is damaged or incomplete. Export or copy it again."


@dataclass(frozen=True)
class _Family:
    """Formats that one reader reads, the names they go by, and what is said when it cannot."""

    formats: tuple[ImageFormat, ...]
    suffixes: tuple[str, ...]
    refusal: str


_NIFTI = _Family(
    (ImageFormat.NIFTI, ImageFormat.NIFTI_GZ),
    (".nii", ".nii.gz"),
    f"The file is named as NIfTI but cannot be read as NIfTI: {_DAMAGED}",
)
_ITK = _Family(
    (ImageFormat.NRRD, ImageFormat.METAIMAGE),
    (".nrrd", ".nhdr", ".mha", ".mhd"),
    "The NRRD or MetaImage file cannot be read: it is damaged, or the file with its pixels is "
    "missing beside it. Export or copy it again.",
)
_PICTURE = _Family(
    (ImageFormat.PNG, ImageFormat.JPEG, ImageFormat.TIFF, ImageFormat.BMP),
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"),
    "The file cannot be read as a picture: it is damaged, incomplete or of another kind. Export or "
    "copy it again.",
)
_DICOM = _Family(
    (ImageFormat.DICOM,), (".dcm",), f"The DICOM file or series cannot be read: {_DAMAGED}"
)
_FAMILIES = (_NIFTI, _ITK, _PICTURE, _DICOM)


def load_volume(
    path: str | os.PathLike[str],
    *,
    modality: str | None = None,
    series_uid: str | None = None,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Volume:
    """Load an image with its geometry in the patient.

    What the file is, is told by its content (:func:`~medreasoner_infer.imaging.formats.identify`);
    a name that promises another family of formats is refused. Voxels that lie in another file are
    read for a ``.nhdr`` or ``.mhd`` file only, from the same folder.

    Args:
        path: a file, or a folder with a DICOM series (folders within it are searched too).
        modality: DICOM code (CT, MR, ...) that overrides what the file says; formats that do not
            say are guessed, see :func:`~medreasoner_infer.imaging.content.resolve_modality`.
        series_uid: Series Instance UID to take from a folder with several series; without it the
            one with most images is taken, and a warning says so.
        limits: how much is read; more is refused before it is held.

    Raises:
        UnreadableImageError: the file is missing, damaged, of an unknown format, no image, or its
            geometry cannot be used; the message says which, and names no file or patient.
        ImageTooLargeError: it holds, or claims to hold, more than ``limits``.
    """
    source = Path(path)
    if not source.exists():
        raise UnreadableImageError(f"There is no file or folder of that name. {EXPECTED}")
    kind = ImageFormat.DICOM if source.is_dir() else _kind(source)
    family = next(family for family in _FAMILIES if kind in family.formats)
    with reading(family.refusal):
        if family is _DICOM:
            from medreasoner_infer.imaging.dicom import load_dicom

            return load_dicom(source, modality, series_uid, limits)
        return _load_file(source, kind, modality, limits)


def _kind(path: Path) -> ImageFormat:
    """The format to read a file as.

    Within the family that its name promises the content decides, as pictures and NIfTI files are
    often misnamed; another family is refused, because the viewers beside us go by the name.
    """
    name = path.name.lower()
    if name.endswith(DETACHED_HEADERS):
        return ImageFormat.NRRD if name.endswith(".nhdr") else ImageFormat.METAIMAGE
    promised = next((family for family in _FAMILIES if name.endswith(family.suffixes)), None)
    found = format_of(path)
    if promised is not None and found not in promised.formats:
        raise UnreadableImageError(promised.refusal)
    if found is None:
        raise UnreadableImageError(NOT_SUPPORTED)
    return found


def _load_file(path: Path, kind: ImageFormat, modality: str | None, limits: FileLimits) -> Volume:
    if kind in _NIFTI.formats:
        from medreasoner_infer.imaging.nifti import load_nifti

        return load_nifti(path, modality, limits)
    if kind in _ITK.formats:
        from medreasoner_infer.imaging.itk_files import load_itk

        return load_itk(path, kind, modality, limits)
    from medreasoner_infer.imaging.picture import load_picture

    return load_picture(path, kind, modality, limits)
