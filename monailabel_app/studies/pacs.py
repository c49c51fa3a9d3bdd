# SPDX-License-Identifier: Apache-2.0
"""Studies of a DICOMweb server: series are fetched when asked for and kept on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from cachetools import TTLCache, cachedmethod

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import load_volume
from monailabel_app.dicom.dicomweb import DicomWebArchive, pacs_faults
from monailabel_app.errors import UnknownImageError
from monailabel_app.framework import (
    DefaultLabelTag,
    DICOMWebDatastore,
    binary_to_image,
    dicom_web_download_series,
    settings,
)
from monailabel_app.store import LabelSubmission, PacsDocument
from monailabel_app.studies.dicom_folder import NIFTI, is_uid, write_nifti
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.pacs_client import connect_client
from monailabel_app.studies.pacs_labels import is_empty_label, newest_segmentations, write_label_map
from monailabel_app.studies.series_search import MODALITY, find_series
from monailabel_app.studies.source import ImageSource
from monailabel_app.studies.submissions import RemembersSubmissions

# MONAI Label's own default of two hours hides new series and labels.
CACHE_EXPIRY_S = 5
_NO_SERIES = "The DICOMweb server holds no images of a series of this id."
_FINAL = DefaultLabelTag.FINAL.value
_SERIES_UID = "SeriesInstanceUID"


class LabelsKeptFirst(DICOMWebDatastore, IndexedFolder):  # type: ignore[misc]
    """Keeps labels on disk; what goes to the server is made of the records, and queued."""

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Save a label as a local datastore does, bare voxels as NIfTI on the image's grid."""
        if not label_filename.endswith(".bin"):
            return str(
                IndexedFolder.save_label(self, image_id, label_filename, label_tag, label_info)
            )
        written = binary_to_image(self.get_image_uri(image_id), label_filename)
        try:
            return str(IndexedFolder.save_label(self, image_id, written, label_tag, label_info))
        finally:
            os.unlink(written)


class PacsStudies(RemembersSubmissions, LabelsKeptFirst):
    """MONAI Label's DICOMweb datastore, safe for several readers at once.

    Differences: series of every image modality are listed, a fetch that is interrupted leaves no
    half series behind, a series is fetched once however many ask for it, questions are answered on
    the DICOM files, a label is kept before it is sent, and faults are typed.
    """

    own_folder = True

    def __init__(self, *args: Any, expiry_s: float = CACHE_EXPIRY_S, **kwargs: Any) -> None:
        self._fetching: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._listed: TTLCache[Any, Any] = TTLCache(maxsize=4, ttl=expiry_s)
        self._listing = threading.RLock()
        super().__init__(*args, **kwargs)

    @classmethod
    def connect(cls, address: str) -> PacsStudies:
        """Open the server at ``address`` with MONAI Label's ``MONAI_LABEL_DICOMWEB_*`` settings.

        Where they are not set, series of all image modalities are listed, and lists are kept for
        :data:`CACHE_EXPIRY_S`.
        """
        given = settings.model_fields_set
        filtered = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER" in given
        expires = "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY" in given
        return cls(
            client=connect_client(address),
            search_filter=settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER if filtered else {},
            cache_path=settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip() or None,
            fetch_by_frame=settings.MONAI_LABEL_DICOMWEB_FETCH_BY_FRAME,
            convert_to_nifti=settings.MONAI_LABEL_DICOMWEB_CONVERT_TO_NIFTI,
            expiry_s=settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY if expires else CACHE_EXPIRY_S,
        )

    def archive(self, orthanc_url: str | None = None) -> DicomWebArchive:
        """The same server as a place for results."""
        return DicomWebArchive(self._client, orthanc_url)

    @cachedmethod(
        lambda self: self._listed, key=lambda _: "images", lock=lambda self: self._listing
    )
    def list_images(self) -> list[str]:
        """Series Instance UIDs of the image series, of every modality that is searched for.

        Raises:
            PacsUnreachableError: if the server does not answer.
        """
        with pacs_faults():
            return find_series(self._client, self._search_filter)

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Image series that the server has a segmentation of, or that wait for theirs to be sent.

        Raises:
            PacsUnreachableError: if the server does not answer.
        """
        local = set(IndexedFolder.get_labeled_images(self))
        return sorted(local | self._segmented().keys())

    def image_source(self, image_id: str) -> ImageSource:
        """Fetch the series if needed and say where its voxels are.

        Raises:
            UnknownImageError: if the id is no UID, or the server has no such series.
            UnreadableImageError: if the series is no image that can be read.
            PacsUnreachableError: if the server does not answer or answers with a fault.
        """
        path = Path(self.get_image_uri(image_id))
        info = self.get_image_info(image_id)
        known = {key: value for key, value in info.items() if value != "UNK"}
        return ImageSource(
            path,
            image_id,
            modality=known.get(MODALITY),
            series_uid=image_id,
            dicom_folder=self._folder(image_id),
            study_uid=known.get("StudyInstanceUID"),
        )

    def get_image_uri(self, image_id: str) -> str:
        """The series as a NIfTI file on the grid of its DICOM files (or its folder)."""
        if not is_uid(image_id):
            raise UnknownImageError("The image id is no DICOM Series Instance UID.")
        kept = Path(self._datastore.image_path()) / f"{image_id}{NIFTI}"
        with self._fetching[image_id], pacs_faults():
            self._fetch(image_id)
            if not self._convert_to_nifti:
                return str(self._folder(image_id))
            if not kept.is_file():
                self._convert(image_id)
        return str(kept.resolve())

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """A label's file; a segmentation is fetched and put onto the grid of its images."""
        if label_tag != _FINAL or not image_id:
            return str(IndexedFolder.get_label_uri(self, label_id, label_tag))
        kept = Path(self._datastore.label_path(label_tag)) / f"{image_id}{NIFTI}"
        if not kept.is_file():
            with pacs_faults(), tempfile.TemporaryDirectory() as scratch:
                folder = kept.parent / label_id
                dicom_web_download_series(None, label_id, str(folder), self._client)
                written = Path(scratch) / f"{label_id}{NIFTI}"
                write_label_map(folder, self.image_source(image_id), written)
                info = self._dicom_info(label_id)
                IndexedFolder.save_label(self, image_id, str(written), label_tag, info)
        return str(kept.resolve())

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        """Keep a label; ``final`` ones are then queued for the server with their record.

        Raises:
            InputError: if a final label is empty and names no answer that it is about.
            UnknownImageError: if the server has no such series.
            PacsUnreachableError: if the image is not here yet and the server does not answer.
        """
        self.get_image_uri(image_id)
        tag = str(getattr(label_tag, "value", label_tag))
        answers = LabelSubmission(image_id, tag, None, label_info or {}).inference_id is not None
        if tag == _FINAL and not answers and is_empty_label(label_filename):
            raise InputError(
                "The label is empty and names no answer, so there is nothing to keep; mark the "
                "target, or submit with the answer's 'label_info' to say that it is absent."
            )
        return str(super().save_label(image_id, label_filename, label_tag, dict(label_info or {})))

    def label_sent(self, document: PacsDocument) -> None:
        """Note that the server has the label, so that it goes here when it is withdrawn there."""
        if document.seg_series_uid and self._datastore.label(document.image_id, _FINAL):
            info = {_SERIES_UID: document.seg_series_uid}
            self.update_label_info(document.image_id, _FINAL, info)

    def _folder(self, series_uid: str) -> Path:
        return Path(self._datastore.image_path()) / series_uid

    @cachedmethod(
        lambda self: self._listed, key=lambda _: "segmented", lock=lambda self: self._listing
    )
    def _segmented(self) -> dict[str, str]:
        with pacs_faults():
            return newest_segmentations(self._client, self.list_images())

    def _download_labeled_data(self) -> None:
        """Fetch segmentations that are not here, and drop labels that were withdrawn there."""
        segmented = self._segmented()
        for image_id in IndexedFolder.get_labeled_images(self):
            sent = self.get_label_info(image_id, _FINAL).get(_SERIES_UID)
            if sent and image_id not in segmented:
                shutil.rmtree(Path(self._datastore.label_path(_FINAL)) / sent, ignore_errors=True)
                self.remove_label(image_id, _FINAL)
        for image_id, segmentation_uid in segmented.items():
            self.get_label_uri(segmentation_uid, _FINAL, image_id)

    def _convert(self, series_uid: str) -> None:
        info = self._dicom_info(series_uid)
        modality = None if info[MODALITY] == "UNK" else info[MODALITY]
        volume = load_volume(self._folder(series_uid), modality=modality, series_uid=series_uid)
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch) / f"{series_uid}{NIFTI}"
            write_nifti(volume, written)
            IndexedFolder.add_image(self, series_uid, str(written), info)

    def _fetch(self, series_uid: str) -> None:
        folder = self._folder(series_uid)
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
