# SPDX-License-Identifier: Apache-2.0
"""A DICOMweb server as an archive of results."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
import requests

from monailabel_app.dicom.archive import require_all_stored
from monailabel_app.dicom.errors import ArchiveRefusedError
from monailabel_app.dicom.report_reading import is_report
from monailabel_app.pacs.faults import pacs_faults
from monailabel_app.pacs.limits import PACS_LIMITS, PacsLimits, exchange
from monailabel_app.pacs.series_fetch import fetch_series
from monailabel_app.pacs.series_search import SERIES_UID, uid_of

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from pydicom.dataset import Dataset

# The path is appended to an address that a DELETE goes to.
_INSTANCE_PATH = re.compile(r"/instances/[0-9a-f]{8}(-[0-9a-f]{8}){4}")
# A wrong password can be mended and a busy server asked again; other 4xx answers stay as they are.
_TRY_AGAIN = frozenset({401, 403, 407, 408, 425, 429})


class DicomWebArchive:
    """STOW-RS to store, QIDO-RS and WADO-RS to read.

    DICOMweb itself cannot delete. Where ``orthanc_url``, the address of Orthanc's own REST API, is
    given, superseded versions are deleted; else they stay, and the newest names its predecessor.
    """

    def __init__(
        self,
        client: DICOMwebClient,
        orthanc_url: str | None = None,
        limits: PacsLimits = PACS_LIMITS,
    ) -> None:
        self._client = client
        self._limits = limits
        self._orthanc_url = None if orthanc_url is None else orthanc_url.rstrip("/")

    def store(self, objects: Sequence[bytes]) -> None:
        """Store by one STOW-RS request."""
        datasets = [pydicom.dcmread(io.BytesIO(content)) for content in objects]
        with exchange(self._limits.series_s), pacs_faults():
            try:
                reply = self._client.store_instances(datasets)
            except requests.HTTPError as error:
                _raise_if_final(error)
                raise
        require_all_stored(reply)

    def reports(self, study_uid: str) -> list[Dataset]:
        """Every report of ours on a study."""
        return [report for report in self._retrieve(study_uid, "SR") if is_report(report)]

    def segmentation(self, study_uid: str, instance_uid: str) -> Dataset | None:
        """A segmentation of a study."""
        found = self._retrieve(study_uid, instance_uid=instance_uid)
        return next((seg for seg in found if seg.get("SOPInstanceUID") == instance_uid), None)

    def fetch_series(self, study_uid: str, series_uid: str, folder: Path) -> Path:
        """Retrieve the series into ``folder``."""
        return fetch_series(self._client, study_uid, series_uid, folder / series_uid, self._limits)

    def remove(self, study_uid: str, series_uid: str, instance_uid: str) -> bool:
        """Delete an instance by Orthanc's REST API."""
        if self._orthanc_url is None:
            return False
        with pacs_faults():
            session: requests.Session = self._client._session  # its credentials
            found = session.post(f"{self._orthanc_url}/tools/lookup", data=instance_uid)
            found.raise_for_status()
            paths = [entry["Path"] for entry in found.json() if entry["Type"] == "Instance"]
            if not all(map(_INSTANCE_PATH.fullmatch, paths)):
                raise ValueError("a path that is none of an instance")
            for path in paths:
                session.delete(f"{self._orthanc_url}{path}").raise_for_status()
        return bool(paths)

    def _retrieve(
        self, study_uid: str, modality: str = "", instance_uid: str | None = None
    ) -> Iterator[Dataset]:
        """All instances of a modality, or of the series that holds the wanted instance."""
        until = time.monotonic() + self._limits.series_s
        with exchange(self._limits.list_s):
            uids = self._series_of(study_uid, modality, instance_uid)
        for uid in uids:
            with exchange(until - time.monotonic()), pacs_faults():
                instances = self._client.retrieve_series(study_uid, uid)
            yield from instances

    def _series_of(self, study_uid: str, modality: str, instance_uid: str | None) -> list[str]:
        with pacs_faults():
            if instance_uid is None:
                filters: dict[str, Any] = {"Modality": modality}
                found = self._client.search_for_series(study_uid, search_filters=filters)
            else:
                filters = {"SOPInstanceUID": instance_uid}
                found = self._client.search_for_instances(study_uid, search_filters=filters)
            return list(dict.fromkeys(uid_of(entry, SERIES_UID) for entry in found))


def _raise_if_final(error: requests.HTTPError) -> None:
    """409 is a partial or refused storage (PS3.18, 10.5.3), whose body tells why."""
    status = 500 if error.response is None else error.response.status_code
    if status == 409:
        reply = _reply_of(error)
        if reply is not None:
            require_all_stored(reply)
    if 400 <= status < 500 and status not in _TRY_AGAIN and status != 404:
        raise ArchiveRefusedError(
            f"The PACS refuses the result with HTTP {status}. Ask its administrator."
        ) from error


def _reply_of(error: requests.HTTPError) -> Dataset | None:
    from pydicom.dataset import Dataset

    response = error.response
    if response is None or "json" not in response.headers.get("Content-Type", ""):
        return None
    reply: Dataset = Dataset.from_json(response.json())
    return reply
