# SPDX-License-Identifier: Apache-2.0
"""A mask as a DICOM segmentation (``output=dicom_seg``), written by MONAI Label through dcmqi."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medreasoner_infer.errors import InputError, ServiceError
from monailabel_app.framework import nifti_to_dicom_seg
from monailabel_app.segments import segment_info
from monailabel_app.studies.source import ImageSource

SEG_TOOL = "itkimage2segimage"


def write_dicom_seg(mask_file: str, source: ImageSource, label_info: Any = None) -> Path:
    """Write the segmentation to a temporary file.

    Args:
        label_info: MONAI Label's ``label_info`` of the client; ours if there is none.

    Raises:
        InputError: if the image is no DICOM series, nothing was found on it, ``label_info`` is
            malformed, or dcmqi does not accept the series.
        ServiceError: if dcmqi is not installed.
    """
    if source.dicom_folder is None:
        raise InputError(
            "A DICOM segmentation needs an image that is a DICOM series; ask with output=all."
        )
    if shutil.which(SEG_TOOL) is None:
        raise ServiceError(f"{SEG_TOOL} is not on the PATH; install it with: pip install dcmqi")
    if _is_empty(mask_file):
        raise InputError(
            "The target is not present on the image, and a DICOM segmentation cannot be empty; "
            "ask with output=all or output=json for the reasoning."
        )
    with _series_only(source.dicom_folder, source.series_uid or "") as folder:
        written = nifti_to_dicom_seg(str(folder), mask_file, _checked(label_info))
    if not written or not Path(written).is_file():
        raise InputError(
            "dcmqi did not accept the DICOM series; its files may lack required fields. "
            "Ask with output=all for the mask."
        )
    return Path(written)


def _checked(label_info: Any) -> list[dict[str, Any]]:
    if not label_info:
        return [segment_info()]
    if isinstance(label_info, list) and all(isinstance(entry, dict) for entry in label_info):
        return label_info
    raise InputError("'label_info' is malformed; expected a list of objects, one per segment.")


def _is_empty(mask_file: str) -> bool:
    import SimpleITK as sitk

    return not sitk.GetArrayFromImage(sitk.ReadImage(mask_file)).any()


@contextmanager
def _series_only(folder: Path, series_uid: str) -> Iterator[Path]:
    """A folder with links to the files of the series alone, as dcmqi takes all that it finds."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    with tempfile.TemporaryDirectory(prefix="medreasoner-series-") as scratch:
        for number, path in enumerate(sorted(folder.rglob("*"))):
            if not path.is_file():
                continue
            try:
                header = pydicom.dcmread(path, specific_tags=["SeriesInstanceUID"])
            except InvalidDicomError:
                continue
            if str(header.get("SeriesInstanceUID") or "") == series_uid:
                (Path(scratch) / f"{number:06d}.dcm").symlink_to(path.resolve())
        yield Path(scratch)
