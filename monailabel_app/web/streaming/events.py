# SPDX-License-Identifier: Apache-2.0
"""The events of a stream: names, and data as plain JSON types.

==========  =====================================================================================
event       data
==========  =====================================================================================
accepted    ``stream_id``, by which ``DELETE /medreasoner/streams/{stream_id}`` cancels
slice       ``plane``, ``index``, ``explanation``: which slice is read
progress    ``stage`` (``search``, ``propagate``), ``done``, ``total``
text        ``text``: the next piece of the reasoning
answer      ``present``, ``outcome``, ``confidence``, ``agreement``, ``prompts``, ``slice``, ... of
            the result, and the image's ``ijk_to_lps``
mask        ``scope`` (``slice``, ``volume``), ``shape_ijk``, ``ijk_to_lps``, ``runs``
doubt       ``readings``, ``agreement``, ``named``, ... of the result's doubt, where answers were
            sampled, and by voxel how many readings hold it: ``shape_ijk``, ``ijk_to_lps``,
            ``counts`` and ``runs``, the value and the length of each run
record      what ``/infer`` gives as params; the inference is recorded
error       ``status``, ``detail``: a sentence
==========  =====================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from medreasoner_infer.hooks import Cancelled, Hooks
from medreasoner_infer.imaging import Plane, Volume
from medreasoner_infer.result import Inference, InferenceResult, SliceChoice

Emit = Callable[[str, dict[str, Any]], None]

_ANSWER_KEYS = (
    "present",
    "outcome",
    "reasoning",
    "confidence",
    "calibrated",
    "agreement",
    "prompts",
    "slice",
    "slice_choice",
    "warnings",
    "follow_up",
    "checks",
    "reading",
    "kind",
    "inference_id",
)
_TAG = re.compile(r"</?think>")
_ANSWER_TAG = "<answer"
_LONGEST_TAG = len("</think>")


def mask_runs(mask_ijk: np.ndarray) -> list[int]:
    """Lengths of the runs of equal voxels, the first of them zeros (it may be 0 long).

    Args:
        mask_ijk: of shape (I, J, K); I varies fastest, as in NIfTI, NRRD and vtk.js.
    """
    flat = mask_ijk.ravel(order="F") != 0
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size])))
    return [0, *runs.tolist()] if flat.size and flat[0] else runs.tolist()


def mask_event(scope: str, mask_ijk: np.ndarray, ijk_to_lps: np.ndarray) -> dict[str, Any]:
    """The data of a ``mask`` event; the affine (4, 4) maps voxel centres to LPS mm."""
    grid = mask_grid(mask_ijk, ijk_to_lps)
    return {"scope": scope, **grid, "runs": mask_runs(mask_ijk)}


def mask_grid(values_ijk: np.ndarray, ijk_to_lps: np.ndarray) -> dict[str, Any]:
    """Where voxels (I, J, K) lie: their number along each axis, and the affine."""
    return {
        "shape_ijk": list(values_ijk.shape),
        "ijk_to_lps": np.asarray(ijk_to_lps).tolist(),
    }


def doubt_event(
    answer: Inference, readings_ijk: np.ndarray, ijk_to_lps: np.ndarray
) -> dict[str, Any]:
    """The data of a ``doubt`` event.

    Args:
        answer: with its doubt.
        readings_ijk: (I, J, K), how many readings hold each voxel.
        ijk_to_lps: (4, 4), maps voxel centres to LPS mm.
    """
    counts, runs = count_runs(readings_ijk)
    grid = mask_grid(readings_ijk, ijk_to_lps)
    return {**answer.to_dict()["doubt"], **grid, "counts": counts, "runs": runs}


def count_runs(counts_ijk: np.ndarray) -> tuple[list[int], list[int]]:
    """Values and lengths of the runs of equal voxels (I, J, K), I fastest."""
    flat = counts_ijk.ravel(order="F")
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return flat[starts].tolist(), np.diff(np.append(starts, flat.size)).tolist()


class ReasoningText:
    """Lets the reasoning through, piece by piece, without tags and without the answer block."""

    def __init__(self) -> None:
        self._held = ""
        self._ended = False

    def feed(self, piece: str) -> str:
        """What of the reasoning is certain after ``piece``."""
        if self._ended:
            return ""
        text = _TAG.sub("", self._held + piece)
        before, found, _ = text.partition(_ANSWER_TAG)
        if found:
            self._ended = True
            return before
        # A tag may be cut between two pieces.
        start = text.rfind("<")
        cut = start if start >= 0 and len(text) - start < _LONGEST_TAG else len(text)
        self._held = text[cut:]
        return text[:cut]


class EventFollower:
    """Turns the steps of an inference into events."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._reasoning = ReasoningText()

    def hooks(self, cancelled: Cancelled) -> Hooks:
        """By which an inference is followed."""
        return Hooks(self.slice_chosen, self.text, self.answered, self.progress, cancelled)

    def slice_chosen(self, plane: Plane, index: int, choice: SliceChoice) -> None:
        """Event ``slice``."""
        data = {"plane": plane.value, "index": index, "explanation": choice.explanation}
        self._emit("slice", data)

    def text(self, piece: str) -> None:
        """Event ``text``."""
        shown = self._reasoning.feed(piece)
        if shown:
            self._emit("text", {"text": shown})

    def progress(self, stage: str, done: int, total: int) -> None:
        """Event ``progress``."""
        self._emit("progress", {"stage": stage, "done": done, "total": total})

    def answered(self, result: InferenceResult, volume: Volume) -> None:
        """Events ``answer`` and ``mask`` on the slice; none if the model sees no target there."""
        values = result.to_dict()
        answer = {key: values[key] for key in _ANSWER_KEYS}
        self._emit("answer", {**answer, "ijk_to_lps": volume.ijk_to_lps.tolist()})
        if result.kind == "segment" or result.mask_ijk.any():
            self._emit("mask", mask_event("slice", result.mask_ijk, volume.ijk_to_lps))

    def finished(self, result: InferenceResult, volume: Volume, params: dict[str, Any]) -> None:
        """Events ``mask`` of the volume and ``doubt``, where there are, and ``record``."""
        if result.propagated:
            self._emit("mask", mask_event("volume", result.mask_ijk, volume.ijk_to_lps))
        if result.readings_ijk is not None:
            self._emit("doubt", doubt_event(result, result.readings_ijk, volume.ijk_to_lps))
        self._emit("record", params)
