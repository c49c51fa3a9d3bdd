# SPDX-License-Identifier: Apache-2.0
"""Questions that go on from each other at the command line: ``--about`` and ``--then``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medreasoner_infer.language import questions_of
from medreasoner_infer.talk.reference import read_reference
from medreasoner_infer.types import EarlierTarget

if TYPE_CHECKING:
    from medreasoner_infer.imaging import Volume
    from medreasoner_infer.result import Inference, InferenceResult

Answered = Callable[[str, "InferenceResult | None"], "InferenceResult"]
"""Answers a question that may go on from an answer."""
_MASKS = (".nii.gz", ".png")


@dataclass(frozen=True)
class Before:
    """The target of an answer that was written before, and the answer with the mask beside it."""

    target: EarlierTarget
    answer: Inference
    mask_file: Path | None

    def result(self, volume: Volume) -> InferenceResult | None:
        """The answer on the grid of ``volume``; ``None`` where no mask lies beside it.

        Raises:
            typer.BadParameter: the mask is of another image.
        """
        import numpy as np

        from medreasoner_infer.imaging import load_volume
        from medreasoner_infer.result import InferenceResult

        if self.mask_file is None:
            return None
        mask = load_volume(self.mask_file).array
        if mask.shape != volume.shape_ijk:
            said = f"{self.mask_file} is no mask of this image"
            raise typer.BadParameter(said, param_hint="--about")
        return InferenceResult.of(self.answer, (mask != 0).astype(np.uint8))


def read_before(path: Path) -> Before:
    """An answer that ``ask`` wrote; its mask is the one of the same number in its folder.

    Raises:
        typer.BadParameter: the file is no answer to a question that was understood.
    """
    from medreasoner_infer.follow_up import about_answer
    from medreasoner_infer.result import Inference
    from monailabel_app.dicom.codes import code_table

    try:
        earlier = Inference.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        said = f"{path} is no answer.json ({error})"
        raise typer.BadParameter(said, param_hint="--about") from error
    if earlier.query is None or earlier.outcome == "not_understood":
        said = f"{path} answers no question, or one that was not understood"
        raise typer.BadParameter(said, param_hint="--about")
    target = about_answer(earlier, code_table().named_by(earlier.asks_for))
    return Before(target, earlier, _mask_beside(path))


def _mask_beside(path: Path) -> Path | None:
    stem = path.name.removesuffix(".json")
    if not stem.startswith("answer"):
        return None
    name = f"mask{stem.removeprefix('answer')}"
    found = (path.with_name(f"{name}{ending}") for ending in _MASKS)
    return next((file for file in found if file.is_file()), None)


def require_dialogue(questions: Sequence[str]) -> None:
    """Refuse a list of targets, which is a dialogue of its own.

    Raises:
        typer.BadParameter: one of the questions names several.
    """
    if any(len(questions_of(question)) > 1 for question in questions):
        said = "a question names several targets; in a dialogue ask for one at a time"
        raise typer.BadParameter(said, param_hint="--then")


def converse(
    questions: Sequence[str],
    answered: Answered,
    told: Callable[[int, str], None],
    keep: Callable[[InferenceResult, int], None],
    last: InferenceResult | None = None,
) -> None:
    """Ask one after the other; each may refer to the last answer that was understood.

    Args:
        questions: of the dialogue.
        answered: answers one.
        told: receives number and text of the next question.
        keep: writes an answer under its number.
        last: an answer that was given before the dialogue.
    """
    for number, question in enumerate(questions, start=1):
        told(number, question)
        goes_on = read_reference(question) is not None
        result = answered(question, last if goes_on else None)
        keep(result, number)
        if result.outcome != "not_understood":
            last = result
