# SPDX-License-Identifier: Apache-2.0
"""Looking at the site's images in the background, one at a time and while nobody asks.

Reading an image for its figures, asking a PACS for headers and understanding what readers wrote
take too long for a request, which works with what is known by then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.imaging.places import files_below
from medreasoner_training.next_case import appearance
from medreasoner_training.samples import pseudonym
from monailabel_app.export.identity import header_texts, identity_of
from monailabel_app.export.patients import read_patients
from monailabel_app.export.salt import site_salt
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import read_volume
from monailabel_app.site.opening import Site
from monailabel_app.strategies.looks import FOLDER_NAME, Look, LookFiles, look_name
from monailabel_app.strategies.sorting import (
    KEYWORDS,
    MODALITY,
    PATIENT_ID,
    STUDY_UID,
    Sorts,
    target_of,
)
from monailabel_app.studies.pacs import PacsStudies

logger = logging.getLogger(__name__)

# Of one request; the next one goes on.
MOST_LOOKS, MOST_TEXTS = 256, 256
MOST_BYTES = 1 << 30
_POLL_S = 0.5


@dataclass(frozen=True)
class Wanted:
    """What is to be looked at: all images, the most urgent first, and texts of readers."""

    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listed:
    """What a PACS tells of a series: patient's pseudonym, study, and sorts."""

    patient: str
    study_uid: str
    sorts: Sorts


@dataclass
class _Known:
    """What was found so far; one thread writes, others read."""

    names: dict[str, str] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    listed: Mapping[str, Listed] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)


class Looking:
    """What is known of the images of a site, and the thread that finds out more.

    Args:
        site: whose images.
        is_busy: whether readers' questions are worked at; looking waits meanwhile.
    """

    def __init__(self, site: Site, is_busy: Callable[[], bool]) -> None:
        self._site = site
        self._is_busy = is_busy
        self._files = LookFiles(site.paths.data_dir / FOLDER_NAME)
        self._known = _Known()
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None

    def look(self, image_id: str) -> Look | None:
        """What was seen of an image; ``None`` before."""
        return self._known.looks.get(image_id)

    def listed(self, image_id: str) -> Listed | None:
        """What the PACS tells of a series; ``None`` before it was asked, and of a folder's."""
        return self._known.listed.get(image_id)

    def target(self, text: str) -> str:
        """What a reader's text speaks of, by the vocabulary's name; empty before that is known."""
        return self._known.targets.get(text, "")

    def go_on(self, wanted: Wanted) -> None:
        """Look at what is not known yet, unless that is being done."""
        with self._changing:
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = threading.Thread(
                target=self._work, args=(wanted,), name="next case", daemon=True
            )
            self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Whether the thread ends within some seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _work(self, wanted: Wanted) -> None:
        try:
            self._list_headers(wanted.images)
            self._understand(wanted.texts)
            self._look_at(wanted.images)
        except (MedReasonerError, OSError) as error:
            logger.warning("Images could not be looked at (%s)", type(error).__name__)

    def _list_headers(self, images: Sequence[str]) -> None:
        studies = self._site.studies
        if not isinstance(studies, PacsStudies) or self._known.listed.keys() >= set(images):
            return
        salt = site_salt(self._site.paths.data_dir)
        headers = studies.series_headers((PATIENT_ID, STUDY_UID, *KEYWORDS))
        listed = {}
        for image_id, header in headers.items():
            study = str(header.get(STUDY_UID) or "")
            patient = str(header.get(PATIENT_ID) or "") or study or image_id
            texts = {keyword: header.get(keyword) for keyword in KEYWORDS}
            listed[image_id] = Listed(pseudonym(patient, salt), study, Sorts.of(texts))
        self._known.listed = listed

    def _understand(self, texts: Iterable[str]) -> None:
        known = self._known.targets
        for text in [text for text in texts if text not in known][:MOST_TEXTS]:
            known[text] = target_of(text)

    def _look_at(self, images: Sequence[str]) -> None:
        salt, left = site_salt(self._site.paths.data_dir), MOST_LOOKS
        patients = read_patients(self._site.paths)
        for image_id in images:
            source = self._source(image_id)
            name = None if source is None else look_name(source)
            if source is None or name is None or self._known.names.get(image_id) == name:
                continue
            look = self._files.read(name)
            if look is None and left:
                left -= 1
                self._wait_until_idle()
                info = self._site.studies.get_image_info(image_id)
                patient = identity_of(source, info, patients).patient
                look = _look(source, pseudonym(patient, salt))
                self._files.write(name, look)
            if look is not None:
                self._known.looks[image_id], self._known.names[image_id] = look, name
        self._forget(set(images))

    def _source(self, image_id: str) -> ImageSource | None:
        """Where the image lies; nothing is fetched for being looked at."""
        studies = self._site.studies
        if isinstance(studies, PacsStudies):
            return studies.kept_source(image_id)
        try:
            return studies.image_source(image_id)
        except MedReasonerError:
            return None

    def _wait_until_idle(self) -> None:
        while self._is_busy():
            time.sleep(_POLL_S)

    def _forget(self, images: set[str]) -> None:
        for gone in self._known.names.keys() - images:
            del self._known.looks[gone], self._known.names[gone]
        self._files.keep_only(set(self._known.names.values()))


def _look(source: ImageSource, patient: str) -> Look:
    header: dict[str, str] = {}
    if source.dicom_folder is not None:
        header = header_texts(source.dicom_folder, source.series_uid, KEYWORDS)
    if _bytes_of(source.path) > MOST_BYTES:
        return Look(patient, Sorts.of(header))
    try:
        volume = read_volume(source)
    except MedReasonerError as error:
        logger.warning("An image could not be looked at (%s)", type(error).__name__)
        return Look(patient, Sorts.of(header))
    sorts = Sorts.of({**header, MODALITY: header.get(MODALITY) or volume.modality})
    return Look(patient, sorts, tuple(map(float, appearance(volume))))


def _bytes_of(path: Path) -> int:
    files = files_below(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
