# SPDX-License-Identifier: Apache-2.0
"""Questions in a user's own words about phantoms and real images, and what is to be answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from medreasoner_infer.language import LANGUAGES, SIDES, FactKind, Language, unsided
from medreasoner_infer.reasoners.known_targets import SEVERAL_TARGETS, UNKNOWN_TARGET

from ..phantom.anatomy import Label
from ..phantom.scanner import PhantomImage, sample_image
from ..queries import known_targets
from ..questions import Kind, Question, QuestionWriter, Split
from .modelling import question_by_name
from .pictures import (
    Picture,
    drawn,
    phantom_kinds,
    phantom_picture,
    unknown_picture,
)
from .reasonings import (
    FINDINGS,
    UNKNOWN_PICTURE,
    absent_reasoning,
    answer_text,
    picture_reasoning,
    refusal_text,
    stated,
    torso_reasoning,
)
from .removed import blotted, operated
from .samples import ABSENT_SHARE, AT_FINDING_SHARE, SIZE_PX, Asked, AskedSample, training_query
from .targets import GroundTruth, visible_targets

KNOWN_KINDS: dict[Kind, float] = {
    "name": 0.14,
    "synonym": 0.1,
    "latin": 0.04,
    "abbreviation": 0.04,
    "lay": 0.08,
    "implicit": 0.45,
    "misspelt": 0.15,
}
"""Mostly what the vocabulary alone does not read, see ``language.recognition``."""
OTHER_KINDS: dict[Kind, float] = {"outside": 0.55, "nonsense": 0.3, "several": 0.15}
REFUSED_SHARE = {"whole": 0.15, "begun": 0.3}
"""A refusal does not look at the image: it is learnt as well from an answer that is only begun."""
BY_NAME_SHARE = 0.7
"""Of the questions about images that name their target, as they are put when it is recognised."""
PHRASING_SHARE = 0.15
"""Of the questions about a phantom's targets, in the words of ``queries.yaml``."""
ENGLISH_SHARE = 0.35
PICTURE_SHARE, UNKNOWN_PICTURE_SHARE = 0.3, 0.03
OPERATED_SHARE = 0.4
"""Of the torsos that lack something; of the others a place is blotted out."""
ELSEWHERE = (
    "polyp",
    "skin lesion",
    "optic disc",
    "foveal avascular zone",
    "cell nuclei",
    "brain lesion",
    "benign breast lesion",
)
"""Targets that no torso and no heart shows."""


def led_by(question: Question, fact_kinds: Mapping[str, FactKind]) -> FactKind | None:
    """What in a question leads to its target; ``None`` where it is called by a name."""
    return fact_kinds[question.source] if question.source else None


@dataclass(frozen=True)
class _Scene:
    """A picture with its truths by target; ``phantom`` has those of a torso by label."""

    image: PhantomImage
    truths: Mapping[str, GroundTruth]
    elsewhere: tuple[str, ...]
    phantom: Mapping[Label, GroundTruth] | None = None


class Asker:
    """Draws samples with questions from the vocabulary.

    Args:
        writer: of the questions.
        pictures: real images that may be trained on; none by default.
        split: of the questions.
        size_px: side of the reasoner's square.
        picture_share: share of pictures that are no sections of a torso.
        removed_share: of the torsos that lack something that belongs there.
    """

    def __init__(
        self,
        writer: QuestionWriter,
        pictures: Sequence[Picture] = (),
        split: Split = "train",
        size_px: int = SIZE_PX,
        picture_share: float = PICTURE_SHARE,
        removed_share: float = 0.0,
    ) -> None:
        self._writer, self._split, self._size_px = writer, split, size_px
        self._picture_share, self._removed_share = picture_share, removed_share
        self._pictures: dict[str, list[Picture]] = {}
        for picture in pictures:
            self._pictures.setdefault(picture.modality, []).append(picture)

    @cached_property
    def _fact_kinds(self) -> dict[str, FactKind]:
        facts = self._writer.material.facts
        return {item.key: item.fact.kind for items in facts.values() for item in items}

    def sample(self, rng: np.random.Generator, whole: int, beginnings: int) -> AskedSample:
        """An image, ``whole`` questions with answers, and ``beginnings`` of answers to others.

        A beginning ends where the image would have to decide, so that it may be about any target.
        """
        draw = rng.random()
        if draw < UNKNOWN_PICTURE_SHARE:
            grey = unknown_picture(self._size_px, rng)
            image = PhantomImage(grey, np.zeros_like(grey), "none", 0.0)
            asked = [self._refused_picture(rng) for _ in range(whole)]
            return AskedSample(image, {}, tuple(asked), is_torso=False)
        if draw < UNKNOWN_PICTURE_SHARE + self._picture_share:
            scene = self._picture_scene(rng)
        else:
            scene = _torso_scene(rng, self._size_px, self._removed_share)
        asked = [self._whole(scene, rng, number) for number in range(whole)]
        asked += [self._beginning(rng) for _ in range(beginnings)]
        is_torso = scene.phantom is not None
        return AskedSample(scene.image, dict(scene.phantom or {}), tuple(asked), is_torso=is_torso)

    def words(self, rng: np.random.Generator, count: int) -> tuple[Asked, ...]:
        """Questions without an image, and as much of their answers as can be said without one."""
        return tuple(self._beginning(rng) for _ in range(count))

    def _picture_scene(self, rng: np.random.Generator) -> _Scene:
        kinds = (*self._pictures, *phantom_kinds(self._pictures))
        kind = kinds[int(rng.integers(len(kinds)))]
        of_kind = self._pictures.get(kind)
        if of_kind is None:
            picture = phantom_picture(kind, rng)
        else:
            picture = of_kind[int(rng.integers(len(of_kind)))]
        grey, truths = drawn(picture, self._size_px, rng)
        image = PhantomImage(grey, np.zeros_like(grey), picture.modality, 0.0)
        near = {"cardiac MR", "spine MR", "X-ray", "CT"}
        absent = set(ELSEWHERE) if picture.modality in near else self._all_names - {"vertebra"}
        return _Scene(image, truths, tuple(sorted(absent - set(picture.masks))))

    @cached_property
    def _all_names(self) -> set[str]:
        return {
            f"{side} {target.name}" if side else target.name
            for target in self._writer.material.known_targets()
            for side in target.sides
        }

    def _whole(self, scene: _Scene, rng: np.random.Generator, number: int) -> Asked:
        if rng.random() < REFUSED_SHARE["whole"]:
            return self._refused(rng)
        absent = rng.random() < ABSENT_SHARE or not scene.truths
        names = scene.elsewhere if absent else tuple(scene.truths)
        found = [] if number else _asked_first(scene, absent)
        name = found[0] if found else names[int(rng.integers(len(names)))]
        label = _label_of(name) if scene.phantom is not None else None
        if label is not None and rng.random() < PHRASING_SHARE:
            return _answered(scene, name, training_query(label, rng), None)
        question = _by_name(self._about(name, rng), rng)
        if question.target != name:  # it leaves the side open
            name = _larger_side(scene, question.target or name)
        by = led_by(question, self._fact_kinds)
        return _answered(scene, name, question.text, by)

    def _beginning(self, rng: np.random.Generator) -> Asked:
        if rng.random() < REFUSED_SHARE["begun"]:
            return self._refused(rng)
        while True:
            question = self._draw(KNOWN_KINDS, rng)
            if question.target in self._all_names:
                break
        text = stated(question.target)
        return Asked(question.text, f"<think>{text}", f"<think>{text}", whole=False)

    def _about(self, name: str, rng: np.random.Generator) -> Question:
        """A question about one target; one in eight of a side leaves the side open."""
        writer = self._writer
        while True:
            question = writer.write(
                _drawn(KNOWN_KINDS, rng), _language(rng), self._split, rng, about=unsided(name)
            )
            if question is None:
                continue
            if question.target == name or question.target == unsided(name):
                return question

    def _draw(self, kinds: Mapping[Kind, float], rng: np.random.Generator) -> Question:
        while True:
            question = self._writer.write(_drawn(kinds, rng), _language(rng), self._split, rng)
            if question is not None:
                return question

    def _refused(self, rng: np.random.Generator) -> Asked:
        question = self._draw(OTHER_KINDS, rng)
        return _refusal(
            question.text, SEVERAL_TARGETS if question.kind == "several" else UNKNOWN_TARGET
        )

    def _refused_picture(self, rng: np.random.Generator) -> Asked:
        return _refusal(self._draw(KNOWN_KINDS, rng).text, UNKNOWN_PICTURE)


def _torso_scene(rng: np.random.Generator, size_px: int, removed_share: float) -> _Scene:
    while True:
        image = _torso(rng, size_px, removed_share)
        truths = visible_targets(image.labels)
        if truths:
            break
    names = {known_targets()[label].name: truth for label, truth in truths.items()}
    shown = set(np.unique(image.labels))
    absent = [target.name for label, target in known_targets().items() if label not in shown]
    return _Scene(image, names, (*absent, *ELSEWHERE), truths)


def _torso(rng: np.random.Generator, size_px: int, removed_share: float) -> PhantomImage:
    # Without a share nothing is drawn, so that earlier stages stay what they were.
    if not removed_share or rng.random() >= removed_share:
        return sample_image(rng, size_px, AT_FINDING_SHARE)
    if rng.random() < OPERATED_SHARE:
        return sample_image(rng, size_px, AT_FINDING_SHARE, operated)
    return blotted(sample_image(rng, size_px, AT_FINDING_SHARE), rng)


def _asked_first(scene: _Scene, absent: bool) -> list[str]:
    """What was taken away from a torso, else what it shows that should not be there."""
    if scene.image.removed is not None:
        name = known_targets()[scene.image.removed].name
        return [name] if name in scene.elsewhere else []
    if absent:
        return []
    return [known_targets()[label].name for label in scene.phantom or {} if label in FINDINGS]


def _answered(scene: _Scene, name: str, query: str, by: FactKind | None) -> Asked:
    truth = scene.truths.get(name)
    begin = f"<think>{stated(name)}"
    if truth is None:
        reasoning = absent_reasoning(scene.phantom or {}, None, by, name)
    elif scene.phantom is None:
        reasoning = picture_reasoning(scene.image.grey, truth, by, name)
    else:
        reasoning = torso_reasoning(scene.image.grey, scene.phantom, truth.label, by, name)
    return Asked(query, answer_text(reasoning, truth), begin, target=name, truth=truth)


def _by_name(question: Question, rng: np.random.Generator) -> Question:
    """Mostly the one question by name that a recognised target makes."""
    if question.kind == "implicit" or rng.random() >= BY_NAME_SHARE:
        return question
    return replace(question, text=question_by_name(question.targets[0]))


def _refusal(query: str, reasoning: str) -> Asked:
    return Asked(query, refusal_text(reasoning), f"<think>{reasoning}")


def _larger_side(scene: _Scene, either: str) -> str:
    """Which of both sides is answered where the question leaves it open: the larger section."""
    sided = [f"{side} {either}" for side in SIDES if f"{side} {either}" in scene.truths]
    if not sided:
        return either
    return max(sided, key=lambda name: int(scene.truths[name].mask.sum()))


def _label_of(name: str) -> Label | None:
    return next((label for label, t in known_targets().items() if t.name == name), None)


def _drawn(kinds: Mapping[Kind, float], rng: np.random.Generator) -> Kind:
    names = list(kinds)
    return names[int(rng.choice(len(names), p=np.array(list(kinds.values()))))]


def _language(rng: np.random.Generator) -> Language:
    if rng.random() < ENGLISH_SHARE:
        return "en"
    return LANGUAGES[1 + int(rng.integers(len(LANGUAGES) - 1))]
