# SPDX-License-Identifier: Apache-2.0
"""Write an answered question as files: answer.json, the mask and a picture to look at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.atomic import replacing
from medreasoner_infer.doubt_record import GOOD_DICE, Doubt
from medreasoner_infer.earlier_files import is_json_with
from medreasoner_infer.imaging import (
    OverlayContent,
    SliceMapping,
    Volume,
    edge_letters,
    slice_image,
    slice_of_mask,
    slice_values,
    write_mask,
    write_overlay,
)
from medreasoner_infer.reasoners.calibration import UNCERTAIN_BELOW
from medreasoner_infer.result import Inference
from medreasoner_infer.types import XY

SUMMARY_NAME = "answers.json"
_SUMMARY_KEYS = ("question", "answers")
_RESULT_KEYS = ("schema_version", "slice_choice", "timings_s")  # of every version
_NAMES = re.compile(
    r"(answer|mask|overlay|agreement)(?P<suffix>|_\d+|_current|_prior)\.(json|nii\.gz|png)"
)


@dataclass(frozen=True)
class ResultFiles:
    """What one result was written as.

    Attributes:
        answer: ``answer.json``.
        mask: ``None`` where nothing is said about a target, see :func:`says_nothing`.
        overlay: ``overlay.png``.
        agreement: of a result with doubt, in per cent of the readings that hold each voxel.
    """

    answer: Path
    mask: Path | None
    overlay: Path
    agreement: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All that were written."""
        files = (self.answer, self.mask, self.overlay, self.agreement)
        return tuple(path for path in files if path is not None)


def says_nothing(inference: Inference, mask_ijk: NDArray[np.uint8]) -> bool:
    """Whether a question was not understood and nobody drew a mask either.

    Such an answer is never kept as a mask: an empty one says that the target is not there.
    """
    return inference.outcome == "not_understood" and not mask_ijk.any()


def write_result(
    inference: Inference,
    mask_ijk: NDArray[np.uint8],
    volume: Volume,
    folder: Path,
    *,
    suffix: str = "",
    readings_ijk: NDArray[np.uint8] | None = None,
) -> ResultFiles:
    """Write one result into ``folder`` (made if absent), each file atomically.

    What an earlier result marked goes from there, also where this one has no mask.

    Args:
        inference: of this process, or read from a server's reply.
        mask_ijk: uint8 (I, J, K) on the grid of ``volume``.
        volume: the image that the question was about.
        folder: where to write.
        suffix: put behind each file's stem, e.g. ``_1``.
        readings_ijk: of a result with doubt; becomes ``agreement.nii.gz``, in per cent of the
            readings that hold each voxel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / f"answer{suffix}.json"
    overlay = folder / f"overlay{suffix}.png"
    is_one_picture = volume.is_picture and volume.shape_ijk[2] == 1
    mask = folder / f"mask{suffix}{'.png' if is_one_picture else '.nii.gz'}"
    agreement = folder / f"agreement{suffix}.nii.gz"
    for earlier in (mask, agreement):
        earlier.unlink(missing_ok=True)
    has_mask = not says_nothing(inference, mask_ijk)
    has_agreement = readings_ijk is not None and inference.doubt is not None
    _write_json(answer, inference.to_dict())
    if has_mask:
        write_mask(mask_ijk, volume, mask)
    write_overlay(overlay_content(inference, mask_ijk, volume, readings_ijk), overlay)
    if readings_ijk is not None and inference.doubt is not None:
        per_cent = np.rint(readings_ijk * (100.0 / inference.doubt.readings)).astype(np.uint8)
        write_mask(per_cent, volume, agreement)
    return ResultFiles(
        answer, mask if has_mask else None, overlay, agreement if has_agreement else None
    )


def foreign_files(folder: Path) -> tuple[Path, ...]:
    """Files that are named as those of a result or its summary are, and belong to none."""
    if not folder.is_dir():
        return ()
    return tuple(
        file
        for file in sorted(folder.iterdir())
        if ((named := _NAMES.fullmatch(file.name)) and not _is_result(folder, named["suffix"]))
        or (file.name == SUMMARY_NAME and not is_json_with(file, _SUMMARY_KEYS))
    )


def _is_result(folder: Path, suffix: str) -> bool:
    """Whether the answer is there to which files of this suffix belong."""
    answer = folder / f"answer{suffix}.json"
    return answer.is_file() and is_json_with(answer, _RESULT_KEYS)


def write_summary(question: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write ``answers.json``: a question that was several, and what each of them led to.

    Args:
        question: as it was asked.
        rows: by question: its ``question``, whether its target is ``present``, its ``outcome``, and
            the names of its files ``answer``, ``mask`` (``None`` where there is none) and
            ``overlay``.
        folder: where the files are.
    """
    summary = folder / SUMMARY_NAME
    _write_json(summary, dict(zip(_SUMMARY_KEYS, (question, list(rows)), strict=True)))
    return summary


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with replacing(path, ".json") as unfinished:
        text = json.dumps(values, indent=2, ensure_ascii=False)
        unfinished.write_text(text + "\n", encoding="utf-8")


def overlay_content(
    inference: Inference,
    mask_ijk: NDArray[np.uint8],
    volume: Volume,
    readings_ijk: NDArray[np.uint8] | None = None,
) -> OverlayContent:
    """What the picture of a result shows; the record alone says which slice and window."""
    mapping, window = inference.mapping(volume), inference.window()
    prompts = inference.prompts
    on_slice = slice_of_mask(mask_ijk, mapping)
    models = [("reasoner", inference.reasoner), ("segmenter", inference.segmenter)]
    known = {role: model for role, model in models if model is not None}
    notices = dict.fromkeys(model.notice for model in known.values() if model.notice)
    return OverlayContent(
        image=slice_image(volume, mapping, window),
        mask=on_slice,
        bbox_xyxy_px=None if prompts is None else prompts.bbox_xyxy_slice_px,
        points_xy_px=() if prompts is None else prompts.points_xy_slice_px,
        point_labels=() if prompts is None else prompts.point_labels,
        agreement=_agreement(inference.doubt, readings_ijk, volume, mapping),
        edge_letters=edge_letters(volume, mapping),
        scale_known=volume.spacing_known,
        caption=_caption(inference),
        question=inference.query or "",
        reasoning=inference.reasoning or "",
        readings="" if inference.doubt is None else f"{inference.doubt.words}.",
        outcome=_outcome(inference, int(on_slice.sum())),
        present=inference.present,
        understood=inference.outcome != "not_understood",
        models=tuple(f"{role}: {model.name}" for role, model in known.items()),
        notice=" ".join(notices) or None,
        warnings=(*inference.warnings, *_failed_checks(inference)),
        diameters_px=_diameters(inference),
    )


def _failed_checks(inference: Inference) -> Iterator[str]:
    """What of the reasoning does not hold, and whether the answer needs what it points to."""
    checks = inference.checks
    if checks is None:
        return
    for statement in checks.statements:
        if statement.verdict == "does not hold":
            yield f"“{statement.claim}” does not hold: {statement.measured}."
    if checks.removal is not None and not checks.removal.depends:
        yield checks.removal.explanation


def _diameters(inference: Inference) -> tuple[tuple[XY, XY], ...]:
    measured = None if inference.reading is None else inference.reading.measured
    if measured is None:
        return ()
    return measured.longest.ends_xy_slice_px, measured.perpendicular.ends_xy_slice_px


def _agreement(
    doubt: Doubt | None,
    readings_ijk: NDArray[np.uint8] | None,
    volume: Volume,
    mapping: SliceMapping,
) -> NDArray[np.float32] | None:
    """The share of the readings that hold each pixel of the slice."""
    if doubt is None or readings_ijk is None:
        return None
    counted = Volume(readings_ijk, volume.ijk_to_lps, "OT", "readings", volume.source)
    return np.asarray(slice_values(counted, mapping) / np.float32(doubt.readings))


def _caption(inference: Inference) -> str:
    shown, window = inference.slice, inference.window()
    text = f"{shown.plane} slice {shown.index} of 0 to {shown.count - 1}"
    return text if window is None else f"{text}, {window}"


def _outcome(inference: Inference, slice_pixels: int) -> str:
    if inference.outcome == "not_understood":
        return "Question not understood: nothing is said about a target."
    if inference.outcome == "absent":
        return "Target not present on this slice."
    mask = inference.mask
    area_mm2, volume_mm3 = mask.slice_area_mm2, mask.volume_mm3
    area = f"{slice_pixels} pixels" if area_mm2 is None else f"{area_mm2 / 100:.1f} cm²"
    text = f"Target found: {area} on this slice"
    if inference.propagated and mask.slice_range is not None:
        first, last = mask.slice_range
        size = f"{mask.voxels} voxels" if volume_mm3 is None else f"{volume_mm3 / 1000:.1f} cm³"
        text += f", {size} on slices {first} to {last}"
    if inference.confidence is not None and inference.calibrated:
        uncertain = ", uncertain" if inference.confidence < UNCERTAIN_BELOW else ""
        text += f"; probability that it is right {inference.confidence:.0%}{uncertain}"
    if inference.doubt is not None:
        text += _doubted(inference.doubt)
    elif inference.agreement is not None:
        text += f", agreement of samples {inference.agreement:.2f}"
    return text + "."


def _doubted(doubt: Doubt) -> str:
    text = f", {doubt.readings} readings agree to {doubt.agreement:.0%}"
    if doubt.support is not None:
        text += f", support for the answer {doubt.support:.0%}"
    if doubt.probability is not None:
        text += f", a Dice of {GOOD_DICE:g} or more has the probability {doubt.probability:.0%}"
    return text
