# SPDX-License-Identifier: Apache-2.0
"""What is asked about a target, and who writes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from medreasoner_infer.language import Language
from medreasoner_training.dataset.metadata import Metadata
from medreasoner_training.dataset.targets import NamedTarget

QuestionKind = Literal["implicit", "explicit"]
"""``implicit`` leads to its target without naming it, ``explicit`` names it."""


@dataclass(frozen=True)
class Subject:
    """What is to be asked for.

    Attributes:
        label: as the folder names it; of an absent target its name.
        named: what it means in the vocabulary.
        modality: of the image, in the folder's words.
        metadata: of the pair; ``None`` where the target is absent.
    """

    label: str
    named: NamedTarget
    modality: str
    metadata: Metadata | None = None


@dataclass(frozen=True)
class Asked:
    """A question that has not been checked.

    Attributes:
        text: the question.
        kind: whether it may name its target.
        language: of the text.
        source: ``template``, ``benchmark`` or ``model``.
        leads: in English, how the question leads to its target: ``makes bile``; may be empty.
        reasoning: a trace that was written with it; ``None`` has one made.
        model: which wrote it.
    """

    text: str
    kind: QuestionKind
    language: Language
    source: str
    leads: str = ""
    reasoning: str | None = None
    model: str | None = None


class QuestionSource(Protocol):
    """Writes questions; the builder takes the first ones that pass the checks."""

    @property
    def settings(self) -> dict[str, object]:
        """What the questions depend on; a build is resumed with the same only."""
        ...

    def questions(
        self, subject: Subject, kind: QuestionKind, count: int, rng: np.random.Generator
    ) -> Iterator[Asked]:
        """Candidates, the preferred ones first; more than ``count``, as some will be rejected."""
        ...

    def absent(self, modality: str, shown: frozenset[str]) -> tuple[str, ...]:
        """Names of targets that an image of the modality cannot show."""
        ...
