# SPDX-License-Identifier: Apache-2.0
"""The masks of a target, slice by slice, a turn of the device for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from medreasoner_infer.corrections import Correction
from medreasoner_infer.hooks import Cancelled, Hooks, Work
from medreasoner_infer.imaging import SliceStack
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import SliceMask, SlicePrompt

Masks = Iterator[tuple[int, SliceMask]]


@dataclass(frozen=True)
class Target:
    """What is segmented.

    Attributes:
        shown: the slice that it is prompted on.
        prompt: where it is there.
        correction: of an earlier mask, in place of ``prompt``.
        propagated: whether it is followed through the neighbouring slices.
    """

    shown: DisplayedSlice
    prompt: SlicePrompt
    correction: Correction | None
    propagated: bool


def masks_in_turns(segmenter: Segmenter, target: Target, hooks: Hooks) -> Masks:
    """The masks of slices by their index, that of the prompted slice first.

    The caller is told nothing within a turn, in which one who is slow would keep the device.
    """
    settled: list[tuple[int, int]] = []

    def tell_later(done: int, total: int) -> None:
        settled.append((done, total))

    masks, found = hooks.compute(
        Work.SLICE, lambda _: _begun(segmenter, target, tell_later, hooks.cancelled)
    )
    while found is not None:
        yield found
        found = hooks.compute(Work.PROPAGATION, lambda _: next(masks, None))
        for done, total in settled:
            hooks.report("propagate", done, total)
        settled.clear()


def _begun(
    segmenter: Segmenter,
    target: Target,
    progress: Callable[[int, int], None],
    cancelled: Cancelled | None,
) -> tuple[Masks, tuple[int, SliceMask] | None]:
    """The masks, and the first of them, which is computed."""
    masks = _masks(segmenter, target, progress, cancelled)
    return masks, next(masks, None)


def _masks(
    segmenter: Segmenter,
    target: Target,
    progress: Callable[[int, int], None],
    cancelled: Cancelled | None,
) -> Masks:
    shown, prompt = target.shown, target.prompt
    index = shown.mapping.index
    frames = SliceStack(shown.volume, shown.mapping.plane, shown.window)
    if target.correction is not None:
        mask = target.correction.apply(segmenter.segment_slice, shown.image)
        if target.propagated:
            return segmenter.propagate_mask(
                frames, index, mask, progress=progress, cancelled=cancelled
            )
        return iter([(index, mask)])
    if target.propagated:
        return segmenter.propagate(frames, index, prompt, progress=progress, cancelled=cancelled)
    return iter([(index, segmenter.segment_slice(shown.image, prompt))])
