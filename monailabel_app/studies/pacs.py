# SPDX-License-Identifier: Apache-2.0
"""Studies of a DICOMweb server: series are fetched when asked for and kept on disk."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from medreasoner_infer.errors import InputError
from monailabel_app.dicom_seg import SEG_TOOL
from monailabel_app.errors import PacsUnreachableError, UnknownImageError
from monailabel_app.framework import (
    DICOMwebClientX,
    DICOMWebDatastore,
    dicom_web_download_series,
    settings,
)
from monailabel_app.segments import segment_info
from monailabel_app.studies.dicom_folder import is_uid
from monailabel_app.studies.source import ImageSource
from monailabel_app.studies.submissions import RemembersSubmissions

logger = logging.getLogger(__name__)

_NO_SERIES = "The DICOMweb server holds no images of a series of this id."


class PacsStudies(RemembersSubmissions, DICOMWebDatastore):
    """MONAI Label's DICOMweb datastore, safe for several readers at once.

    Differences: a fetch that is interrupted leaves no half series behind, a series is fetched once
    however many ask for it, a label without codes gets honest ones, and faults are typed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._fetching: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        super().__init__(*args, **kwargs)

    @classmethod
    def connect(cls, address: str) -> PacsStudies:
        """Open the server at ``address`` with MONAI Label's ``MONAI_LABEL_DICOMWEB_*`` settings."""
        if shutil.which(SEG_TOOL) is None:
            logger.warning(
                "The program %s is not on the PATH, so labels cannot be stored as DICOM SEG. "
                "Install it with: pip install dcmqi",
                SEG_TOOL,
            )
        client = DICOMwebClientX(
            url=address,
            session=_session(),
            qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
            wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
            stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
        )
        return cls(
            client=client,
            search_filter=settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER,
            cache_path=settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip() or None,
            fetch_by_frame=settings.MONAI_LABEL_DICOMWEB_FETCH_BY_FRAME,
            convert_to_nifti=settings.MONAI_LABEL_DICOMWEB_CONVERT_TO_NIFTI,
        )

    def image_source(self, image_id: str) -> ImageSource:
        """Fetch the series if needed and say where its voxels are.

        Raises:
            UnknownImageError: if the id is no UID, or the server has no such series.
            PacsUnreachableError: if the server does not answer or answers with a fault.
        """
        path = Path(self.get_image_uri(image_id))
        modality = self.get_image_info(image_id).get("Modality")
        return ImageSource(
            path,
            image_id,
            modality=None if modality == "UNK" else modality,
            series_uid=image_id,
            dicom_folder=Path(self._datastore.image_path()) / image_id,
        )

    def get_image_uri(self, image_id: str) -> str:
        """The series as a NIfTI file (or its folder), fetched if needed."""
        if not is_uid(image_id):
            raise UnknownImageError("The image id is no DICOM Series Instance UID.")
        with self._fetching[image_id], _pacs_faults():
            self._fetch(image_id)
            found = Path(super().get_image_uri(image_id))
        kept = Path(self._datastore.image_path()) / f"{image_id}.nii.gz"
        if found.is_file() and kept.is_file() and found != kept.resolve():
            found.unlink()  # the temporary file of the conversion, already copied to ``kept``
        return str(kept.resolve() if kept.is_file() else found)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Save a label; ``final`` ones go to the server as DICOM SEG.

        Raises:
            InputError: if dcmqi makes no segmentation of it, e.g. because it is empty.
            UnknownImageError: if the server has no such series.
            PacsUnreachableError: if the server does not take it.
        """
        info = dict(label_info or {})
        info.setdefault("label_info", [segment_info()])
        try:
            with _pacs_faults():
                return super().save_label(image_id, label_filename, label_tag, info)
        except FileNotFoundError as error:  # MONAI Label reads what dcmqi did not write
            raise InputError(
                "The label could not be made a DICOM segmentation; it is empty, does not fit the "
                "series, or dcmqi is not installed."
            ) from error

    def _fetch(self, series_uid: str) -> None:
        folder = Path(self._datastore.image_path()) / series_uid
        if folder.is_dir() and any(folder.iterdir()):
            return
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as scratch:
            fetched = Path(scratch) / series_uid
            try:
                dicom_web_download_series(
                    None, series_uid, str(fetched), self._client, self._fetch_by_frame
                )
            except IndexError as error:  # MONAI Label takes the first of an empty search
                raise UnknownImageError(_NO_SERIES) from error
            if not fetched.is_dir() or not any(fetched.iterdir()):
                raise UnknownImageError(_NO_SERIES)
            if folder.is_dir():
                folder.rmdir()
            os.replace(fetched, folder)


def _session() -> requests.Session | None:
    from dicomweb_client.session_utils import (
        create_session_from_gcp_credentials,
        create_session_from_user_pass,
    )

    user = settings.MONAI_LABEL_DICOMWEB_USERNAME
    password = settings.MONAI_LABEL_DICOMWEB_PASSWORD
    if "googleapis.com" in settings.MONAI_LABEL_STUDIES:
        return create_session_from_gcp_credentials()
    return create_session_from_user_pass(user, password) if user and password else None


@contextmanager
def _pacs_faults() -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        if status == 404:
            raise UnknownImageError(_NO_SERIES) from error
        said = "did not answer" if status is None else f"answered with HTTP {status}"
        raise PacsUnreachableError(f"The DICOMweb server {said}; try again.") from error
