# SPDX-License-Identifier: Apache-2.0
"""What becomes of a question that refers to an earlier answer, before any model is asked."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer import __version__
from medreasoner_infer.errors import InputError
from medreasoner_infer.follow_up import about_answer
from medreasoner_infer.hooks import Hooks
from medreasoner_infer.imaging import Plane, SliceMapping, Volume, choose_window, slice_mapping
from medreasoner_infer.measuring.measured import Measured, measure_target
from medreasoner_infer.measuring.telling import tell_sizes
from medreasoner_infer.reasoners.base import Reasoner
from medreasoner_infer.records import now, record_slice, summarise_mask
from medreasoner_infer.request import AskRequest
from medreasoner_infer.result import MEASURE, FollowUp, InferenceResult, SliceChoice
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.talk.errors import NotResolved
from medreasoner_infer.talk.looking import question_for
from medreasoner_infer.talk.reference import Reference, read_reference
from medreasoner_infer.talk.resolving import (
    Earlier,
    Resolved,
    Scene,
    earlier_named,
    resolve,
)
from medreasoner_infer.talk_record import FollowUpReading
from medreasoner_infer.types import REASONER, XYXY, EarlierTarget, ModelIdentity

PROJECTED = (
    "Sizes are those in the plane of the picture; a projection shows what lies off the detector "
    "larger than it is."
)


@dataclass(frozen=True)
class Read:
    """A question as it was read: the request that it comes to, or the answer to it.

    Attributes:
        request: with the question that a model understands.
        reading: how it was read; ``None`` for a question that stands by itself.
        answer: given without any model: sizes, or what is missing to understand the question.
    """

    request: AskRequest
    reading: FollowUpReading | None = None
    answer: InferenceResult | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """How it was read, for the reader."""
        return () if self.reading is None else (_read_as(self.reading),)


def read_question(
    volume: Volume,
    request: AskRequest,
    reasoner: Callable[[], Reasoner],
    segmenter: Callable[[], ModelIdentity],
    hooks: Hooks,
) -> Read:
    """What a question comes to.

    Args:
        volume: the image.
        request: the question, with the earlier answer that it may go on from.
        reasoner: loads the model, where it has to be asked for neighbours.
        segmenter: tells which one there is, where no earlier answer tells which made the mask.
        hooks: of the caller.

    Raises:
        InputError: the earlier answer is about another image.
        CancelledError: the caller cancelled.
    """
    earlier_answer = request.earlier
    if request.about is None and earlier_answer is not None:
        request = replace(request, about=about_answer(earlier_answer))
    reference = read_reference(request.query)
    if reference is None or (request.about is None and reference.needs_earlier):
        return Read(request)
    if request.about is None:
        return _named_and_measured(reference, request)
    if earlier_answer is not None and earlier_answer.mask_ijk.shape != volume.shape_ijk:
        raise InputError(
            f"The mask of the earlier answer has {earlier_answer.mask_ijk.shape} voxels and the "
            f"image {volume.shape_ijk}; send an answer about this image."
        )
    earlier = _earlier(request.about, earlier_answer)
    scene = Scene(volume, request, reasoner, segmenter, hooks)
    try:
        return _read(reference, earlier, scene)
    except NotResolved as unresolved:
        answer = _not_understood(str(unresolved), earlier, scene)
        hooks.report_answer(answer, volume)
        return Read(request, answer.reading, answer)


def with_sizes(result: InferenceResult, volume: Volume) -> InferenceResult:
    """An answer with the sizes of its mask, where they were asked for."""
    reading = result.reading
    if reading is None or reading.quantity is None or not result.mask_ijk.any():
        return result
    measured = _measured(result, result.mapping(volume))
    if measured is None:
        return result
    told = " ".join(filter(None, (result.reasoning, tell_sizes(measured, reading.quantity))))
    return replace(result, reasoning=told, reading=replace(reading, measured=measured))


def _read(reference: Reference, earlier: Earlier, scene: Scene) -> Read:
    if reference.quantity is not None and _is_about_the_mask(reference, earlier, scene):
        answer = _sizes(reference, earlier, scene)
        scene.hooks.report_answer(answer, scene.volume)
        return Read(scene.request, answer.reading, answer)
    resolved = resolve(reference, earlier, scene)
    reading = FollowUpReading(
        read_as=resolved.read_as + (" and measure it" if reference.quantity else ""),
        asked=resolved.asked,
        target=resolved.target,
        about_inference_id=_id_of(scene.request),
        quantity=reference.quantity,
    )
    return Read(_rewritten(scene.request, resolved), reading)


def _is_about_the_mask(reference: Reference, earlier: Earlier, scene: Scene) -> bool:
    """Whether the mask that is there answers it: of what was found, on a slice that it covers."""
    if reference.to == "named":
        name, side = reference.named or ("", None)
        if earlier.target not in (name, f"{side} {name}"):
            return False
    elif reference.to != "same":
        return False
    if reference.step is None:
        return True
    if earlier.mask_ijk is None:
        return False
    index = resolve(reference, earlier, scene).selection.index
    mapping = slice_mapping(scene.volume, Plane.parse(earlier.about.plane), index or 0)
    return bool(np.take(earlier.mask_ijk, mapping.index, axis=mapping.slice_axis).any())


def _rewritten(request: AskRequest, resolved: Resolved) -> AskRequest:
    return replace(request, query=resolved.asked, selection=resolved.selection)


def _named_and_measured(reference: Reference, request: AskRequest) -> Read:
    """``How large is the spleen?`` comes to a question for the spleen, and its sizes."""
    name, side = reference.named or ("", None)
    target = f"{side} {name}" if side else name
    reading = FollowUpReading(
        read_as=f"segment the {target} and measure it",
        asked=question_for(target),
        target=target,
        quantity=reference.quantity,
    )
    return Read(replace(request, query=question_for(target)), reading)


def _earlier(about: EarlierTarget, answer: InferenceResult | None) -> Earlier:
    reading = None if answer is None else answer.reading
    said = None if reading is None else reading.target
    target = said or earlier_named(about.name)
    if target is None and answer is not None and answer.query:
        target = earlier_named(answer.query)
    asked = None if reading is None else reading.asked
    if asked is None and answer is not None and answer.kind != MEASURE and answer.query:
        asked = answer.query
    if asked is None:
        asked = question_for(target or about.name)
    return Earlier(about, asked, target, None if answer is None else answer.mask_ijk)


def _id_of(request: AskRequest) -> str | None:
    return None if request.earlier is None else request.earlier.inference_id


def _sizes(reference: Reference, earlier: Earlier, scene: Scene) -> InferenceResult:
    """The earlier answer again, measured.

    Raises:
        NotResolved: there is no mask, or nothing in it.
    """
    answer, volume = scene.request.earlier, scene.volume
    if answer is None:
        raise NotResolved(
            "No mask goes with the earlier answer, so that nothing can be measured; send the "
            "answer itself."
        )
    if not answer.mask_ijk.any():
        raise NotResolved("The earlier answer marks nothing, so that nothing can be measured.")
    mapping = _slice_to_measure(reference, earlier, scene)
    measured = _measured(answer, mapping)
    if measured is None:
        raise NotResolved("The mask of the earlier answer does not reach this slice.")
    reading = FollowUpReading(
        read_as=f"measure the {earlier.name}",
        target=earlier.target,
        about_inference_id=answer.inference_id,
        quantity=reference.quantity,
        measured=measured,
    )
    text = tell_sizes(measured, reference.quantity or "size")
    told = _without_models(answer.mask_ijk, earlier, scene, mapping, reading, text)
    projected = (PROJECTED,) if volume.is_picture and volume.spacing_known else ()
    return replace(told, warnings=(_read_as(reading), *told.warnings, *projected))


def _read_as(reading: FollowUpReading) -> str:
    return f"Read as: {reading.read_as}."


def _measured(answer: InferenceResult, mapping: SliceMapping) -> Measured | None:
    """Sizes on a slice, with what the boxes of several answers on that slice tell of them."""
    prompts = answer.prompts
    box: XYXY | None = None
    if _is_on(mapping, answer) and prompts is not None and prompts.bbox_source == REASONER:
        box = prompts.bbox_xyxy_slice_px
    others = tuple(
        sample.bbox_xyxy_slice_px
        for sample in answer.samples
        if sample.bbox_xyxy_slice_px is not None
    )
    return measure_target(answer.mask_ijk, mapping, box, others)


def _slice_to_measure(reference: Reference, earlier: Earlier, scene: Scene) -> SliceMapping:
    """The slice of the answer, or steps from it; where the mask has none there, its fullest one."""
    plane = Plane.parse(earlier.about.plane)
    index = earlier.about.index
    if reference.step is not None:
        index = resolve(reference, earlier, scene).selection.index or 0
    mapping = slice_mapping(scene.volume, plane, index)
    mask_ijk = earlier.mask_ijk
    if mask_ijk is None:
        return mapping
    others = tuple(axis for axis in range(3) if axis != mapping.slice_axis)
    per_slice = np.count_nonzero(mask_ijk, axis=others)
    if per_slice[index]:
        return mapping
    return slice_mapping(scene.volume, plane, int(per_slice.argmax()))


def _not_understood(sentence: str, earlier: Earlier, scene: Scene) -> InferenceResult:
    """The answer that says what was missing; it marks nothing."""
    volume = scene.volume
    mapping = slice_mapping(volume, Plane.parse(earlier.about.plane), earlier.about.index)
    reading = FollowUpReading(
        "not understood", target=earlier.target, about_inference_id=_id_of(scene.request)
    )
    empty = np.zeros(volume.shape_ijk, dtype=np.uint8, order="F")
    told = _without_models(empty, earlier, scene, mapping, reading, sentence)
    return replace(told, kind="ask", present=False, outcome="not_understood")


def _without_models(
    mask_ijk: NDArray[np.uint8],
    earlier: Earlier,
    scene: Scene,
    mapping: SliceMapping,
    reading: FollowUpReading,
    text: str,
) -> InferenceResult:
    """A record of its own, for which no reasoner was asked and no mask made."""
    volume, answer = scene.volume, scene.request.earlier
    choice = SliceChoice("earlier", f"Slice {mapping.index} is that of the earlier answer.")
    scene.hooks.report_slice(mapping.plane, mapping.index, choice)
    window = answer.window() if answer is not None else None
    window = window or choose_window(volume, scene.request.selection.window)
    shown = DisplayedSlice.of(volume, mapping.plane, mapping.index, window)
    return InferenceResult(
        inference_id=str(uuid.uuid4()),
        created_at=now(),
        kind=MEASURE,
        query=scene.request.query,
        reasoning=text,
        completion=None,
        present=True,
        confidence=None,
        agreement=None,
        samples=(),
        prompts=None if answer is None or not _is_on(mapping, answer) else answer.prompts,
        slice=record_slice(shown),
        slice_choice=choice,
        propagated=answer is not None and answer.propagated,
        mask_ijk=mask_ijk,
        mask=summarise_mask(mask_ijk, mapping, None),
        modality=volume.modality,
        reasoner=None,
        segmenter=scene.segmenter() if answer is None else answer.segmenter,
        timings_s={},
        warnings=volume.warnings,
        software_version=__version__,
        follow_up=FollowUp(earlier.about, used=True),
        reading=reading,
    )


def _is_on(mapping: SliceMapping, answer: InferenceResult) -> bool:
    return (answer.slice.plane, answer.slice.index) == (mapping.plane.value, mapping.index)
