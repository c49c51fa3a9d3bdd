# SPDX-License-Identifier: Apache-2.0
"""A folder of studies: NIfTI, NRRD, MetaImage and picture files, and folders of DICOM series."""

from __future__ import annotations

import logging
import re
import threading
import time
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from medreasoner_infer.errors import InputError, UnreadableImageError
from medreasoner_infer.imaging.places import inside
from monailabel_app.errors import ConflictError, StudiesWriteError, UnknownImageError
from monailabel_app.framework import DataModel, ImageLabelModel
from monailabel_app.images.source import ImageSource
from monailabel_app.studies.dicom_folder import (
    DICOM_NAMES,
    NIFTI,
    DicomSeries,
    SeriesFinder,
    write_nifti_copy,
)
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.placing import writing
from monailabel_app.studies.set_aside import SetAside
from monailabel_app.studies.submissions import RemembersSubmissions

logger = logging.getLogger(__name__)

IMAGE_PATTERNS = (
    "*.nii.gz", "*.nii", "*.nrrd", "*.mha", "*.png", "*.jpg", "*.jpeg", "*.tif", "*.tiff", "*.bmp",
)  # fmt: skip
# The extension that marks a DICOM series in MONAI Label's list; labels never have it.
SERIES_EXTENSION = f".dicom{NIFTI}"
# Code String (CS) of at most 16 characters, DICOM PS3.5, 6.2.
_NEW_ID = re.compile(r"[\w-]([\w. -]*[\w-])?")
_MAX_ID_BYTES = 200
_RESERVED = frozenset({"labels", "datastore_v2", "datastore"})
_OTHER_EXTENSIONS = (".json", ".dcm", ".dicom", ".py", ".pyc", ".pth", ".so", ".bin", ".gz", ".mhd")
_NOT_OPENED = (
    "This is a link to a folder, out of the studies or to nothing, or no ordinary file, and is not "
    "opened. Put the images themselves here."
)
_UNKNOWN = "The studies hold no image of this id; reload the list."
_MODALITY = re.compile(r"[A-Z0-9 _]{1,16}")


class StudiesFolder(RemembersSubmissions, IndexedFolder):
    """MONAI Label's folder of images and labels, and the DICOM series below it.

    A DICOM series is an image whose id is its Series Instance UID (or, where that is empty, made
    from its folder's name) and whose info holds its UIDs and modality. Viewers download a NIfTI
    copy of it from ``series_folder``; questions are answered on the DICOM files themselves, on the
    same voxel grid. Where a series lies is known from the files alone, never from the index.

    Args:
        copies: whether those are made; without, a series is first read when it is asked about.

    Raises:
        StudiesAwayError: there is no such folder; it is not made.
    """

    more_extensions: ClassVar[tuple[str, ...]] = (SERIES_EXTENSION,)

    def __init__(
        self,
        studies: Path,
        series_folder: Path,
        *,
        auto_reload: bool = True,
        read_only: bool = False,
        copies: bool = True,
    ) -> None:
        # MONAI Label joins paths, so that one seen from here would be looked for below itself.
        self._studies, self._series_folder = studies.absolute(), series_folder.absolute()
        self._finder = SeriesFinder(self._studies)
        self._copies = copies
        self._series: dict[str, DicomSeries] = {}
        self._set_aside_now: tuple[SetAside, ...] = ()
        self._looking = threading.Lock()
        super().__init__(
            str(self._studies),
            extensions=IMAGE_PATTERNS,
            auto_reload=auto_reload,
            read_only=read_only,
        )

    def image_source(self, image_id: str) -> ImageSource:
        """Where the image's voxels are.

        Raises:
            UnknownImageError: if the studies hold no image of this id.
        """
        path, series = self.image_file(image_id), self._series.get(image_id)
        entry = self._datastore.objects.get(image_id)
        if entry is None:
            raise UnknownImageError(_UNKNOWN)
        if entry.image.ext != SERIES_EXTENSION:
            if path is None:
                raise UnknownImageError(_UNKNOWN)
            return ImageSource(path, image_id, modality=_modality(entry.image.info))
        has_copy = path is not None or not self._copies
        if series is None or not has_copy or not inside(self._studies, series.folder):
            raise UnknownImageError(_UNKNOWN)
        return ImageSource(
            series.folder,
            image_id,
            series_uid=series.series_uid,
            dicom_folder=series.folder,
            study_uid=series.study_uid or None,
        )

    def add_new_image(self, image_id: str, file: Path, info: Mapping[str, Any]) -> None:
        """Add an image under an id that nothing else here could be taken for.

        Raises:
            InputError: the id cannot be used.
            ConflictError: an image or file of this id is here already, whatever its case.
            StudiesWriteError, StudiesAwayError: it cannot be written; nothing was changed.
        """
        with self._locked():
            self._reload()
            self.require_new(image_id)
            self.add_image(image_id, str(file), info)

    def require_new(self, image_id: str) -> None:
        """Check that an id may be given to a new image.

        Raises:
            InputError: the id cannot be used.
            ConflictError: an image or file of this id is here already, whatever its case.
        """
        check_new_id(image_id)
        taken = {alike(known) for known in self._datastore.objects}
        with writing():
            taken |= {alike(_stem(path.name)) for path in self._studies.iterdir()}
        if alike(image_id) in taken:
            raise ConflictError("The studies hold an image of this id already; choose another.")

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels.

        Raises:
            InputError: it is a DICOM series, whose files are the site's own.
        """
        if image_id in self._series:
            raise InputError(
                "The image is a DICOM series; its files are removed from the folder of studies by "
                "the administrator, and it leaves the list then."
            )
        super().remove_image(image_id)

    def _filename(self, id: str, ext: str) -> str:
        if ext == SERIES_EXTENSION:
            return str(self._series_folder / f"{id}{NIFTI}")
        return super()._filename(id, ext)

    def _more_roots(self) -> tuple[Path, ...]:
        return (self._series_folder,)

    def set_aside(self) -> tuple[SetAside, ...]:
        """Files and series that are not offered, as of when the studies were looked through."""
        return self._set_aside_now

    def _find_series(self) -> list[SetAside]:
        """Look for DICOM series; returns those that cannot be read.

        They are tried again at each look: a share may have failed for a moment.
        """
        readable, unreadable = {}, []
        for series in self._finder.find():
            try:
                if self._copies:
                    write_nifti_copy(series, self._series_folder)
                readable[series.image_id] = series
            except (UnreadableImageError, StudiesWriteError) as error:
                unreadable.append(SetAside(self._place_of(series), str(error)))
        self._series = readable
        return unreadable

    def _found_images(self) -> dict[str, DataModel]:
        unreadable = self._find_series()
        found = super()._found_images()
        unlisted = self._unlisted({f"{name}{image.ext}" for name, image in found.items()})
        before = self._set_aside_now
        self._set_aside_now = (*self._finder.damaged(), *unreadable, *unlisted)
        if self._set_aside_now != before:
            logger.warning("%d file(s) or series are left out", len(self._set_aside_now))
        for image_id, series in self._series.items():
            info = {"ts": int(time.time()), **self._series_info(series)}
            found[image_id] = DataModel(info=info, ext=SERIES_EXTENSION)
        return found

    def _unlisted(self, listed: Collection[str]) -> Iterator[SetAside]:
        """Image files that are in no list, which go by the names in the folder itself."""
        for path in self._finder.other_images():
            name = path.relative_to(self._studies).as_posix()
            if name not in listed:
                yield SetAside(name, _why_unlisted(path, is_below="/" in name))
        for path in self._finder.not_opened():
            yield SetAside(path.relative_to(self._studies).as_posix(), _NOT_OPENED)

    def _renewed(
        self, entry: ImageLabelModel | None, image_id: str, image: DataModel
    ) -> ImageLabelModel:
        if entry is None or image.ext != SERIES_EXTENSION:
            return super()._renewed(entry, image_id, image)
        known = {**image.info, **entry.image.info, **self._series_info(self._series[image_id])}
        return ImageLabelModel(image=DataModel(info=known, ext=image.ext), labels=entry.labels)

    def _reconcile_datastore(self) -> None:
        with self._looking:
            before = self._listed_series()
            super()._reconcile_datastore()
            for image_id in before - self._listed_series():
                Path(self._filename(image_id, SERIES_EXTENSION)).unlink(missing_ok=True)

    def _is_there(self, image_id: str, entry: ImageLabelModel) -> bool:
        if entry.image.ext == SERIES_EXTENSION:
            return image_id in self._series
        return super()._is_there(image_id, entry)

    def _listed_series(self) -> set[str]:
        objects = self._datastore.objects
        return {i for i, known in objects.items() if known.image.ext == SERIES_EXTENSION}

    def _series_info(self, series: DicomSeries) -> dict[str, Any]:
        return {
            "name": f"{series.image_id}{NIFTI}",
            "SeriesInstanceUID": series.series_uid,
            "StudyInstanceUID": series.study_uid,
            "Modality": series.modality,
            "dicom_folder": self._place_of(series),
        }

    def _place_of(self, series: DicomSeries) -> str:
        return series.folder.relative_to(self._studies).as_posix()


def check_new_id(image_id: str) -> None:
    """Check an id that a caller chooses.

    Raises:
        InputError: it is no name, or could be taken for a file of another kind.
    """
    if not _NEW_ID.fullmatch(image_id) or len(image_id.encode()) > _MAX_ID_BYTES:
        raise InputError(
            "The image's name cannot be used; expected letters, digits, '.', '-', '_' and spaces "
            f"between them, at most {_MAX_ID_BYTES} bytes."
        )
    if _stem(image_id) != image_id or alike(image_id) in _RESERVED:
        raise InputError(
            "The image's name cannot be used: it ends like a file's, or names what the server "
            "keeps here itself. Leave the extension away, or choose another name."
        )


def alike(name: str) -> str:
    """The same for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _stem(name: str) -> str:
    """A file's name without an extension that an image or a label may have."""
    for extension in (*(pattern.lstrip("*") for pattern in IMAGE_PATTERNS), *_OTHER_EXTENSIONS):
        if name.lower().endswith(extension):
            return name[: -len(extension)]
    return name


def _why_unlisted(path: Path, *, is_below: bool) -> str:
    if path.name.lower().endswith(DICOM_NAMES):
        return "The file is named as DICOM and is none: it is empty or damaged. Export it again."
    if is_below:
        return (
            "Files of this format are offered from the folder of studies itself, and this one lies "
            "in a folder within; move it there."
        )
    if any(path.name.endswith(pattern.lstrip("*")) for pattern in IMAGE_PATTERNS):
        return (
            "Another image has the same name but for the extension, or the name cannot be an "
            "image's; rename the file."
        )
    return f"The name has no extension of an image; expected one of {', '.join(IMAGE_PATTERNS)}."


def _modality(info: dict[str, Any]) -> str | None:
    """What the administrator's index says of a file that does not tell itself."""
    said = info.get("Modality")
    return said if isinstance(said, str) and _MODALITY.fullmatch(said) else None
