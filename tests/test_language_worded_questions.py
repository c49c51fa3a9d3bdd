# SPDX-License-Identifier: Apache-2.0
"""How many questions, worded as users type them, the vocabulary reads without a model.

A row of ``data/worded_questions_*.tsv`` is language, kind, target (empty: none is known; several
are parted by ``; ``) and question. Each set was written without a look at the tables and was asked
once before they were widened by what it lacked; what it measured then stands in the documentation.
The limits below are of material that is at hand. Run as a script, this prints each kind and
language:

    python tests/test_language_worded_questions.py
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from medreasoner_infer.language.lists import questions_of
from medreasoner_infer.language.recognition import recognised
from medreasoner_training.embedded.questions import known_names

FOLDER = Path(__file__).parent / "data"
HALVES = ("a", "b", "c", "d")
STRANGERS = ("e", "f")
"""Of authors who knew nothing of the tables; what ``f`` lacks was not looked at, but for one."""
GROUPS = {
    "explicit": ("name", "caps", "telegraph", "long"),
    "synonym": ("synonym", "latin", "abbrev", "lay"),
    "misspelt": ("typo",),
    "implicit": ("function", "sign", "disease", "procedure", "neighbour", "anatomy"),
    "several": ("several",),
}
PAIRS = ("kidney", "lung")


def read(question: str) -> str:
    """The target; ``model`` if left to it; ``refused`` if none is known or several are named."""
    found = recognised(question, known_names())
    if found is None:
        return "model"
    return found.name if found.read == "known" else "refused"


def outcome(kind: str, target: str, question: str) -> str:
    """``right``, ``wrong``, or ``model`` or ``refused`` where a target is asked for."""
    if kind == "several":
        asked = (side for name in target.split("; ") for side in sided(name))
        told = (side for part in questions_of(question) for side in sided(read(part)))
        return "right" if set(asked) == set(told) else "wrong"
    got = read(question)
    if got == (target or "refused"):
        return "right"
    return got if got in ("model", "refused") else "wrong"


def sided(name: str) -> tuple[str, ...]:
    return (f"left {name}", f"right {name}") if name in PAIRS else (name,)


def group_of(kind: str, target: str) -> str:
    if not target:
        return "outside"
    return next(group for group, kinds in GROUPS.items() if kind in kinds)


def outcomes(half: str) -> Counter[tuple[str, str]]:
    """Of each group, kind and language, and of all that ask for one target (``good``)."""
    counts: Counter[tuple[str, str]] = Counter()
    path = FOLDER / f"worded_questions_{half}.tsv"
    for line in path.read_text(encoding="utf-8").splitlines():
        language, kind, target, question = line.split("\t")
        result, group = outcome(kind, target, question), group_of(kind, target)
        counts[group, result] += 1
        counts[f"{group}, {kind}", result] += 1
        if group not in ("outside", "several"):
            counts[language, result] += 1
            counts["good", result] += 1
    return counts


@pytest.fixture(scope="module", params=HALVES)
def counts(request: pytest.FixtureRequest) -> Counter[tuple[str, str]]:
    return outcomes(request.param)


def share(counts: Counter[tuple[str, str]], of: str, result: str) -> float:
    return counts[of, result] / sum(n for (group, _), n in counts.items() if group == of)


@pytest.mark.parametrize(
    ("group", "least"),
    [
        ("explicit", 0.93),
        ("synonym", 0.89),
        ("misspelt", 0.88),
        ("implicit", 0.91),
        ("several", 0.84),
        ("outside", 0.90),
    ],
)
def test_questions_of_each_kind_are_read(counts, group: str, least: float) -> None:
    assert share(counts, group, "right") >= least


def test_hardly_a_question_for_a_target_is_refused_or_misread(counts) -> None:
    assert share(counts, "good", "refused") <= 0.03
    assert share(counts, "good", "wrong") <= 0.02


def test_hardly_anything_outside_is_read_as_a_target(counts) -> None:
    assert share(counts, "outside", "wrong") <= 0.02


@pytest.mark.parametrize("half", STRANGERS)
@pytest.mark.parametrize(
    ("group", "least"),
    [
        ("explicit", 0.92),
        ("synonym", 0.73),
        ("misspelt", 0.70),
        ("implicit", 0.45),
        ("several", 0.58),
        ("outside", 0.76),
    ],
)
def test_strangers_questions_are_read(half: str, group: str, least: float) -> None:
    assert share(strangers(half), group, "right") >= least


@pytest.mark.parametrize("half", STRANGERS)
def test_hardly_a_stranger_s_question_for_a_target_is_misread(half: str) -> None:
    assert share(strangers(half), "good", "wrong") <= 0.023


@cache
def strangers(half: str) -> Counter[tuple[str, str]]:
    return outcomes(half)


def test_no_side_is_exchanged() -> None:
    """Whatever else becomes of a question, the side that is read is the one that it tells."""
    for half in (*HALVES, *STRANGERS):
        for line in (FOLDER / f"worded_questions_{half}.tsv").read_text("utf-8").splitlines():
            _, kind, target, question = line.split("\t")
            if kind != "several" and target.partition(" ")[2] in PAIRS:
                side, other = target.split()[0], {"left": "right", "right": "left"}
                assert not read(question).startswith(f"{other[side]} "), question


def print_table() -> None:
    for half in (*HALVES, *STRANGERS):
        counts = outcomes(half)
        print(half)
        for group in sorted({group for group, _ in counts}):
            told = {result: n for (of, result), n in counts.items() if of == group}
            total = sum(told.values())
            print(f"  {group}: {total}, right {told.get('right', 0) / total:.1%}, {told}")


if __name__ == "__main__":
    print_table()
