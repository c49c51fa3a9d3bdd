# SPDX-License-Identifier: Apache-2.0
"""Whether a reasoner knows what a question asks for, on real slices and in questions held out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medreasoner_infer.language import LANGUAGES, SIDES, Language, unsided

from ..phantom.anatomy import Label
from ..queries import known_targets
from ..questions import KINDS, Kind, Question, QuestionWriter
from .real_ct import RealSlice
from .scoring import mean_with_interval

#: Completions of questions about letterboxed grey slices.
Answer = Callable[[Sequence[np.ndarray], Sequence[str]], list[str]]

REFUSED_KINDS: tuple[Kind, ...] = ("outside", "nonsense", "several")
TARGET_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind not in REFUSED_KINDS)
_NAMED = re.compile(r"question points to the ([^,]+),")
_SEED = 940_000
_DRAWS = 12


@dataclass(frozen=True)
class Asking:
    """A question on a slice; one that is to be refused has no target."""

    grey: np.ndarray
    question: Question


def askings(
    slices: Sequence[RealSlice],
    writer: QuestionWriter,
    per_cell: int = 1,
    refused: int = 300,
    seed: int = _SEED,
) -> list[Asking]:
    """Questions of the test split about each target of real slices, in each kind and language.

    Each is asked on the slice where its target is largest.

    Args:
        slices: with labels of the phantoms' targets.
        writer: of the questions.
        per_cell: questions of each target, kind and language.
        refused: questions of each kind that is to be refused.
        seed: equal seeds give equal questions.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, Asking] = {}
    for name, grey in _largest(slices).items():
        for kind in TARGET_KINDS:
            for language in LANGUAGES:
                for question in _about(writer, name, kind, language, per_cell, rng):
                    found.setdefault(question.text, Asking(grey, question))
    for kind in REFUSED_KINDS:
        for _ in range(refused):
            drawn = writer.write(kind, LANGUAGES[int(rng.integers(len(LANGUAGES)))], "test", rng)
            if drawn is not None:
                grey = slices[int(rng.integers(len(slices)))].grey
                found.setdefault(drawn.text, Asking(grey, drawn))
    return list(found.values())


def _largest(slices: Sequence[RealSlice]) -> dict[str, np.ndarray]:
    areas = np.array([np.bincount(s.labels.ravel(), minlength=len(Label)) for s in slices])
    return {
        target.name: slices[int(areas[:, label].argmax())].grey
        for label, target in known_targets().items()
        if areas[:, label].max() > 0
    }


def _about(
    writer: QuestionWriter,
    name: str,
    kind: Kind,
    language: Language,
    count: int,
    rng: np.random.Generator,
) -> list[Question]:
    found: list[Question] = []
    for _ in range(_DRAWS * count):
        question = writer.write(kind, language, "test", rng, about=unsided(name))
        if question is not None and question.target == name and len(found) < count:
            found.append(question)
    return found


def understanding(asked: Sequence[Asking], answer: Answer) -> dict:
    """Share of targets that are named, and of questions that are refused, by kind and language.

    Args:
        asked: the questions.
        answer: the reasoner; the beginnings of its completions are enough.
    """
    completions = answer([a.grey for a in asked], [a.question.text for a in asked])
    named: dict[str, list[bool]] = defaultdict(list)
    refused: dict[str, list[bool]] = defaultdict(list)
    wrong_side: list[bool] = []
    for asking, completion in zip(asked, completions, strict=True):
        question, name = asking.question, name_in(completion)
        if question.kind in REFUSED_KINDS:
            refused[question.kind].append(name is None)
            continue
        right = name == question.target
        for key in (question.kind, question.language, "all"):
            named[key].append(right)
        if question.language == "en":
            named[f"en {question.kind}"].append(right)
        refused["good questions"].append(name is None)
        if name is not None and name.split(" ")[0] in SIDES:
            wrong_side.append(_other_side(name) == question.target)
    return {
        "named": _means(named),
        "refused": _means(refused),
        "wrong_side": mean_with_interval(wrong_side),
    }


def name_in(completion: str) -> str | None:
    """The target that a completion names; ``None`` where it refuses the question."""
    match = _NAMED.search(completion)
    return match[1] if match else None


def _other_side(name: str) -> str:
    side, _, rest = name.partition(" ")
    return f"{SIDES[1 - SIDES.index(side)]} {rest}"


def _means(values: Mapping[str, Sequence[bool]]) -> dict:
    return {key: mean_with_interval(list(found)) for key, found in values.items()}
