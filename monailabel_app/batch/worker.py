# SPDX-License-Identifier: Apache-2.0
"""What a process does: load the models once, then answer image by image."""

from __future__ import annotations

import functools
import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.errors import InputError, MedReasonerError
from medreasoner_infer.imaging.dicom_file import open_dicom
from medreasoner_infer.imaging.dicom_header import modality_of
from medreasoner_infer.imaging.formats import ImageFormat, format_of
from medreasoner_infer.imaging.places import files_below
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.result import InferenceResult
from monailabel_app.batch.journal import ProcessJournal
from monailabel_app.batch.keeping import Archived, Files, Keeper, Recorded
from monailabel_app.batch.questions import Question
from monailabel_app.batch.results import Results
from monailabel_app.batch.work import (
    KEPT_MASK_BYTES,
    ImageWork,
    Models,
    Pair,
    WorkerSettings,
    pair_key,
)
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.site.opening import open_archive, open_records
from monailabel_app.site.paths import SitePaths

if TYPE_CHECKING:
    from monailabel_app.dicom.archive import ResultArchive
    from monailabel_app.studies.pacs import PacsStudies

logger = logging.getLogger(__name__)

#: Series of a PACS while they are asked about, in the folder of the run.
FETCHED = "fetched"


def answer_image(settings: WorkerSettings, work: ImageWork) -> list[Pair]:
    """Ask all questions about an image; a fault is told of the pair that met it.

    Raises:
        ModelUnavailableError: a model cannot be loaded, so that nothing can be answered.
    """
    return _worker(settings).answer(work)


def models_of(settings: WorkerSettings, _: None = None) -> Models:
    """Load the models of this process, and tell which they are.

    Raises:
        ModelUnavailableError: a model cannot be loaded.
    """
    return _worker(settings).models


@functools.lru_cache(maxsize=1)
def _worker(settings: WorkerSettings) -> Worker:
    from monailabel_app.common.privacy import quiet_request_logs

    quiet_request_logs()
    if settings.threads is not None:
        import torch

        torch.set_num_threads(settings.threads)
    return Worker(settings)


class Worker:
    """Models, records and journal of one process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._pipeline = Pipeline.from_registry(
            settings.reasoner,
            settings.segmenter,
            device=settings.device,
            reasoner_url=settings.reasoner_url,
        )
        self._volumes = VolumeCache(settings.volume_bytes)
        self._images = _Images(settings)
        self._keeper = self._open_keeper(settings)
        self._journal = ProcessJournal(settings.out)

    def _open_keeper(self, settings: WorkerSettings) -> Keeper:
        if settings.results is Results.FILES:
            return Files(self._pipeline, self._volumes, settings.out)
        records = open_records(self._images.paths, KEPT_MASK_BYTES)
        if settings.results is Results.DATASET:
            return Recorded(self._pipeline, self._volumes, records)
        return Archived(self._pipeline, self._volumes, records, self._images.archive())

    @property
    def models(self) -> Models:
        """Reasoner and segmenter, loaded now if they were not yet."""
        return self._pipeline.reasoner.identity, self._pipeline.segmenter.identity

    def answer(self, work: ImageWork) -> list[Pair]:
        """What came of each question."""
        with self._journal.at_work():
            try:
                with self._images.source(work) as source:
                    return [self._pair(work, source, question) for question in work.questions]
            except (MedReasonerError, OSError) as error:
                return [_failed(self._begin(work, each), error) for each in work.questions]

    def _pair(self, work: ImageWork, source: ImageSource, question: Question) -> Pair:
        begin = time.perf_counter()
        pair = self._begin(work, question)
        try:
            aside = self._filter_not_passed(source, question)
            if aside is not None:
                pair = replace(pair, left_out=aside)
                self._journal.left_out(pair)
                return pair
            pair = self._answered(pair, work, source)
        except (MedReasonerError, OSError) as error:
            return _failed(pair, error)
        except Exception as error:  # noqa: BLE001 - the boundary: the other studies must go on
            logger.error("A study of a batch met a fault: %s", type(error).__name__)
            return _failed(pair, error)
        pair = replace(pair, seconds=round(time.perf_counter() - begin, 3))
        self._journal.answered(pair)
        return pair

    def _begin(self, work: ImageWork, question: Question) -> Pair:
        return Pair(pair_key(work.image_id, question, self.models), work.image_id, question)

    def _answered(self, pair: Pair, work: ImageWork, source: ImageSource) -> Pair:
        """The pair with its answer, under the key of the models that gave it."""

        def begun(result: InferenceResult) -> None:
            models = result.reasoner, result.segmenter
            key = pair_key(work.image_id, pair.question, models)
            self._journal.begun(key, result.inference_id)

        kept = self._keeper.finish(source, pair.question, work.begun.get(pair.key, ()))
        if kept is None:
            kept = self._keeper.ask(source, pair.question, pair.key, begun)
        inference = kept.inference
        models = inference.reasoner, inference.segmenter
        return replace(
            pair,
            key=pair_key(work.image_id, pair.question, models),
            outcome=inference.outcome,
            inference_id=inference.inference_id,
            place=kept.place,
        )

    def _filter_not_passed(self, source: ImageSource, question: Question) -> str | None:
        if question.modality is None and question.body_part is None:
            return None
        modality, body_part = _said_by_header(source)
        if question.body_part not in (None, body_part):
            return "body_part"
        if question.modality is None:
            return None
        said = modality or source.modality or self._volumes.get(source).modality
        return None if said == question.modality else "modality"


class _Images:
    """Where the voxels of an image lie; of a PACS they are fetched, and removed afterwards."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.paths = SitePaths.of(settings.studies, settings.data_dir)
        self._pacs: PacsStudies | None = None
        # Whoever reviews a draft needs its images anyway, so they stay with the viewers' ones.
        self._is_own = settings.results is not Results.DATASET
        self._needs_dicom = settings.results is Results.SEG
        if self.paths.is_pacs:
            from monailabel_app.studies.pacs import PacsStudies

            own = settings.out / FETCHED / uuid.uuid4().hex
            self._pacs = PacsStudies.connect(
                settings.studies, own_cache=own if self._is_own else None
            )

    def archive(self) -> ResultArchive:
        """Where the results of the studies are kept."""
        return open_archive(self.paths, studies=self._pacs)

    @contextmanager
    def source(self, work: ImageWork) -> Iterator[ImageSource]:
        """The image, for as long as the block lasts.

        Raises:
            InputError: there is no such image, or its answers cannot be kept as DICOM.
            PacsUnreachableError: the server does not answer.
        """
        source = work.source
        if source is None:
            if self._pacs is None:
                raise InputError("The studies hold no image of this id.")
            source = self._pacs.image_source(work.image_id)
        if self._needs_dicom and source.dicom_folder is None:
            raise InputError(
                "The image is no DICOM series, so no DICOM can refer to it; take --results files "
                "or dataset."
            )
        try:
            yield source
        finally:
            if self._pacs is not None and self._is_own:
                self._pacs.forget(work.image_id)


def _said_by_header(source: ImageSource) -> tuple[str | None, str | None]:
    """Modality and Body Part Examined of a DICOM series, ``None`` for other images."""
    if source.dicom_folder is None:
        return None, None
    for path in files_below(Path(source.dicom_folder)):
        if format_of(path) is ImageFormat.DICOM:
            header, _ = open_dicom(path, pixels=False)
            if source.series_uid in (None, "", header.get("SeriesInstanceUID")):
                part = str(header.get("BodyPartExamined") or "").strip().upper()
                return modality_of(header), part or None
    return None, None


def _failed(pair: Pair, error: Exception) -> Pair:
    return replace(pair, failed=type(error).__name__, reason=_sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, MedReasonerError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"A file cannot be used ({error.strerror}). Check the disk and its rights."
    return "The study met a fault of the program; tell its developers which kind it was."
