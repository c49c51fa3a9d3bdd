# SPDX-License-Identifier: Apache-2.0
"""One use of a model, whoever asks: a viewer, a stream, a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Volume
from medreasoner_infer.request import AskRequest, SegmentRequest
from medreasoner_infer.result import InferenceResult
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.correction import Correction, EarlierAnswer
from monailabel_app.inference.earlier import EarlierRecord
from monailabel_app.inference.params import InferParams

ASK_TASK = "medreasoner"
CLICK_TASK = "medreasoner_click"


@dataclass(frozen=True)
class Call:
    """What is asked of which image.

    Attributes:
        model: ``ASK_TASK`` or ``CLICK_TASK``; a click with a question is asked as well.
        source: where the image's voxels are.
        params: question, slice, clicks, and the form of the reply.
        correction: the reader's own prompt, for which the reasoner is not asked; an earlier answer
            is corrected by the clicks of ``params``.
        asked_by: the reader who is logged in.
        earlier: the recorded answer that a question goes on from.
        keep: what is recorded of the result, where more is to be said of it.

    Raises:
        InputError: the model that answers questions is given none, or what is asked of the
            segmenter is said to follow up on an answer.
    """

    model: str
    source: ImageSource
    params: InferParams
    correction: Correction | EarlierAnswer | None = None
    asked_by: str | None = None
    earlier: EarlierRecord | None = None
    keep: Callable[[InferenceResult], InferenceResult] | None = None

    def __post_init__(self) -> None:
        if self.model == ASK_TASK and self.params.query is None:
            raise InputError("The question is missing; type it into the option 'query'.")
        about = self.params.about or self.params.about_inference
        if about is not None and not self.asks_reasoner:
            raise InputError("'about' goes with a question, and none is asked; leave it out.")

    @property
    def asks_reasoner(self) -> bool:
        """Whether the reasoner answers, and not the segmenter alone."""
        return self.correction is None and self.params.query is not None

    def request(self, volume: Volume) -> AskRequest | SegmentRequest:
        """What is asked of the pipeline.

        Raises:
            InputError: if it does not fit the volume.
        """
        params = self.params
        if self.correction is not None:
            return self.correction.request(volume, params)
        if params.query is None:
            return SegmentRequest(
                params.selection, clicks=params.clicks, propagate=params.propagate
            )
        return AskRequest(
            query=params.query,
            selection=params.selection,
            propagate=params.propagate,
            samples=params.samples,
            seed=params.seed,
            clicks=params.clicks,
            about=params.about,
            known=params.known,
            removal_test=params.removal_test,
            earlier=None if self.earlier is None else self.earlier.result(volume),
        )
