# SPDX-License-Identifier: Apache-2.0
"""The one way of a question: in line, onto the device, into the records."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from medreasoner_infer.hooks import NO_HOOKS, Hooks
from medreasoner_infer.imaging import Volume, write_mask
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.types import OUTCOME_WORDS
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.call import Call
from monailabel_app.inference.gate import InferenceGate
from monailabel_app.store import RecordStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answer:
    """A recorded result and the volume whose grid its mask is on."""

    result: InferenceResult
    volume: Volume


class AnsweringService:
    """Waits in line, loads the volume, asks the pipeline when its turn comes, records the result.

    Args:
        gate: before the device.
        questions: before the reasoner where that is another machine: its answers are waited for
            without the device, which who only clicks may use meanwhile (the segmenter itself runs
            one at a time). If not given, questions pass ``gate``.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        volumes: VolumeCache,
        records: RecordStore,
        gate: InferenceGate,
        questions: InferenceGate | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._volumes = volumes
        self._records = records
        self._clicks = (gate.anteroom(), gate)
        self._questions = (questions.anteroom(), questions) if questions else self._clicks

    def answer(self, call: Call, hooks: Hooks = NO_HOOKS) -> Answer:
        """Answer a question, or segment what the reader drew, and record it.

        The volume is loaded while another question is still being answered, one ahead at most.

        Raises:
            InputError: if the image cannot be read or the request does not fit it.
            ServiceError: if a model is not available, the line is full, or recording fails.
            CancelledError: if the caller left.
        """
        anteroom, gate = self._questions if call.asks_reasoner else self._clicks
        with anteroom.slot(hooks.cancelled):
            volume = self._volumes.get(call.source)
            request = call.request(volume)
            with gate.slot(hooks.cancelled):
                if isinstance(request, AskRequest):
                    result = self._pipeline.ask(volume, request, hooks)
                else:
                    result = self._pipeline.segment(volume, request, hooks)
        # Nobody will decide upon the answer to a reader who has left.
        hooks.raise_if_cancelled()
        self._record(call, result, volume)
        return Answer(result, volume)

    def _record(self, call: Call, result: InferenceResult, volume: Volume) -> None:
        self._records.add_inference(
            result,
            task=call.model,
            image_id=call.source.image_id,
            study_uid=call.source.study_uid,
            asked_by=call.asked_by,
            write_mask=lambda path: write_mask(result.mask_ijk, volume, path),
        )
        logger.info(
            "Inference %s by %s: %s in %.2f s",
            result.inference_id,
            call.model,
            OUTCOME_WORDS[result.outcome],
            result.total_s,
        )
