# SPDX-License-Identifier: Apache-2.0
"""One question, and what it is good for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from medreasoner_infer.language import Language

Kind = Literal[
    "name",
    "synonym",
    "latin",
    "abbreviation",
    "lay",
    "implicit",
    "misspelt",
    "several",
    "outside",
    "nonsense",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""``outside`` asks for something medical that is no known target, ``nonsense`` for nothing."""

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Question:
    """A question in one language.

    Attributes:
        text: as a user would write it.
        language: of the sentence; a Latin term may stand in it.
        kind: how the target is spoken of, or why there is none.
        targets: English names with the patient's side, e.g. ``("left kidney",)``; empty where the
            question is outside of what is known. ``("kidney",)`` leaves the side open.
        split: what the question may be used for.
        form: the form that it was made from; empty for nonsense that has none.
        source: the fact, term or sentence that decides the split; empty where the form does.
    """

    text: str
    language: Language
    kind: Kind
    targets: tuple[str, ...]
    split: Split
    form: str = ""
    source: str = ""

    @property
    def target(self) -> str | None:
        """The target, if there is exactly one."""
        return self.targets[0] if len(self.targets) == 1 else None
