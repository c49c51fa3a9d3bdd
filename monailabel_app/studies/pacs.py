# SPDX-License-Identifier: Apache-2.0
"""Studies of a DICOMweb server: series are fetched when asked for and kept on disk."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medreasoner_infer.errors import InputError, ServiceError
from medreasoner_infer.imaging import load_volume
from monailabel_app.common.fields import is_uid
from monailabel_app.common.waiting import KeptAnswer, SharedCalls
from monailabel_app.dicom.dicomweb import DicomWebArchive
from monailabel_app.errors import (
    PacsAnswerError,
    PacsFaultError,
    PacsTimeoutError,
    UnknownImageError,
)
from monailabel_app.framework import (
    DefaultLabelTag,
    DICOMWebDatastore,
    settings,
)
from monailabel_app.images.source import ImageSource
from monailabel_app.pacs.client import connect_client
from monailabel_app.pacs.faults import pacs_faults
from monailabel_app.pacs.limits import PACS_LIMITS, PacsLimits, exchange
from monailabel_app.pacs.series_fetch import fetch_series
from monailabel_app.pacs.series_search import (
    MODALITY,
    find_described,
    find_headers,
    find_one,
    find_series,
)
from monailabel_app.store import LabelSubmission, PacsDocument
from monailabel_app.studies.dicom_folder import NIFTI, write_nifti
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.pacs_labels import (
    OVERLAPPED,
    ServerSegmentations,
    is_empty_label,
    newest_segmentations,
    write_label_map,
)
from monailabel_app.studies.set_aside import SetAside, told
from monailabel_app.studies.submissions import RemembersSubmissions

if TYPE_CHECKING:
    import requests
    from pydicom.dataset import Dataset

logger = logging.getLogger(__name__)

T = TypeVar("T")

# MONAI Label's own default of two hours hides new series and labels.
CACHE_EXPIRY_S = 5
_FINAL = DefaultLabelTag.FINAL.value
_SERIES_UID = "SeriesInstanceUID"
# What MONAI Label keeps with an image, and how it says that the server does not tell it.
_INFO = ("StudyDate", "StudyTime", MODALITY, "RetrieveURL", "PatientID", "StudyInstanceUID")
_UNKNOWN = "UNK"
_FETCHING = ".fetching-"
_NO_LIST = "The DICOMweb server has not answered yet, and what it holds is not known; try again."
_LATE = "The DICOMweb server does not answer at the moment; its list of series is that of before."


class LabelsKeptFirst(DICOMWebDatastore, IndexedFolder):
    """Keeps labels on disk; what goes to the server is made of the records, and queued."""

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]
    ) -> str:
        """Save a label as a folder of studies does."""
        return str(IndexedFolder.save_label(self, image_id, label_filename, label_tag, label_info))


class PacsStudies(RemembersSubmissions, LabelsKeptFirst):
    """MONAI Label's DICOMweb datastore, safe for several readers at once.

    Differences: series of every image modality are listed, a fetch that is interrupted leaves no
    half series behind, a series is fetched once however many ask for it, questions are answered on
    the DICOM files, a label is kept before it is sent, and faults are typed.
    """

    own_folder = True

    def __init__(
        self,
        *args: Any,
        expiry_s: float = CACHE_EXPIRY_S,
        limits: PacsLimits = PACS_LIMITS,
        **kwargs: Any,
    ) -> None:
        self._limits = limits
        self._fetches: SharedCalls[str] = SharedCalls(limits.fetches)
        self._images = KeptAnswer(self._find_images, expiry_s, limits.patience_s)
        self._masks = KeptAnswer(self._find_masks, expiry_s, limits.patience_s)
        self._aside: dict[str, SetAside] = {}
        super().__init__(*args, **kwargs)

    @classmethod
    def connect(
        cls, address: str, folder: Path | None = None, *, own_cache: Path | None = None
    ) -> PacsStudies:
        """Open the server at ``address`` with MONAI Label's ``MONAI_LABEL_DICOMWEB_*`` settings.

        Where they are not set, series of all image modalities are listed, and lists are kept for
        :data:`CACHE_EXPIRY_S`.

        Args:
            address: of the DICOMweb server.
            folder: for what is fetched, where no setting says another; by default MONAI Label's.
            own_cache: for fetched series, whatever a setting says, and apart from the viewers, who
                need NIfTI copies.
        """
        stated = settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip()
        kept = str(own_cache or stated or folder or "")
        given = settings.model_fields_set
        filtered = "MONAI_LABEL_DICOMWEB_SEARCH_FILTER" in given
        expires = "MONAI_LABEL_DICOMWEB_CACHE_EXPIRY" in given
        return cls(
            client=connect_client(address),
            search_filter=settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER if filtered else {},
            cache_path=kept or None,
            fetch_by_frame=settings.MONAI_LABEL_DICOMWEB_FETCH_BY_FRAME,
            convert_to_nifti=settings.MONAI_LABEL_DICOMWEB_CONVERT_TO_NIFTI and not own_cache,
            expiry_s=settings.MONAI_LABEL_DICOMWEB_CACHE_EXPIRY if expires else CACHE_EXPIRY_S,
        )

    @property
    def http_session(self) -> requests.Session:
        """By which the server is asked, with this server's own login."""
        session: requests.Session = self._client._session
        return session

    def archive(self, orthanc_url: str | None = None) -> DicomWebArchive:
        """The same server as a place for results."""
        return DicomWebArchive(self._client, orthanc_url, self._limits)

    def require_reachable(self) -> None:
        """Ask the server for one study.

        Raises:
            PacsUnreachableError: if the server does not answer or answers with a fault.
        """
        with exchange(self._limits.patience_s), pacs_faults():
            self._client.search_for_studies(limit=1)

    def list_images(self) -> list[str]:
        """Series Instance UIDs of the image series, of every modality that is searched for.

        While the server hangs it is the list of before, which :meth:`status` says.

        Raises:
            PacsUnreachableError: if the server does not answer, or not in time.
        """
        images: list[str] = _in_time(self._images)
        return list(images)

    def images_of_study(self, study_uid: str) -> list[str]:
        """Series Instance UIDs of a study's image series; empty if the server has no such study.

        Raises:
            UnknownImageError: the id is no UID.
            PacsUnreachableError: the server does not answer.
        """
        if not is_uid(study_uid):
            raise UnknownImageError("The study's id is no DICOM Study Instance UID.")
        wanted = {**self._search_filter, "StudyInstanceUID": study_uid}
        with exchange(self._limits.list_s), pacs_faults():
            return find_series(self._client, wanted, self._limits.listed)

    def described(self, search_filter: Mapping[str, str]) -> list[Dataset]:
        """Attributes of the series that match; see :func:`find_described`.

        Raises:
            PacsUnreachableError: the server does not answer.
        """
        with exchange(self._limits.list_s), pacs_faults():
            return find_described(self._client, search_filter, self._limits.listed)

    def series_headers(self, keywords: Sequence[str]) -> dict[str, Dataset]:
        """What the server tells of the image series in some attributes; asked anew each time.

        Raises:
            PacsUnreachableError: the server does not answer.
        """
        with exchange(self._limits.list_s), pacs_faults():
            return find_headers(self._client, self._search_filter, keywords, self._limits.listed)

    def series_info(self, image_id: str) -> dict[str, Any]:
        """What the server knows of a series, under MONAI Label's keys.

        Raises:
            UnknownImageError: the server has no such series.
            PacsUnreachableError: the server does not answer.
        """
        return self._about(image_id).info

    def kept_source(self, image_id: str) -> ImageSource | None:
        """Where a series lies that was fetched before; ``None`` where it was not."""
        if not is_uid(image_id) or not self._is_here(image_id):
            return None
        folder = self._folder(image_id)
        return ImageSource(folder, image_id, series_uid=image_id, dicom_folder=folder)

    def forget(self, image_id: str) -> None:
        """Remove what was fetched of a series; it is fetched again when it is asked for."""
        if is_uid(image_id):
            shutil.rmtree(self._folder(image_id), ignore_errors=True)

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Image series that the server has a segmentation of, or that wait for theirs to be sent.

        Raises:
            PacsUnreachableError: if the server does not answer, or not in time.
        """
        local = set(IndexedFolder.get_labeled_images(self))
        return sorted(local | _in_time(self._masks).by_image.keys())

    def set_aside(self) -> tuple[SetAside, ...]:
        """Series of the server that could not be used, as far as they were asked for."""
        known = self._masks.known
        listed = () if known is None else known.set_aside
        return (*self._aside.values(), *(one for one in listed if one.name not in self._aside))

    def status(self) -> dict[str, Any]:
        """How many images there are, also while the server does not answer; ``pacs`` tells that."""
        fault = None
        try:
            images, labelled = self.list_images(), self.get_labeled_images()
        except ServiceError as error:
            fault = str(error)
            images = self._images.known or []
            known = self._masks.known
            segmented = () if known is None else known.by_image
            labelled = [*IndexedFolder.get_labeled_images(self), *segmented]
        tags = Counter(tag for image in self._datastore.objects.values() for tag in image.labels)
        counts = {"total": len(images), "completed": len(set(labelled)), "label_tags": dict(tags)}
        if fault is None and self._images.is_late:
            fault = _LATE
        return {**counts, **told(self.set_aside()), **({} if fault is None else {"pacs": fault})}

    def image_source(self, image_id: str) -> ImageSource:
        """Fetch the series if needed and say where its voxels are.

        Raises:
            UnknownImageError: if the id is no UID, or the server has no such series.
            UnreadableImageError: if the series is no image that can be read.
            PacsUnreachableError: if the server does not answer or answers with a fault.
        """
        path = Path(self.get_image_uri(image_id))
        # Of a series without a NIfTI copy nothing is kept.
        info = self.get_image_info(image_id) or self._about(image_id).info
        known = {key: value for key, value in info.items() if value != _UNKNOWN}
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
        kept = self._folder(image_id)
        if self._convert_to_nifti:
            kept = kept.with_name(f"{image_id}{NIFTI}")
        if not (self._is_here(image_id) and kept.exists()):
            return self._fetches.get(image_id, lambda: self._bring(image_id, kept))
        return str(kept.resolve())

    def get_label_uri(self, label_id: str, label_tag: str, image_id: str = "") -> str:
        """A label's file; a segmentation is fetched and put onto the grid of its images."""
        if label_tag != _FINAL or not image_id:
            return str(IndexedFolder.get_label_uri(self, label_id, label_tag))
        if not is_uid(image_id):
            raise UnknownImageError("The image id is no DICOM Series Instance UID.")
        kept = Path(self._datastore.label_path(label_tag)) / f"{image_id}{NIFTI}"
        if not kept.is_file():
            if not is_uid(label_id):
                raise UnknownImageError("The label id is no DICOM Series Instance UID.")
            image = self.image_source(image_id)
            self._fetches.get(label_id, lambda: self._bring_label(label_id, image_id, image, kept))
        return str(kept.resolve())

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]
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

    def _find_images(self) -> list[str]:
        with exchange(self._limits.list_s), pacs_faults():
            return find_series(self._client, self._search_filter, self._limits.listed)

    def _find_masks(self) -> ServerSegmentations:
        with exchange(self._limits.list_s):
            return newest_segmentations(self._client, self.list_images())

    def _download_labeled_data(self) -> None:
        """Fetch segmentations that are not here, and drop labels that were withdrawn there."""
        found = _in_time(self._masks)
        not_told = {one.name for one in found.set_aside}
        for image_id in IndexedFolder.get_labeled_images(self):
            sent = self.get_label_info(image_id, _FINAL).get(_SERIES_UID)
            if sent and image_id not in found.by_image and sent not in not_told:
                shutil.rmtree(Path(self._datastore.label_path(_FINAL)) / sent, ignore_errors=True)
                self.remove_label(image_id, _FINAL)
        for image_id, segmentation_uid in found.by_image.items():
            with self._setting_aside(segmentation_uid):
                self.get_label_uri(segmentation_uid, _FINAL, image_id)

    @contextmanager
    def _setting_aside(self, series_uid: str) -> Iterator[None]:
        """Let a series that cannot be used be named by :meth:`set_aside`, and the rest go on."""
        try:
            yield
        except (InputError, PacsAnswerError, PacsFaultError) as error:
            self._aside[series_uid] = SetAside(series_uid, str(error))
            logger.warning("A series of the server is set aside (%s)", type(error).__name__)

    def _is_here(self, series_uid: str) -> bool:
        folder = self._folder(series_uid)
        return folder.is_dir() and _filled(folder)

    def _bring(self, series_uid: str, kept: Path) -> str:
        """Fetch what is not here yet; runs once for all who wait for the series."""
        about = self._about(series_uid)
        if not self._is_here(series_uid):
            self._fetch(series_uid, about.study_uid)
        if self._convert_to_nifti and not kept.is_file():
            self._convert(series_uid, about)
        return str(kept.resolve())

    def _bring_label(self, label_id: str, image_id: str, image: ImageSource, kept: Path) -> str:
        about = self._about(label_id)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=_FETCHING) as scratch:
            folder = Path(scratch) / label_id
            fetch_series(self._client, about.study_uid, label_id, folder, self._limits)
            written = Path(scratch) / f"{label_id}{NIFTI}"
            loss = write_label_map(folder, image, written)
            # It stays beside the label, as it names what the label's values mean.
            _put(folder, kept.parent / label_id)
            info = {**about.info, OVERLAPPED: list(loss.overlapped)}
            IndexedFolder.save_label(self, image_id, str(written), _FINAL, info)
        self._aside.pop(label_id, None)
        if loss.warnings:
            self._aside[label_id] = SetAside(label_id, " ".join(loss.warnings))
        return str(kept)

    def _about(self, series_uid: str) -> _About:
        with exchange(self._limits.answer_s), pacs_faults():
            found = find_one(self._client, series_uid)
            info = {key: str(found.get(key) or _UNKNOWN) for key in _INFO}
        return _About(str(found.StudyInstanceUID), {_SERIES_UID: series_uid, **info})

    def _dicom_info(self, series_id: str) -> dict[str, Any]:
        return self._about(series_id).info

    def _convert(self, series_uid: str, about: _About) -> None:
        modality = None if about.info[MODALITY] == _UNKNOWN else about.info[MODALITY]
        volume = load_volume(self._folder(series_uid), modality=modality, series_uid=series_uid)
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch) / f"{series_uid}{NIFTI}"
            write_nifti(volume, written)
            IndexedFolder.add_image(self, series_uid, str(written), about.info)

    def _fetch(self, series_uid: str, study_uid: str) -> None:
        folder = self._folder(series_uid)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_FETCHING) as scratch:
            fetched = fetch_series(
                self._client, study_uid, series_uid, Path(scratch) / series_uid, self._limits,
                by_frame=self._fetch_by_frame,
            )  # fmt: skip
            _put(fetched, folder)


@dataclass(frozen=True)
class _About:
    """What the server knows of a series; ``info`` is kept with the image."""

    study_uid: str
    info: dict[str, Any]


def _in_time(answer: KeptAnswer[T]) -> T:
    found = answer.get()
    if found is None:
        raise PacsTimeoutError(_NO_LIST)
    if answer.is_late:
        logger.warning(_LATE)
    return found


def _put(fetched: Path, folder: Path) -> None:
    """Move a complete series to its place, unless another has come there meanwhile."""
    if folder.is_dir() and not _filled(folder):
        folder.rmdir()
    try:
        os.replace(fetched, folder)
    except OSError:
        if not (folder.is_dir() and _filled(folder)):
            raise


def _filled(folder: Path) -> bool:
    return any(folder.iterdir())
