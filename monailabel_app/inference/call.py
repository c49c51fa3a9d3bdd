# SPDX-License-Identifier: Apache-2.0
"""One use of a model, whoever asks: a viewer, a stream, a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Volume, slice_index_at, slice_mapping
from medreasoner_infer.request import AskRequest, SegmentRequest, SliceSelection
from medreasoner_infer.slice_choice import plane_of
from medreasoner_infer.types import XYXY, XYZ, SlicePrompt
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.params import InferParams

ASK_TASK = "medreasoner"
CLICK_TASK = "medreasoner_click"


@dataclass(frozen=True)
class Correction:
    """The reader's own prompt: opposite corners of a box, points inside and outside, LPS mm."""

    box_lps_mm: tuple[XYZ, ...] = ()
    inside_lps_mm: tuple[XYZ, ...] = ()
    outside_lps_mm: tuple[XYZ, ...] = ()

    def request(self, volume: Volume, params: InferParams) -> SegmentRequest:
        """In slice px of the slice that was drawn on; the box is cut at the slice's edge.

        Raises:
            SliceOutOfRangeError: if it lies beside the volume.
        """
        plane = plane_of(volume, params.selection)
        first_lps_mm = (*self.box_lps_mm, *self.inside_lps_mm)[0]
        index = slice_index_at(volume, plane, first_lps_mm)
        mapping = slice_mapping(volume, plane, index)
        points_lps_mm = np.reshape((*self.inside_lps_mm, *self.outside_lps_mm), (-1, 3))
        box: XYXY | None = None
        if self.box_lps_mm:
            height, width = mapping.shape_hw
            corners_px = mapping.lps_to_slice_px(np.array(self.box_lps_mm))
            corners_px = np.clip(corners_px, 0, (width, height))
            (x1, y1), (x2, y2) = corners_px.min(axis=0), corners_px.max(axis=0)
            box = (float(x1), float(y1), float(x2), float(y2))
        prompt = SlicePrompt(
            box,
            tuple((float(x), float(y)) for x, y in mapping.lps_to_slice_px(points_lps_mm)),
            (1,) * len(self.inside_lps_mm) + (0,) * len(self.outside_lps_mm),
        )
        selection = SliceSelection(plane.value, index, window=params.selection.window)
        return SegmentRequest(selection, prompt, propagate=params.propagate)


@dataclass(frozen=True)
class Call:
    """What is asked of which image.

    Attributes:
        model: ``ASK_TASK`` or ``CLICK_TASK``; a click with a question is asked as well.
        source: where the image's voxels are.
        params: question, slice, clicks, and the form of the reply.
        correction: the reader's own prompt, for which the reasoner is not asked.
        asked_by: the reader who is logged in.

    Raises:
        InputError: the model that answers questions is given none.
    """

    model: str
    source: ImageSource
    params: InferParams
    correction: Correction | None = None
    asked_by: str | None = None

    def __post_init__(self) -> None:
        if self.model == ASK_TASK and self.params.query is None:
            raise InputError("The question is missing; type it into the option 'query'.")

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
        )
