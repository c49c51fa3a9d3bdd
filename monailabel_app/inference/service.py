# SPDX-License-Identifier: Apache-2.0
"""The one way of a question: in line, through the models in turns, into the records."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from medreasoner_infer.hooks import NO_HOOKS, Cancelled, Hooks
from medreasoner_infer.imaging import Volume, write_mask
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.types import OUTCOME_WORDS
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.call import Call
from monailabel_app.inference.device import Device
from monailabel_app.inference.gate import Places
from monailabel_app.inference.line import Line
from monailabel_app.store import RecordStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Answer:
    """A recorded result and the volume whose grid its mask is on."""

    result: InferenceResult
    volume: Volume


class AnsweringService:
    """Loads the volume, asks the pipeline, whose models take turns, and records the result.

    Args:
        device: what the models compute on.
        at_once: questions that are worked at at a time, each with its volume in memory; they wait
            for the reasoner's server, or take turns on the device.
        max_waiting: questions that may wait besides. Who only clicks waits for the device alone,
            and so many may at a time.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        volumes: VolumeCache,
        records: RecordStore,
        device: Device,
        at_once: int,
        max_waiting: int,
    ) -> None:
        self._pipeline = pipeline
        self._volumes = volumes
        self._records = records
        self._device = device
        self._questions = Line(at_once, max_waiting)
        self._clicks = Places(max_waiting + 1)

    @property
    def waiting(self) -> int:
        """How many questions wait in line."""
        return self._questions.waiting

    def answer(self, call: Call, hooks: Hooks = NO_HOOKS) -> Answer:
        """Answer a question, or segment what the reader drew, and record it.

        Raises:
            InputError: if the image cannot be read or the request does not fit it.
            ServiceError: if a model is not available, the line is full, or recording fails.
            CancelledError: if the caller left.
        """
        # Where nobody logs in, each call stands for a reader.
        reader = call.asked_by or object()
        turns = replace(hooks, take_turn=self._device.turns_of(reader, hooks.cancelled))
        with self._place(call, reader, hooks.cancelled):
            volume = self._volumes.get(call.source)
            request = call.request(volume)
            if isinstance(request, AskRequest):
                result = self._pipeline.ask(volume, request, turns)
            else:
                result = self._pipeline.segment(volume, request, turns)
        # Nobody will decide upon the answer to a reader who has left.
        hooks.raise_if_cancelled()
        self._record(call, result, volume)
        return Answer(result, volume)

    def _place(
        self, call: Call, reader: Hashable, cancelled: Cancelled | None
    ) -> AbstractContextManager[None]:
        if call.asks_reasoner:
            return self._questions.place(reader, cancelled=cancelled)
        return self._clicks.place()

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
