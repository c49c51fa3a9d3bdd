# SPDX-License-Identifier: Apache-2.0
"""Draws questions of each kind, in each language, from what a split may use."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from medreasoner_infer.language import Language, Vocabulary, vocabulary

from .about_nothing import ask_nonsense, ask_outside
from .about_targets import ask_by_fact, ask_by_name, ask_for_several, ask_misspelt
from .drawing import Drawer
from .known import known_names
from .material import divide
from .question import Kind, Question, Split

HELD_OUT_LANGUAGES: frozenset[Language] = frozenset({"pt"})
"""Languages whose forms are all kept for the test; their bare names and facts are trained."""


class QuestionWriter:
    """Writes questions; equal random generators give equal questions.

    Args:
        words: the vocabulary; the shipped one by default.
        known: names of the targets that the model is taught, see :func:`known_names`; all others
            are outside.
        held_out_languages: whose forms are all kept for the test.
        loose_share: of the forms whose words are varied, for training.

    Raises:
        InputError: a known target is not in the vocabulary.
    """

    def __init__(
        self,
        words: Vocabulary | None = None,
        known: Collection[str] | None = None,
        held_out_languages: Collection[Language] = HELD_OUT_LANGUAGES,
        loose_share: float = 0.0,
    ) -> None:
        known = known_names() if known is None else known
        self.material = divide(words or vocabulary(), known, held_out_languages)
        self._drawer = Drawer(self.material, None, loose_share)
        self._about = {name: Drawer(self.material, name, loose_share) for name in known}

    def write(
        self,
        kind: Kind,
        language: Language,
        split: Split,
        rng: np.random.Generator,
        about: str | None = None,
    ) -> Question | None:
        """One question; ``None`` where this draw leads to nothing of that kind and split.

        Args:
            kind: how the target is spoken of.
            language: of the sentence.
            split: of which facts, forms and terms it is made.
            rng: draws everything.
            about: the known target to ask for; any by default.
        """
        drawer = self._drawer if about is None else self._about[about]
        match kind:
            case "implicit":
                return ask_by_fact(drawer, language, split, rng)
            case "misspelt":
                return ask_misspelt(drawer, language, split, rng)
            case "several":
                return ask_for_several(drawer, language, split, rng)
            case "outside":
                return ask_outside(drawer, language, split, rng)
            case "nonsense":
                return ask_nonsense(drawer, language, split, rng)
            case _:
                return ask_by_name(drawer, kind, language, split, rng)
