# SPDX-License-Identifier: Apache-2.0
"""What a caller asks of the pipeline."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from medreasoner_infer.errors import InputError, PromptError
from medreasoner_infer.types import XYZ, EarlierTarget, PromptSources, SlicePrompt

if TYPE_CHECKING:
    from medreasoner_infer.result import InferenceResult

MAX_QUERY_CHARACTERS = 2000
MAX_SAMPLES = 16
# Of the target of an earlier answer: as much as DICOM takes for a label (LO, PS3.5 6.2).
MAX_NAME_CHARACTERS = 64
# Other targets that a reasoning is checked by.
MAX_KNOWN = 32
# The segmenter's work grows with each point, and nobody makes more by hand.
MAX_POINTS = 256
# Of a lasso; finer than any screen draws it.
MAX_CONTOUR_POINTS = 512
SAMPLING_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Click:
    """One click of the reader in voxel coordinates (IJK, integers are voxel centres).

    With ``contour_ijk``, closed and on the slice of the click, it is a lasso: all within is meant,
    and the position is a place within that stands for it where prompts are points.

    Raises:
        PromptError: if the contour has too few or too many points.
    """

    position_ijk: XYZ
    positive: bool = True
    contour_ijk: tuple[XYZ, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.contour_ijk)
        if count and not 3 <= count <= MAX_CONTOUR_POINTS:
            raise PromptError(
                f"The contour has {count} points; expected 3 to {MAX_CONTOUR_POINTS}."
            )

    def index_along(self, axis: int) -> int:
        """The slice that was clicked on, of those that the voxel axis ``axis`` counts."""
        return round(self.position_ijk[axis])


@dataclass(frozen=True)
class SliceSelection:
    """Which slice, and how it is displayed; everything is optional.

    ``plane`` is a value of :class:`medreasoner_infer.imaging.Plane` (``None``: the acquisition's).
    ``index`` is the voxel index along the axis that the plane cuts. ``position_lps_mm`` is any
    patient position on the wanted slice and excludes ``index``. ``window`` is a preset's name or
    ``centre/width``.

    Raises:
        InputError: if both a slice index and a position are given.
    """

    plane: str | None = None
    index: int | None = None
    position_lps_mm: XYZ | None = None
    window: str | None = None

    def __post_init__(self) -> None:
        if self.index is not None and self.position_lps_mm is not None:
            raise InputError(
                f"Both a slice index ({self.index}) and a patient position "
                f"({self.position_lps_mm}) were given; give one of them."
            )


@dataclass(frozen=True)
class AskRequest:
    """A clinical question about a volume.

    With ``samples`` > 1 the first answer is greedy and stays the answer; the others are drawn at
    :data:`SAMPLING_TEMPERATURE` and, with slightly changed views of the slice, tell where the
    model doubts (:mod:`medreasoner_infer.doubt`). ``about`` says which earlier target a follow-up
    question goes on from; ``earlier`` is the answer itself, so that its mask can be measured, and
    says it where ``about`` does not. ``known`` are targets of other answers about the image, by
    which the reasoning is checked. With ``removal_test`` the question is asked again without the
    region that the answer points to.

    Raises:
        InputError: if the question is empty or too long, there are too many clicks, the number of
            samples is out of range, or what it is about is malformed.
    """

    query: str
    selection: SliceSelection = SliceSelection()
    propagate: bool = False
    samples: int = 1
    seed: int = 0
    clicks: tuple[Click, ...] = ()
    about: EarlierTarget | None = None
    known: tuple[EarlierTarget, ...] = ()
    removal_test: bool = False
    earlier: InferenceResult | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.query.strip():
            raise InputError("The question is empty; type what you want to find on the image.")
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise InputError(
                f"The question has {len(self.query)} characters; "
                f"at most {MAX_QUERY_CHARACTERS} are accepted."
            )
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise InputError(f"samples is {self.samples}; expected 1 to {MAX_SAMPLES}.")
        _check_points(len(self.clicks))
        if any(click.contour_ijk for click in self.clicks):
            raise PromptError("A contour corrects a mask, and a question has none; send clicks.")
        if self.about is not None:
            _check_earlier_target(self.about)
        if len(self.known) > MAX_KNOWN:
            raise InputError(
                f"{len(self.known)} known targets were given; at most {MAX_KNOWN} are accepted."
            )
        for target in self.known:
            _check_earlier_target(target)


@dataclass(frozen=True)
class SegmentRequest:
    """The segmenter alone: ``prompt`` in slice px of the selected slice, or clicks in IJK, or both.

    Without an index or position the first click chooses the slice. A prompt without sources is the
    reader's own.

    With ``last_mask_ijk``, of shape (I, J, K) and non-zero inside, the clicks correct that mask,
    one after the other, as :mod:`medreasoner_infer.corrections` says; the prompt is what led to it.
    The other slices stay as they are unless the corrected slice is propagated.

    Raises:
        PromptError: if there is neither a box nor a positive point nor a mask to correct, or there
            are too many points.
    """

    selection: SliceSelection = SliceSelection()
    prompt: SlicePrompt | None = None
    clicks: tuple[Click, ...] = ()
    propagate: bool = False
    prompt_sources: PromptSources | None = None
    last_mask_ijk: NDArray[Any] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        prompted = self.prompt is not None and self.prompt.points_at_target
        clicked = any(click.positive for click in self.clicks)
        if not prompted and not clicked and self.last_mask_ijk is None:
            raise PromptError("Give a box or at least one point inside the target.")
        _check_points(len(self.clicks) + len(self.prompt.point_labels if self.prompt else ()))
        if self.last_mask_ijk is None and any(click.contour_ijk for click in self.clicks):
            raise PromptError("A contour corrects a mask; send the last one, be it empty.")


def _check_points(count: int) -> None:
    if count > MAX_POINTS:
        raise PromptError(f"{count} points were given; at most {MAX_POINTS} are accepted.")


def _check_earlier_target(about: EarlierTarget) -> None:
    name, box = about.name, about.bbox_xyxy_slice_px
    if not name.strip() or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise InputError(
            f"The name of the earlier target has {len(name)} characters; expected one line of 1 to "
            f"{MAX_NAME_CHARACTERS}."
        )
    if box is None:
        return
    x1, y1, x2, y2 = box
    if not (all(map(math.isfinite, box)) and x1 < x2 and y1 < y2):
        raise InputError(
            f"The box of the earlier target is {box}; expected x1, y1, x2, y2 in px of its slice "
            "with x1 < x2 and y1 < y2."
        )
