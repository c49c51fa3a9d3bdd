# SPDX-License-Identifier: Apache-2.0
"""What the page of a run shows, kept beside it so that a resumed run goes on with the same page."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.atomic import write_durably

WATCH_FOLDER, RECORD_FILE, PAGE_FILE = "watch", "record.json", "index.html"
_OWNER_ONLY = 0o700
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutQuestion:
    """A question that is asked at each evaluation; the PNG, in base64, shows the truth."""

    question: str
    label: str
    png_base64: str


@dataclass(frozen=True)
class HeldOutAnswer:
    """The answer to one of them; the PNG shows it on the truth.

    Attributes:
        told: what the answer says, in a word or two, or the IoU of its box.
        completion: the model's text.
        png_base64: PNG in base64.
    """

    told: str
    completion: str
    png_base64: str


@dataclass(frozen=True)
class Look:
    """The answers after a step, one for each question."""

    step: int
    answers: tuple[HeldOutAnswer, ...]


@dataclass(frozen=True)
class ShownRollout:
    """A rollout.

    Attributes:
        told: what it says, in a word or two, or the IoU of its box.
        completion: the model's text.
        terms: each reward by its name, weights included; ``None`` where it does not score.
        advantage: what it is learnt by.
        cut_off: whether it was ended at the longest length.
        png_base64: PNG in base64, the answer on the truth.
    """

    told: str
    completion: str
    terms: dict[str, float | None]
    advantage: float
    cut_off: bool
    png_base64: str

    @property
    def reward(self) -> float:
        """The sum of the terms."""
        return sum(value for value in self.terms.values() if value is not None)


@dataclass(frozen=True)
class Group:
    """The rollouts of a question that a step learnt from."""

    step: int
    question: str
    rollouts: tuple[ShownRollout, ...]

    @property
    def teaches(self) -> bool:
        """Whether its rewards differ; without variance all advantages are 0."""
        return any(each.advantage for each in self.rollouts)


@dataclass(frozen=True)
class WatchRecord:
    """All that is shown, in the order of the steps.

    Attributes:
        questions: the held-out questions.
        looks: what was answered to them.
        groups: rollouts.
        box_ious: step and mean box IoU of each evaluation.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    questions: tuple[HeldOutQuestion, ...] = ()
    looks: tuple[Look, ...] = ()
    groups: tuple[Group, ...] = ()
    box_ious: tuple[tuple[int, float], ...] = ()

    def until(self, step: int) -> WatchRecord:
        """Without what came after a step, from which a run goes on."""
        return replace(
            self,
            looks=tuple(each for each in self.looks if each.step <= step),
            groups=tuple(each for each in self.groups if each.step <= step),
            box_ious=tuple(each for each in self.box_ious if each[0] <= step),
        )

    def with_look(self, look: Look, box_iou: float | None, kept: int) -> WatchRecord:
        """With one more look at the held-out questions; the first and the newest are kept."""
        looks = (*self.looks, look)
        if len(looks) > kept:
            looks = (looks[0], *looks[1 - kept :])
        ious = self.box_ious if box_iou is None else (*self.box_ious, (look.step, box_iou))
        return replace(self, looks=looks, box_ious=ious)

    def with_groups(self, groups: tuple[Group, ...], kept: int) -> WatchRecord:
        """With the groups of one more step; those of the newest steps are kept."""
        every = (*self.groups, *groups)
        steps = sorted({each.step for each in every})[-kept:]
        return replace(self, groups=tuple(each for each in every if each.step in steps))


_SCHEMA = TypeAdapter(WatchRecord)


def page_of(run_dir: Path) -> Path:
    """Where the page of a run lies if it is watched."""
    return run_dir / WATCH_FOLDER / PAGE_FILE


def read_watched(folder: Path) -> WatchRecord:
    """The record in a folder; an empty one where it was removed, or is of another version."""
    try:
        return _SCHEMA.validate_json((folder / RECORD_FILE).read_bytes())
    except FileNotFoundError:
        return WatchRecord()
    except ValidationError:
        logger.warning("%s is of another version; the page begins anew.", RECORD_FILE)
        return WatchRecord()


def write_watched(folder: Path, record: WatchRecord) -> None:
    """Replace the record in a folder that only its owner may open."""
    folder.mkdir(mode=_OWNER_ONLY, exist_ok=True)
    folder.chmod(_OWNER_ONLY)
    write_durably(folder / RECORD_FILE, json.dumps(asdict(record)), private=True)
