# SPDX-License-Identifier: Apache-2.0
"""The interface of a promptable segmenter, and of the slices that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol

from medreasoner_infer.hooks import Cancelled
from medreasoner_infer.types import ModelIdentity, SliceImage, SliceMask, SlicePrompt

#: Told (slices settled, all slices).
SliceProgress = Callable[[int, int], None]


class FrameSource(Protocol):
    """The slices of a volume along one axis, each made when it is asked for.

    A list of :class:`SliceImage` is one; a lazy source keeps 500 slices out of memory.
    """

    def __len__(self) -> int:
        """Number of slices."""
        ...

    def __getitem__(self, index: int, /) -> SliceImage:
        """The slice at ``index``, 0-based."""
        ...


class PropagationStrategy(str, Enum):
    """How a mask is carried to the next slice."""

    MEMORY = "memory"
    """SAM2's own memory attention over the slices seen so far."""

    REPROMPT = "reprompt"
    """A new prompt on each slice, made from the last slice's mask."""


class Segmenter(Protocol):
    """A frozen promptable model. Implementations may be called from several threads."""

    @property
    def identity(self) -> ModelIdentity:
        """Which weights answer."""
        ...

    def segment_slice(self, image: SliceImage, prompt: SlicePrompt) -> SliceMask:
        """Segment the prompted target on one slice.

        Raises:
            PromptError: if the prompt is malformed, lies outside the image, or holds nothing that
                this model was trained on.
            OutOfMemoryError: if the device ran out of memory.
        """
        ...

    def propagate(
        self,
        frames: FrameSource,
        start_index: int,
        prompt: SlicePrompt,
        *,
        progress: SliceProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Iterator[tuple[int, SliceMask]]:
        """Segment the prompted slice, then its neighbours both ways until the target ends.

        Args:
            frames: the slices; only those that are reached are asked for.
            start_index: the prompted slice.
            prompt: the target on that slice.
            progress: called with (slices settled, all slices); ends at (n, n).
            cancelled: asked before each slice; true ends the propagation.

        Yields:
            ``(index, mask)``: the start slice first, then upwards, then downwards. Slices that are
            not yielded hold no target.

        Raises:
            SliceOutOfRangeError: if there is no slice ``start_index``.
            PromptError: if the prompt is malformed or lies outside the image.
            OutOfMemoryError: if the device ran out of memory.
            CancelledError: if ``cancelled`` returned true.
        """
        ...

    def propagate_mask(
        self,
        frames: FrameSource,
        start_index: int,
        mask: SliceMask,
        *,
        progress: SliceProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Iterator[tuple[int, SliceMask]]:
        """As :meth:`propagate`, from a mask of the start slice, which stays as it is."""
        ...
