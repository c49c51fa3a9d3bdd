# SPDX-License-Identifier: Apache-2.0
"""Training and test samples: one phantom image with several questions and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..phantom.anatomy import Label
from ..phantom.scanner import PhantomImage, sample_image
from ..queries import known_targets, query_table
from .reasonings import FINDINGS, absent_reasoning, answer_text, present_reasoning
from .targets import GroundTruth, target_mask, visible_targets

SIZE_PX = 128
ABSENT_SHARE = 0.15
AT_FINDING_SHARE = 0.35
"""Of the training slices of torsos with findings; without it a model learns to deny them all."""


@dataclass(frozen=True)
class Question:
    """One question about one image; ``truth`` is ``None`` when the target is not on the slice."""

    label: Label
    query: str
    completion: str
    truth: GroundTruth | None


@dataclass(frozen=True)
class Asked:
    """A question in a user's own words and its completion.

    Attributes:
        query: the question.
        completion: what is to be answered.
        stated: the beginning of the completion that the question alone decides.
        whole: whether the completion ends, rather than breaks off where the image would decide.
        target: asked for, where the image decides; empty otherwise.
        truth: of the target; ``None`` where the image does not show it.
    """

    query: str
    completion: str
    stated: str
    whole: bool = True
    target: str = ""
    truth: GroundTruth | None = None


@dataclass(frozen=True)
class Sample:
    """A phantom image with all its visible targets and the questions asked about it."""

    image: PhantomImage
    truths: dict[Label, GroundTruth]
    questions: tuple[Question, ...]
    is_torso: bool = True


@dataclass(frozen=True)
class AskedSample:
    """An image and questions in a user's own words.

    The truths of a real image stand in its questions only; ``is_torso`` tells whether the label map
    is complete.
    """

    image: PhantomImage
    truths: dict[Label, GroundTruth]
    questions: tuple[Asked, ...]
    is_torso: bool


def vary_query(query: str, rng: np.random.Generator) -> str:
    """Vary the surface of a question: verb, prefix, suffix, letter case, final mark."""
    table = query_table()
    verb = next((v for v in table.verbs if query.startswith(f"{v} ")), None)
    if verb and rng.random() < 0.4:
        query = str(rng.choice(table.verbs)) + query.removeprefix(verb)
    if rng.random() < 0.25:
        query = str(rng.choice(table.prefixes)) + query[0].lower() + query[1:]
    if rng.random() < 0.1:
        query = query + str(rng.choice(table.suffixes))
    if rng.random() < 0.1:
        query = query.rstrip(".?")
    if rng.random() < 0.15:
        query = query.lower()
    return query


def drop_words(query: str, rng: np.random.Generator) -> str:
    """Leave out about a fifth of the words, so that no single word carries the meaning."""
    words = query.split(" ")
    kept = [word for word in words if rng.random() > 0.2]
    return " ".join(kept) if len(kept) > len(words) // 2 else query


def choose_query(label: Label, rng: np.random.Generator, held_out: bool = False) -> str:
    """Draw a phrasing for a target; trained ones vary in their surface, held-out ones do not."""
    target = known_targets()[label]
    if held_out:
        return str(rng.choice(target.held_out))
    return vary_query(str(rng.choice(target.trained)), rng)


def training_query(label: Label, rng: np.random.Generator) -> str:
    """A trained phrasing; a third of them lack words, an eighth are two phrasings in one."""
    query = choose_query(label, rng)
    if rng.random() < 0.125:
        query = f"{query} {rng.choice(known_targets()[label].trained)}"
    return drop_words(query, rng) if rng.random() < 0.33 else query


def ask(
    image: PhantomImage, truths: Mapping[Label, GroundTruth], label: Label, query: str
) -> Question:
    """Pair a question with the completion that this image with these visible targets demands."""
    truth = truths.get(label)
    if truth is None:
        reasoning = absent_reasoning(truths, label)
    else:
        reasoning = present_reasoning(image.grey, truths, label)
    return Question(label, query, answer_text(reasoning, truth), truth)


def absent_labels(labels: np.ndarray) -> list[Label]:
    """Targets of which not a single pixel is on the slice."""
    return [label for label in known_targets() if not target_mask(labels, label).any()]


def sample_questions(
    rng: np.random.Generator, count: int, size_px: int = SIZE_PX, at_finding: float = 0.0
) -> Sample:
    """Draw an image that shows at least one target and ``count`` training questions about it.

    About ``ABSENT_SHARE`` of the questions ask for a target that is not on the slice; a finding
    that is there is asked for first. ``at_finding``: see :func:`sample_image`.
    """
    while True:
        image = sample_image(rng, size_px, at_finding)
        truths = visible_targets(image.labels)
        if truths:
            break
    present, absent = list(truths), absent_labels(image.labels)
    rng.shuffle(present)
    present.sort(key=lambda label: label not in FINDINGS)
    questions = []
    for index in range(count):
        if absent and rng.random() < ABSENT_SHARE:
            label = absent[int(rng.integers(len(absent)))]
        else:
            label = present[index % len(present)]
        questions.append(ask(image, truths, label, training_query(label, rng)))
    return Sample(image, truths, tuple(questions))
