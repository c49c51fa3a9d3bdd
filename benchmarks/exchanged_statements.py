# SPDX-License-Identifier: Apache-2.0
"""Checks on true and false statements alike: ``python benchmarks/exchanged_statements.py``.

Nearly all that a reasoner says of phantoms is true. So each statement of its reasonings is set
beside one in which a word is exchanged, such that the label map says the opposite of it: another
side, brightness, shape, relation or neighbour. A sentence on size and position is added, in words
drawn by chance, since the embedded reasoner seldom speaks of them. Half of the statements are false
then, and a program that believes all of them agrees with half of them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from faithfulness import TRACE, Asked, Truth, ask, box_of, cases, neighbours

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.checks.checking import check_statements
from medreasoner_infer.checks_record import StatementCheck
from medreasoner_infer.imaging import choose_window
from medreasoner_infer.imaging.plane import Plane
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_training.evaluation.faithfulness import RIGHT_BOX_IOU, Share

Kind = Literal[
    "side", "named side", "position", "brightness", "shape", "direction", "neighbour", "size"
]
"""Of what is exchanged; a side may be told in the target's name, and a relation has a direction
and a neighbour."""
FIELDS: Mapping[Kind, str] = {
    "side": "place", "named side": "name", "direction": "where", "neighbour": "other"
}  # fmt: skip

ONE_OF: Mapping[str, tuple[str, ...]] = {
    "side": ("left", "right", "middle"),
    "position": ("front", "back", "front left", "front right", "back left", "back right"),
    "brightness": ("bright", "dark", "grey"),
    "shape": ("round", "oval", "elongated", "irregular"),
    "direction": ("left of", "right of", "behind", "in front of"),
    "size": ("small", "large"),
}
SMALL_AT_MOST, LARGE_FROM = 0.08, 0.03
"""Shares of the body's area, in words of docs/checked_reasoning.md."""
_AIR_HU = -300
_LUNGS = (1, 2, 15)


@dataclass(frozen=True)
class Said:
    """The words of a reasoning that can be exchanged; ``where`` and ``other`` may be absent."""

    name: str
    brightness: str
    shape: str
    place: str
    where: str | None
    other: str | None
    size: str
    position: str

    @classmethod
    def in_text(cls, reasoning: str, size: str, position: str) -> Said | None:
        """Those of a reasoning in the embedded model's wording, and of the sentence added to it."""
        found = TRACE.search(reasoning)
        if found is None:
            return None
        words = found.groupdict()
        return cls(
            words["name"], words["brightness"], words["shape"], words["place"] or "middle",
            words["where"], words["other"], size, position,
        )  # fmt: skip

    @property
    def text(self) -> str:
        """The reasoning with these words."""
        at = "in" if self.place == "middle" else "at"
        related = f", {self.where} the {self.other}" if self.where else ""
        return (
            f"The question points to the {self.name}, a {self.brightness} {self.shape} region {at} "
            f"the patient's {self.place}{related}. It is {self.size} and lies at the patient's "
            f"{self.position}."
        )

    def word(self, kind: Kind) -> str | None:
        """What is said of a kind."""
        word: str | None = getattr(self, FIELDS.get(kind, kind))
        return word

    def otherwise(self, kind: Kind, word: str) -> Said:
        """With one word exchanged."""
        return Said(**{**asdict(self), FIELDS.get(kind, kind): word})


@dataclass(frozen=True)
class Judged:
    """A statement, whether it is true, and what the program says of it."""

    kind: Kind
    truth: bool
    check: StatementCheck
    of_right_answer: bool
    text: str


class Facts:
    """What the label map says of words, by the rules of the documentation."""

    def __init__(self, asked: Asked, result: InferenceResult) -> None:
        self._truth = Truth(asked, result)
        labels, values = asked.study.labels[asked.index], asked.study.hu[asked.index]
        body = (values > _AIR_HU) | np.isin(labels, _LUNGS)
        self._share = asked.truth.sum() / body.sum()

    def says(self, kind: Kind, word: str, said: Said) -> bool | None:
        """Whether ``word`` is true of ``kind``; ``None`` where the label map cannot tell."""
        if kind == "size":
            return bool(
                self._share <= SMALL_AT_MOST if word == "small" else self._share >= LARGE_FROM
            )
        if kind == "named side":
            word = word.split()[0]
        if kind in ("side", "named side", "position"):
            return self._truth.says("position", word, {"place": word, "middle": None})
        if kind in ("brightness", "shape"):
            return self._truth.says(kind, word, {})
        changed = said.otherwise(kind, word)
        return self._truth.says("neighbour", word, {"where": changed.where, "other": changed.other})


def kinds_of(said: Said) -> Iterator[Kind]:
    """What a reasoning speaks of."""
    if said.place in ONE_OF["side"]:
        yield "side"
    yield from ("brightness", "shape", "size", "position")
    if said.name.startswith(("left ", "right ")):
        yield "named side"
    if said.where:
        yield from ("direction", "neighbour")


def alternatives(kind: Kind, said: Said, others: Sequence[str]) -> list[str]:
    """Other words of a kind."""
    if kind == "named side":
        side, organ = said.name.split(maxsplit=1)
        return [f"{'right' if side == 'left' else 'left'} {organ}"]
    choice = others if kind == "neighbour" else ONE_OF[kind]
    return [word for word in choice if word not in (said.word(kind), said.name)]


class Program:
    """The product's checks on one answer."""

    def __init__(self, asked: Asked, result: InferenceResult, model_size: int) -> None:
        self._asked = asked
        self._mask = result.mask_ijk[:, :, asked.index].T > 0
        self._shown = DisplayedSlice.of(
            asked.volume, Plane.AXIAL, asked.index, choose_window(asked.volume),
            model_size=model_size,
        )  # fmt: skip
        self.known = neighbours(asked)

    def says(self, kind: Kind, said: Said) -> StatementCheck:
        """Of the statement of a kind in these words."""
        checks = check_statements(
            said.text, self._asked.query, "present", self._shown, self._mask, self.known
        )
        named = {"direction": "neighbour", "named side": "side"}.get(kind, kind)
        found = [each for each in checks.statements if each.kind == named]
        return found[0 if kind == "named side" else -1]


def pairs_of(
    asked: Asked, result: InferenceResult, model_size: int, rng: np.random.Generator
) -> Iterator[Judged]:
    """Each statement and one whose truth is the opposite, where there is one."""
    added = [str(rng.choice(ONE_OF[kind])) for kind in ("size", "position")]
    said = Said.in_text(result.reasoning or "", *added)
    prompts = result.prompts
    if said is None or prompts is None or prompts.bbox_xyxy_slice_px is None:
        return
    if said.name != re.sub("^Where is the |[?]$", "", asked.query):
        return
    facts, program = Facts(asked, result), Program(asked, result, model_size)
    right = box_iou(prompts.bbox_xyxy_slice_px, box_of(asked.truth)) >= RIGHT_BOX_IOU
    others = [target.name for target in program.known]
    for kind in kinds_of(said):
        word = said.word(kind)
        truth = None if word is None else facts.says(kind, word, said)
        if truth is None:
            continue
        opposite = [
            word
            for word in alternatives(kind, said, others)
            if facts.says(kind, word, said) is (not truth)
        ]
        if opposite:
            changed = said.otherwise(kind, str(rng.choice(opposite)))
            for each, true in ((said, truth), (changed, not truth)):
                yield Judged(kind, true, program.says(kind, each), right, each.text)


def figures_of(judged: Sequence[Judged]) -> dict[str, object]:
    """Agreement, and how many of the true ones hold, and of the false ones do not."""
    told = [each for each in judged if each.check.verdict != "cannot be checked"]

    def share(truths: tuple[bool, ...]) -> dict[str, object]:
        return Share.of(
            (each.check.verdict == "holds") == each.truth for each in told if each.truth in truths
        ).to_dict()

    return {
        "statements": len(judged),
        "agreement": share((True, False)),
        "true_ones_hold": share((True,)),
        "false_ones_do_not_hold": share((False,)),
        "cannot_be_checked": len(judged) - len(told),
    }


def by_kind(judged: Sequence[Judged]) -> dict[str, dict[str, object]]:
    """Of all, and of each kind."""
    kinds = sorted({each.kind for each in judged})
    return {
        "all": figures_of(judged),
        **{kind: figures_of([each for each in judged if each.kind == kind]) for kind in kinds},
    }


def main() -> None:
    """Measure and print what was misjudged, and the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reasoner", default="embedded")
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=740_000)
    parser.add_argument("--per-phantom", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    settings = parser.parse_args()
    begun = time.monotonic()
    pipeline = Pipeline.from_registry(settings.reasoner, device="cpu")
    rng = np.random.default_rng(settings.first_seed)
    judged: list[Judged] = []
    for asked in cases(settings.phantoms, settings.per_phantom, settings.first_seed):
        result = ask(pipeline, asked)
        if result.present:
            judged += pairs_of(asked, result, pipeline.reasoner.input_size, rng)
    for each in judged:
        check = each.check
        if check.verdict != "cannot be checked" and (check.verdict == "holds") != each.truth:
            print(f"{each.text} | {check.claim}: {check.verdict} ({check.measured}), {each.truth}")
    figures = {
        "answers": by_kind(judged),
        "right_answers": by_kind([each for each in judged if each.of_right_answer]),
        "reasoner_sha256": pipeline.reasoner.identity.weights_sha256,
        "seconds": round(time.monotonic() - begun),
    }
    print(json.dumps(figures))
    if settings.out:
        settings.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
