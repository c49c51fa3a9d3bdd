# SPDX-License-Identifier: Apache-2.0
"""All questions about an image: those that pass the checks, and why others did not."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.language import plain_text
from medreasoner_training.dataset.checks import Carried, Checkable, faults_of
from medreasoner_training.dataset.errors import BuildError
from medreasoner_training.dataset.metadata import (
    Metadata,
    Pixels,
    described_pairs,
    read_pixels,
)
from medreasoner_training.dataset.pairs import LabelledImage, Pair
from medreasoner_training.dataset.questions import Asked, QuestionKind, QuestionSource, Subject
from medreasoner_training.dataset.reasoning import reasoning_of
from medreasoner_training.dataset.targets import named_target, super_category
from medreasoner_training.samples.schema import ground_truth_json

TOO_FEW = "fewer questions than were wanted passed the checks"
ONE_OF_SEVERAL = "other labels of the image have the same name, so that no question tells it apart"
NONE_CERTAIN = "no target is certain to be absent from an image of this modality"


@dataclass(frozen=True)
class Wanted:
    """How many questions are made.

    Attributes:
        implicit: for each pair.
        explicit: for each pair.
        absent: for each image, about targets that it cannot show; every other one is explicit.
    """

    implicit: int = 3
    explicit: int = 1
    absent: int = 1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0:
                raise BuildError(f"{name} is {value}; expected 0 or more.")
        if not any(asdict(self).values()):
            raise BuildError("No question is wanted; expected 1 or more of one kind.")


@dataclass(frozen=True)
class Written:
    """A question that passed the checks, as a journal keeps it; its pixels are in the folder.

    ``ground_truth`` is that of the schema, ``null`` where the target is absent. ``label`` is that
    of the pair that the question is about, or, where the target is absent, of the pair that image
    and licence are taken from.
    """

    label: str
    ground_truth: str
    category: str
    super_category: str
    question: str
    kind: str
    language: str
    source: str
    model: str | None
    reasoning: str


@dataclass(frozen=True)
class Outcome:
    """What became of an image: its questions, and how often something was rejected and why."""

    written: tuple[Written, ...]
    rejected: Mapping[tuple[str, str], int]

    def to_json(self) -> dict[str, Any]:
        """A value for the journal."""
        rejected = [[*key, count] for key, count in sorted(self.rejected.items())]
        return {"written": [asdict(each) for each in self.written], "rejected": rejected}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """The reverse of :meth:`to_json`."""
        written = tuple(Written(**each) for each in value["written"])
        return cls(written, {(label, why): count for label, why, count in value["rejected"]})


class Asking:
    """Asks about one image after another, each by itself, so that the order does not matter.

    Args:
        source: writes the questions.
        wanted: how many.
        seed: equal seeds make equal questions.
        carried: whether rows must tell licence and split.
        groups: super-categories by the names of their targets, as the data set tells them.
    """

    def __init__(
        self,
        source: QuestionSource,
        wanted: Wanted,
        seed: int,
        carried: Carried,
        groups: Mapping[str, str],
    ) -> None:
        self._groups = groups
        self._source = source
        self._wanted = wanted
        self._seed = seed
        self._carried = carried

    def about(self, image: LabelledImage) -> Outcome:
        """Questions about all pairs of an image, then about absent targets."""
        rejected: Counter[tuple[str, str]] = Counter()
        pixels: dict[str, Pixels] = {}
        for pair in image.pairs:
            found = read_pixels(image, pair)
            if isinstance(found, str):
                rejected[pair.label, found] += 1
            else:
                pixels[pair.label] = found
        written: list[Written] = []
        for pair, metadata in described_pairs(image, pixels):
            written += self._about_pair(image, pair, metadata, pixels[pair.label].mask, rejected)
        readable = next((pair for pair in image.pairs if pair.label in pixels), None)
        if readable is not None:
            written += self._about_absent(image, readable, rejected)
        return Outcome(tuple(written), dict(rejected))

    def _about_pair(
        self,
        image: LabelledImage,
        pair: Pair,
        metadata: Metadata,
        mask: NDArray[np.bool_],
        rejected: Counter[tuple[str, str]],
    ) -> list[Written]:
        subject = Subject(pair.label, metadata.named, image.modality, metadata)
        truth = metadata.truth
        plain = Checkable(
            "", "", "", metadata.named, truth.bbox_xyxy_px, truth.points_xy_px, mask,
            metadata.mirrored, pair.licence, pair.split, pair.may_train,
        )  # fmt: skip
        rng = self._rng(image.key, pair.label)
        found = []
        for kind, count in self._kinds():
            for asked in self._passing(subject, kind, count, plain, rng, rejected):
                found.append(_written(asked, subject, pair, pair.name, metadata.super_category))
        return found

    def _about_absent(
        self, image: LabelledImage, pair: Pair, rejected: Counter[tuple[str, str]]
    ) -> list[Written]:
        shown = frozenset(pair.name for pair in image.pairs)
        names = self._source.absent(image.modality, shown)
        if not names and self._wanted.absent:
            rejected["", NONE_CERTAIN] += 1
        rng = self._rng(image.key, "")
        found: list[Written] = []
        for number, at in enumerate(rng.permutation(len(names))[: self._wanted.absent]):
            name = names[int(at)]
            subject = Subject(name, named_target(name), image.modality)
            plain = Checkable(
                "", "", "", subject.named, None, (), None, None,
                pair.licence, pair.split, pair.may_train,
            )  # fmt: skip
            kind: QuestionKind = "implicit" if (number + int(rng.integers(2))) % 2 else "explicit"
            for asked in self._passing(subject, kind, 1, plain, rng, rejected):
                group = super_category(self._groups.get(subject.named.name, ""), subject.named)
                found.append(_written(asked, subject, pair, name, group))
        return found

    def _kinds(self) -> tuple[tuple[QuestionKind, int], ...]:
        return ("implicit", self._wanted.implicit), ("explicit", self._wanted.explicit)

    def _passing(
        self,
        subject: Subject,
        kind: QuestionKind,
        count: int,
        plain: Checkable,
        rng: np.random.Generator,
        rejected: Counter[tuple[str, str]],
    ) -> list[Asked]:
        """The first ``count`` candidates without a fault that differ from each other."""
        found: dict[str, Asked] = {}
        for asked in self._source.questions(subject, kind, count, rng) if count else ():
            faults = faults_of(_filled(plain, asked), self._carried)
            for fault in faults:
                rejected[subject.label, fault] += 1
            if not faults:
                found.setdefault(plain_text(asked.text), asked)
            if len(found) == count:  # a model is not asked for more
                break
        if len(found) < count:
            alone = subject.metadata is None or subject.metadata.is_alone
            rejected[subject.label, TOO_FEW if alone else ONE_OF_SEVERAL] += 1
        return list(found.values())

    def _rng(self, *key: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, *(zlib.crc32(part.encode()) for part in key)])


def _filled(plain: Checkable, asked: Asked) -> Checkable:
    return replace(plain, question=asked.text, kind=asked.kind, language=asked.language)


def _written(asked: Asked, subject: Subject, pair: Pair, category: str, group: str) -> Written:
    truth = None if subject.metadata is None else subject.metadata.truth
    box, points = (None, None) if truth is None else (truth.bbox_xyxy_px, truth.points_xy_px)
    return Written(
        pair.label, ground_truth_json(box, points), category, group, asked.text, asked.kind,
        asked.language, asked.source, asked.model, reasoning_of(asked, subject),
    )  # fmt: skip
