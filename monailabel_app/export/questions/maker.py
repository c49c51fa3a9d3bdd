# SPDX-License-Identifier: Apache-2.0
"""Questions about a label that no reader has asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from medreasoner_infer.imaging import Plane
from medreasoner_training.samples import LeftOut, QuerySource, Question, template_questions
from medreasoner_training.samples.naming import forbidden_stems
from monailabel_app.export.questions.writer import PROMPT_VERSION, QueryWriter, Structure

FELL_BACK = "too few written questions were left; a template stands in, if there is one"
_HELD_OUT_SHARE = 0.25
_FEWEST = 2
# Longer texts and those with other signs are remarks rather than names, and may tell of a patient.
_NAME = re.compile(r"[^\W\d_][\w\s\-/(),]{0,59}")


@dataclass(frozen=True)
class Asked:
    """What questions are wanted about; ``held_out`` ones are kept for validation."""

    label_name: str
    plane: Plane
    modality: str
    neighbours: tuple[str, ...] = ()
    held_out: bool = False


class QuestionMaker(Protocol):
    """Makes the questions about one structure; none if it cannot."""

    def __call__(self, asked: Asked) -> tuple[Question, ...]:
        """The questions."""
        ...


def questions_by_template(asked: Asked) -> tuple[Question, ...]:
    """Those of the table of implicit questions."""
    return template_questions(
        asked.label_name, asked.plane, asked.modality, held_out=asked.held_out
    )


class WrittenQuestions:
    """A :class:`QuestionMaker` that has a language model write, and falls back to the templates.

    Args:
        writer: the model.
        refused: counts what it wrote in vain, once for each structure.
    """

    def __init__(self, writer: QueryWriter, refused: LeftOut) -> None:
        self._writer = writer
        self._refused = refused
        self._counted: set[Structure] = set()

    def __call__(self, asked: Asked) -> tuple[Question, ...]:
        """See :class:`QuestionMaker`.

        Raises:
            QueryWriterUnreachableError: the server fails.
        """
        if not _NAME.fullmatch(asked.label_name) or not forbidden_stems(asked.label_name):
            return questions_by_template(asked)
        neighbours = {name for name in asked.neighbours if _NAME.fullmatch(name)}
        structure = Structure(
            asked.label_name,
            asked.modality,
            asked.plane.value,
            tuple(sorted(neighbours - {asked.label_name})),
        )
        written = self._writer.write(structure)
        if structure not in self._counted:
            self._counted.add(structure)
            for reason, count in written.refused.items():
                self._refused.add(asked.label_name, reason, count)
            if len(written.questions) < _FEWEST:
                self._refused.add(asked.label_name, FELL_BACK)
        if len(written.questions) < _FEWEST:
            return questions_by_template(asked)
        kept = max(1, int(len(written.questions) * _HELD_OUT_SHARE))
        texts = written.questions[-kept:] if asked.held_out else written.questions[:-kept]
        model = self._writer.settings.model
        return tuple(
            Question(text, QuerySource.MODEL, model=model, prompt_version=PROMPT_VERSION)
            for text in texts
        )
