# SPDX-License-Identifier: Apache-2.0
"""The studies of a run: which images a question is for, and where their answers are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from monailabel_app.batch.errors import BatchFolderError
from monailabel_app.batch.keeping import draft_of
from monailabel_app.batch.questions import Question
from monailabel_app.batch.results import Results
from monailabel_app.batch.work import KEPT_MASK_BYTES, Pair, WorkerSettings
from monailabel_app.errors import StudiesWriteError, UnknownImageError
from monailabel_app.images.source import ImageSource
from monailabel_app.site.opening import (
    Site,
    SiteLimits,
    Studies,
    hold_folders,
    open_site,
    open_studies,
    prepare_folders,
)
from monailabel_app.site.paths import SitePaths, require_studies
from monailabel_app.studies.pacs import PacsStudies
from monailabel_app.studies.set_aside import SetAside


class BatchStudies:
    """Images that questions are for, and the site that keeps recorded answers.

    Args:
        studies: the images.
        site: the same with its records; ``None`` where answers are files.
    """

    def __init__(self, studies: Studies, site: Site | None) -> None:
        self._studies, self._site = studies, site

    @cached_property
    def images(self) -> list[str]:
        """Ids of all images, in order."""
        return sorted(self._studies.list_images())

    def set_aside(self) -> tuple[SetAside, ...]:
        """What of the studies is no image that can be asked about, and why."""
        return self._studies.set_aside()

    def chosen(self, question: Question) -> set[str]:
        """The images that a question is for, before its filters.

        Raises:
            UnknownImageError: the studies do not hold what the row names.
            PacsUnreachableError: the server does not answer.
        """
        found = set(self.images)
        if question.image is not None:
            found &= {self._names.get(question.image, "")}
        if question.series is not None:
            found &= {question.series}
        if question.study is not None:
            found &= set(self._images_of_study(question.study))
        if not found and self.images:
            raise UnknownImageError(
                "The studies hold no image that is what the row's columns image, series and study "
                "name; correct them, or leave them empty to ask about all."
            )
        return found

    def source(self, image_id: str) -> ImageSource | None:
        """Where the voxels lie; ``None`` where the process that answers is to fetch them.

        Raises:
            UnknownImageError: the image has gone meanwhile.
        """
        if isinstance(self._studies, PacsStudies):
            return None
        return self._studies.image_source(image_id)

    def keep_draft(self, pair: Pair) -> None:
        """Put the mask of a recorded answer among the labels, for a reader to look at.

        Raises:
            InputError: the image cannot be used.
            ServiceError: records or studies cannot be read or written.
        """
        assert self._site is not None  # nosec B101 # for type checkers
        record = self._site.records.get(pair.inference_id or "")
        draft = draft_of(record, pair.question)
        if draft is None:
            return
        info = dict(draft.info)
        with self._site.studies.label_kept(
            draft.image_id, str(draft.file), draft.tag, info
        ) as submission:
            self._site.results.draft(submission, to_archive=False)

    def send_due(self) -> None:
        """Try to send what waits for the archive, maybe since an earlier run.

        Raises:
            RecordStoreError: the queue cannot be read.
        """
        if self._site is not None:
            self._site.results.send_due()

    def archive_states(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, str, str | None]]:
        """How far the answers that go to the archive are, and what its last fault was."""
        assert self._site is not None  # nosec B101 # for type checkers
        for pair in pairs:
            record = self._site.records.find(pair.inference_id or "")
            if record is not None and record.pacs:
                yield pair, record.pacs[-1].state.value, record.pacs[-1].error

    @cached_property
    def _names(self) -> dict[str, str]:
        """Image ids by themselves and by the names of their files."""
        if isinstance(self._studies, PacsStudies):
            return {image_id: image_id for image_id in self.images}
        infos = ((each, self._studies.get_image_info(each)) for each in self.images)
        files = {str(info.get("name")): each for each, info in infos}
        return {**files, **{image_id: image_id for image_id in self.images}}

    def _images_of_study(self, study_uid: str) -> list[str]:
        if isinstance(self._studies, PacsStudies):
            return self._studies.images_of_study(study_uid)
        infos = ((each, self._studies.get_image_info(each)) for each in self.images)
        return [each for each, info in infos if info.get("StudyInstanceUID") == study_uid]


@contextmanager
def opened(settings: WorkerSettings, *, own_records: bool) -> Iterator[BatchStudies]:
    """Open the studies as the results need them; where answers are files, nothing is written there.

    Args:
        settings: of the run.
        own_records: whether the site named the folder of the records.

    Raises:
        BatchFolderError: the folder of the run lies in the studies.
        FolderInUseError: results go to an archive, and a server that sends them runs already.
        ServiceError: studies or records cannot be opened.
    """
    require_studies(settings.studies)
    paths = SitePaths.of(settings.studies, settings.data_dir)
    _require_outside(settings, paths)
    if settings.results is Results.FILES:
        yield BatchStudies(open_studies(paths, read_only=True, copies=False), None)
        return
    if settings.results is Results.DATASET and not (paths.is_pacs or paths.may_write_studies):
        raise StudiesWriteError(
            "The studies may only be read here, so that they take no drafts; take --results files."
        )
    prepare_folders(paths, own_data_dir=own_records)
    is_archived = settings.results is Results.SEG
    # One process sends what waits; a second one would send it twice.
    lock = hold_folders(paths) if is_archived else None
    try:
        limits = SiteLimits(settings.volume_bytes, KEPT_MASK_BYTES)
        site = open_site(paths, limits, read_only=is_archived, copies=False)
        yield BatchStudies(site.studies, site)
    finally:
        if lock is not None:
            lock.release()


def _require_outside(settings: WorkerSettings, paths: SitePaths) -> None:
    if not paths.is_pacs and settings.out.resolve().is_relative_to(Path(paths.studies).resolve()):
        raise BatchFolderError(
            "The folder for the results lies in the studies, where its pictures would be taken for "
            "images; give one beside them."
        )
