# SPDX-License-Identifier: Apache-2.0
"""Loading an image of any supported format."""

from __future__ import annotations

import os
from pathlib import Path

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.volume import Volume

_ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_EXPECTED = (
    "Expected NIfTI (.nii, .nii.gz), NRRD, MetaImage (.mha, .mhd), a DICOM file, a folder with a "
    "DICOM series, or a picture (.png, .jpg, .tif)."
)


def load_volume(
    path: str | os.PathLike[str],
    *,
    modality: str | None = None,
    series_uid: str | None = None,
) -> Volume:
    """Load an image with its geometry in the patient.

    Args:
        path: a file, or a folder with a DICOM series (folders within it are searched too).
        modality: DICOM code (CT, MR, ...) that overrides what the file says; formats that do not
            say are guessed, see :func:`~medreasoner_infer.imaging.content.resolve_modality`.
        series_uid: Series Instance UID to take from a folder with several series; without it the
            one with most images is taken, and a warning says so.

    Raises:
        UnreadableImageError: the file is missing, damaged, of an unknown format, no image, or its
            geometry cannot be used; the message says which, and names no file or patient.
    """
    source = Path(path)
    name = source.name.lower()
    if not source.exists():
        raise UnreadableImageError(f"There is no file or folder of that name. {_EXPECTED}")
    if name.endswith((".nii", ".nii.gz")):
        from medreasoner_infer.imaging.nifti import load_nifti

        return load_nifti(source, modality)
    if name.endswith(_ITK_SUFFIXES):
        from medreasoner_infer.imaging.itk_files import load_itk

        return load_itk(source, modality)
    if name.endswith(_PICTURE_SUFFIXES):
        from medreasoner_infer.imaging.picture import load_picture

        return load_picture(source, modality)
    if source.is_dir() or _is_dicom(source):
        from medreasoner_infer.imaging.dicom import load_dicom

        return load_dicom(source, modality, series_uid)
    raise UnreadableImageError(f"The file is of no supported format. {_EXPECTED}")


def _is_dicom(path: Path) -> bool:
    """Whether the file has the preamble of a DICOM file (PS3.10, 7.1)."""
    with path.open("rb") as file:
        file.seek(128)
        return file.read(4) == b"DICM"
