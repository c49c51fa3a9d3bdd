# SPDX-License-Identifier: Apache-2.0
"""Fetching a series from a DICOMweb server: all of it, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom

from medreasoner_infer.errors import CancelledError
from monailabel_app.common.fields import is_uid
from monailabel_app.common.waiting import caller_has_left
from monailabel_app.errors import UnknownImageError
from monailabel_app.pacs.faults import pacs_faults
from monailabel_app.pacs.limits import PACS_LIMITS, PacsLimits, exchange

# An object that is cut short at the end of an element looks whole.
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from pydicom.dataset import Dataset


def fetch_series(
    client: DICOMwebClient,
    study_uid: str,
    series_uid: str,
    folder: Path,
    limits: PacsLimits = PACS_LIMITS,
    *,
    by_frame: bool = False,
) -> Path:
    """Write the instances of a series into ``folder``, which is made for it and is returned.

    Args:
        by_frame: ask for metadata and the first frame of each instance, for servers that send no
            whole instances.

    Raises:
        UnknownImageError: the server has no such series.
        PacsUnreachableError: it does not answer, not in time, or with something else.
        CancelledError: nobody waits for the series any more.
    """
    folder.mkdir(parents=True, mode=0o700)
    try:
        with exchange(limits.series_s, limits.series_bytes, folder), pacs_faults():
            found = _by_frame(client, study_uid, series_uid) if by_frame else None
            if found is None:
                found = client.iter_series(study_uid, series_uid)
            count = _write(found, series_uid, folder, limits.instances)
        if not count:
            raise UnknownImageError("The DICOMweb server holds no images of a series of this id.")
    except BaseException:
        shutil.rmtree(folder)
        raise
    return folder


def _write(images: Iterable[Dataset], series_uid: str, folder: Path, most: int) -> int:
    """Write each instance as ``<SOP Instance UID>.dcm``, and return their number."""
    count = 0
    for image in images:
        if caller_has_left():
            raise CancelledError("Nobody waits for the series any more.")
        count += 1
        uid = str(image.SOPInstanceUID)
        # The file is named after it.
        if not is_uid(uid) or image.SeriesInstanceUID != series_uid or count > most:
            raise ValueError("an instance of another series, without a UID, or one too many")
        if not any(name in image for name in _PIXELS):
            raise ValueError("an instance without pixels")
        _write_instance(image, folder / f"{uid}.dcm")
    return count


def _write_instance(image: Dataset, path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        pydicom.dcmwrite(file, image)


def _by_frame(client: DICOMwebClient, study_uid: str, series_uid: str) -> Iterator[Dataset]:
    """Instances put together of their metadata and first frame."""
    for metadata in client.retrieve_series_metadata(study_uid, series_uid):
        image = pydicom.Dataset.from_json(metadata)
        image.is_little_endian = image.is_implicit_VR = True
        image.PixelData = client.retrieve_instance_frames(
            study_uid, series_uid, str(image.SOPInstanceUID), frame_numbers=[1]
        )[0]
        yield image
