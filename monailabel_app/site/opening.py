# SPDX-License-Identifier: Apache-2.0
"""Opening a site: here alone it is decided whether its studies are a folder or a PACS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from monailabel_app.common.private_files import close_to_others, private_folder
from monailabel_app.dicom.archive import FolderArchive, ResultArchive
from monailabel_app.dicom.recording import ResultRecorder
from monailabel_app.errors import SettingsError, UnknownImageError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.site.paths import SitePaths, require_studies
from monailabel_app.store import RecordStore
from monailabel_app.store.moving import Moved, move_records
from monailabel_app.store.sqlite import DATABASE_NAME
from monailabel_app.store.store import DEFAULT_KEEP_MASK_BYTES
from monailabel_app.studies.local import StudiesFolder
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.studies.scratch import Scratch
from monailabel_app.studies.server_lock import ServerLock

Studies = StudiesFolder | PacsStudies


@dataclass(frozen=True)
class SiteLimits:
    """How much is kept: volumes in memory, masks beside the records (bytes)."""

    volume_bytes: int
    mask_bytes: int


@dataclass(frozen=True)
class Site:
    """Everything of a site that outlives a request.

    Attributes:
        studies: images and labels, as MONAI Label's datastore.
        records: what was asked, answered, submitted and decided.
        volumes: kept in memory between questions.
        results: what becomes of submitted labels and decisions.
        scratch: where uploads lie until they are looked at.
    """

    paths: SitePaths
    studies: Studies
    records: RecordStore
    volumes: VolumeCache
    results: ResultRecorder
    scratch: Scratch

    def image_source(self, image_id: object) -> ImageSource:
        """Where the image of that id lies.

        Raises:
            UnknownImageError: if the studies hold no such image.
        """
        if not isinstance(image_id, str) or not image_id:
            raise UnknownImageError("The request names no image; give the id of one.")
        return self.studies.image_source(image_id)


def open_site(
    paths: SitePaths,
    limits: SiteLimits,
    *,
    orthanc_url: str | None = None,
    auto_reload: bool = False,
    read_only: bool = False,
    copies: bool = True,
) -> Site:
    """Open studies, records and archive.

    Args:
        paths: of the site.
        limits: of what is kept.
        orthanc_url: REST API of an Orthanc that serves the studies, where replaced results are
            deleted.
        auto_reload: whether files that come and go are noticed at once.
        read_only: whether a folder of studies is left as it is; one that may not be written to
            always is.
        copies: whether the DICOM series of a folder get their NIfTI copies for viewers.

    Raises:
        StudiesAwayError: there is no folder of studies; it is not made.
        ServiceError: the records cannot be opened.
    """
    studies = open_studies(paths, auto_reload=auto_reload, read_only=read_only, copies=copies)
    volumes = VolumeCache(limits.volume_bytes)
    records = open_records(paths, limits.mask_bytes)
    studies.take_back_unrecorded(records.is_last_label)
    archive = open_archive(paths, orthanc_url, studies)
    sent = (studies.label_sent,) if isinstance(studies, PacsStudies) else ()
    results = ResultRecorder(records, studies.image_source, volumes, archive, *sent)
    return Site(paths, studies, records, volumes, results, Scratch(paths.scratch))


def open_records(paths: SitePaths, mask_bytes: int = DEFAULT_KEEP_MASK_BYTES) -> RecordStore:
    """The records of a site, wherever they are.

    Raises:
        ServiceError: they cannot be opened.
        SettingsError: the database's address cannot be used, or its files lie in another folder.
        MissingExtraError: the database's driver is not installed.
    """
    return RecordStore(paths.data_dir, mask_bytes, paths.database)


def find_records(paths: SitePaths) -> RecordStore | None:
    """The records of a site, ``None`` where nothing was recorded yet.

    Raises:
        as :func:`open_records`.
    """
    if paths.database is None and not (paths.data_dir / DATABASE_NAME).is_file():
        return None
    return open_records(paths)


def move_to_database(data_dir: Path, address: str) -> Moved:
    """Move the records of a folder into a database server, while no server uses the folder.

    Raises:
        FolderInUseError: a server does.
        SettingsError: there is nothing to move, or the database cannot take it.
        RecordStoreError: it could not be done; the records are as before.
        MissingExtraError: the database's driver is not installed.
    """
    if not data_dir.is_dir():
        raise SettingsError(f"There is no folder {data_dir}; give the one of the records.")
    lock = ServerLock([data_dir])
    try:
        return move_records(data_dir, address)
    finally:
        lock.release()


def open_studies(
    paths: SitePaths,
    *,
    auto_reload: bool = False,
    read_only: bool = False,
    copies: bool = True,
) -> Studies:
    """The datastore of a site.

    Raises:
        StudiesAwayError: there is no folder of studies; it is not made.
    """
    if paths.is_pacs:
        return PacsStudies.connect(paths.studies, paths.fetched)
    return StudiesFolder(
        Path(paths.studies), paths.series, auto_reload=auto_reload,
        read_only=read_only or not paths.may_write_studies, copies=copies,
    )  # fmt: skip


def open_archive(
    paths: SitePaths, orthanc_url: str | None = None, studies: Studies | None = None
) -> ResultArchive:
    """Where the results of a site are kept; of a folder they are read without its datastore."""
    if paths.is_pacs:
        pacs = studies if isinstance(studies, PacsStudies) else open_studies(paths)
        assert isinstance(pacs, PacsStudies)  # nosec B101 # for type checkers
        return pacs.archive(orthanc_url)
    return FolderArchive(Path(paths.studies), paths.results)


def prepare_folders(paths: SitePaths, *, own_data_dir: bool) -> None:
    """Make the folder of the records, which only this account may read.

    Args:
        own_data_dir: whether the site named it, so that its parents may be made as well.

    Raises:
        StudiesAwayError: there is no folder of studies; it is not made.
        SettingsError: the folder of the records cannot be made, or several workers may share the
            database and the folder is this one's own.
    """
    require_studies(paths.studies)
    if paths.is_shared and paths.data_dir == paths.own_dir:
        raise SettingsError(
            "Several workers may use the records' database, so --records (or --conf data_dir) must "
            "name the folder that all of them share."
        )
    try:
        if paths.is_shared:
            private_folder(paths.own_dir)
        private_folder(paths.data_dir, parents=paths.is_pacs or own_data_dir)
    except OSError as error:
        raise SettingsError(
            f"The records cannot be kept in {paths.data_dir} ({error.strerror}). Give --records "
            "(or --conf data_dir) a folder that may be written to."
        ) from error


def hold_folders(paths: SitePaths) -> ServerLock:
    """Keep other servers off a site's folders, and other accounts off its records.

    A folder that workers share is held by none of them, each holds its own.

    Raises:
        FolderInUseError: another server uses the same folders.
    """
    studies = [] if paths.is_pacs else [Path(paths.studies)]
    lock = ServerLock([paths.own_dir, *(studies if paths.may_write_studies else ())])
    Scratch(paths.scratch).empty()
    own = paths.own_dir.resolve()
    if not any(folder.resolve().is_relative_to(own) for folder in studies):
        close_to_others(paths.own_dir)
    return lock
