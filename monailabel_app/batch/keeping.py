# SPDX-License-Identifier: Apache-2.0
"""An answer by the product's one way, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Volume
from medreasoner_infer.output import write_result
from medreasoner_infer.request import AskRequest
from medreasoner_infer.result import Inference, InferenceResult
from monailabel_app.batch.questions import Question
from monailabel_app.batch.work import draft_tag
from monailabel_app.common.private_files import private_folder
from monailabel_app.errors import RecordStoreError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.call import ASK_TASK, Call
from monailabel_app.inference.device import Device
from monailabel_app.inference.measures import Measures
from monailabel_app.inference.service import AnsweringService
from monailabel_app.labels.segments import segment_info
from monailabel_app.store import InferenceRecord, LabelSubmission, RecordStore

if TYPE_CHECKING:
    from medreasoner_infer.pipeline import Pipeline
    from monailabel_app.dicom.archive import ResultArchive

ANSWERS = "answers"
OnBegun = Callable[[InferenceResult], None]


@dataclass(frozen=True)
class Kept:
    """An answer, and where it is: a folder seen from that of the run, or the tag of its draft."""

    inference: Inference
    place: str


class Keeper(Protocol):
    """Asks, and keeps the answer."""

    def ask(self, source: ImageSource, question: Question, key: str, begun: OnBegun) -> Kept:
        """Ask a question about an image, and keep the answer.

        Args:
            source: of the image.
            question: to be asked.
            key: of the pair.
            begun: is told the answer before anything of it is kept.

        Raises:
            InputError: image or question cannot be used.
            ServiceError: a model, the records or the PACS is not available.
        """

    def finish(
        self, source: ImageSource, question: Question, inference_ids: tuple[str, ...]
    ) -> Kept | None:
        """Keep what a killed process had recorded; ``None`` where it had recorded nothing.

        Raises:
            InputError: the image cannot be used.
            ServiceError: the records cannot be read or written.
        """


class Files:
    """Answer, mask and picture as ``medreasoner ask`` writes them, in a folder for each pair."""

    def __init__(self, pipeline: Pipeline, volumes: VolumeCache, out: Path) -> None:
        self._pipeline, self._volumes, self._out = pipeline, volumes, out

    def ask(self, source: ImageSource, question: Question, key: str, begun: OnBegun) -> Kept:
        """Ask, and write the files; what a killed process left of them is replaced."""
        volume = self._volumes.get(source)
        request = Call(ASK_TASK, source, question.params).request(volume)
        assert isinstance(request, AskRequest)  # nosec B101 # for type checkers
        result = self._pipeline.ask(volume, request)
        place = f"{ANSWERS}/{key[:16]}"
        write_result(result, result.mask_ijk, volume, private_folder(self._out / place))
        return Kept(result, place)

    def finish(
        self, source: ImageSource, question: Question, inference_ids: tuple[str, ...]
    ) -> Kept | None:
        """Files are written last, so there is nothing to finish."""
        return None


class Recorded:
    """Answers that the site's records hold, as those to a reader's question.

    Args:
        pipeline: the models.
        volumes: kept between questions.
        records: of the site.
    """

    def __init__(self, pipeline: Pipeline, volumes: VolumeCache, records: RecordStore) -> None:
        self._records = records
        measures = Measures()
        # Nobody else asks this process.
        self._answering = AnsweringService(
            pipeline,
            volumes,
            records,
            Device(measures),
            at_once=1,
            max_waiting=0,
            measures=measures,
        )

    def ask(self, source: ImageSource, question: Question, key: str, begun: OnBegun) -> Kept:
        """Ask, record, and keep."""

        def on_slice(result: InferenceResult, _: Volume) -> None:
            begun(result)

        call = Call(ASK_TASK, source, question.params)
        answer = self._answering.answer(call, Hooks(slice_answered=on_slice))
        return self._kept(self._records.get(answer.result.inference_id), source, question)

    def finish(
        self, source: ImageSource, question: Question, inference_ids: tuple[str, ...]
    ) -> Kept | None:
        """Keep what is recorded."""
        for record in filter(None, map(self._records.find, inference_ids)):
            return self._kept(record, source, question)
        return None

    def _kept(self, record: InferenceRecord, source: ImageSource, question: Question) -> Kept:
        return Kept(record.result, draft_tag(question))


class Archived(Recorded):
    """Recorded answers that are also sent to an archive, as results that nobody has reviewed.

    An answer that says nothing stays in the records: a report would stand for one that does.

    Args:
        archive: a PACS, or the folder of DICOM results.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        volumes: VolumeCache,
        records: RecordStore,
        archive: ResultArchive,
    ) -> None:
        super().__init__(pipeline, volumes, records)
        self._volumes, self._archive = volumes, archive

    def _kept(self, record: InferenceRecord, source: ImageSource, question: Question) -> Kept:
        from monailabel_app.dicom.recording import ResultRecorder

        submission = draft_of(record, question)
        if submission is not None:
            recorder = ResultRecorder(self._records, lambda _: source, self._volumes, self._archive)
            recorder.send_label(recorder.draft(submission, to_archive=True))
        return super()._kept(record, source, question)


def draft_of(record: InferenceRecord, question: Question) -> LabelSubmission | None:
    """The recorded mask as a label that nobody has looked at.

    ``None`` where the answer says nothing: an empty label would say that nothing is there.

    Raises:
        RecordStoreError: the mask is not kept.
    """
    if not record.can_be_accepted or record.image_id is None:
        return None
    if record.mask_file is None:
        raise RecordStoreError(
            "The mask of the answer is not kept any more, so there is no draft of it. Let the "
            "server keep more (--conf keep_masks_mb), and ask by a run into a new folder."
        )
    info = {"inference_id": record.id, "label_info": [segment_info(record.id)]}
    return LabelSubmission(record.image_id, draft_tag(question), record.mask_file, info)
