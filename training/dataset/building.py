# SPDX-License-Identifier: Apache-2.0
"""A data set from a folder of images: asked, checked, written whole or not at all.

While a build goes on, the questions of each finished image stand in a hidden folder beside the
output. A build that was ended goes on there, and writes the same files as one that was not.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

import medreasoner_infer
from medreasoner_infer.atomic import replacing_folder, write_durably
from medreasoner_training.dataset.asking import Asking, Outcome, Wanted, Written
from medreasoner_training.dataset.checks import Carried, TogetherChecks
from medreasoner_training.dataset.errors import BuildError
from medreasoner_training.dataset.journal import journal_at
from medreasoner_training.dataset.opening import open_case
from medreasoner_training.dataset.pairs import ImageFolder, LabelledImage, Pair
from medreasoner_training.dataset.questions import QuestionSource
from medreasoner_training.dataset.storing import (
    ABSENT,
    SplitFiles,
    StoredQuestion,
    image_png,
    mask_png,
    question_id,
    stored_schema,
)
from medreasoner_training.dataset.targets import named_target
from medreasoner_training.evaluation import EvaluationRow
from medreasoner_training.json_lines import JsonLines
from medreasoner_training.samples import require_free

RECORD_NAME = "dataset.json"
JOURNAL_NAME = "questions.jsonl"
_SETTINGS_NAME = "build.json"
_LOCK_NAME = ".lock"
OnImage = Callable[[int, int], None]


@dataclass(frozen=True)
class Built:
    """What a build wrote.

    Attributes:
        rows: by split.
        rejected: (label, reason, count), sorted; the label is empty for what is about an image.
        files: name within the folder and SHA-256.
    """

    rows: Mapping[str, int]
    rejected: tuple[tuple[str, str, int], ...]
    files: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Build:
    """What is built from what.

    Attributes:
        images: the folder.
        source: writes the questions.
        wanted: how many.
        seed: of everything that is drawn.
        out: new folder.
    """

    images: ImageFolder
    source: QuestionSource
    out: Path
    wanted: Wanted = field(default_factory=Wanted)
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """What must be the same for a build to go on."""
        return {
            "images": {"name": self.images.name, "sha256": self.images.fingerprint},
            "source": self.source.settings,
            "wanted": asdict(self.wanted),
            "seed": self.seed,
            "code_version": medreasoner_infer.__version__,
        }

    @property
    def carried(self) -> Carried:
        """What the folder tells of some pairs, and so should of all."""
        pairs = [pair for image in self.images.images for pair in image.pairs]
        return Carried(any(p.licence for p in pairs), any(p.split for p in pairs))


def working_folder(out: Path) -> Path:
    """Where an unfinished build keeps what it has."""
    return out.with_name(f".{out.name}.building")


def build_dataset(build: Build, on_image: OnImage | None = None) -> Built:
    """Make the questions that are still to be made, and write the data set.

    Args:
        build: what is built from what.
        on_image: called with (images done, all images).

    Raises:
        DatasetFolderError: the output folder holds something.
        BuildError: an unfinished build of other settings is there, another process builds, or no
            question passed the checks.
        ServiceError: a model that writes cannot be used now.
        MissingExtraError: the packages for writing are not installed.
    """
    require_free(build.out)
    stored_schema()
    working = working_folder(build.out)
    with _alone_in(working):
        _require_same_build(build, working)
        journal = journal_at(working / JOURNAL_NAME)
        _ask_rest(build, journal, on_image)
        outcomes = [Outcome.from_json(value) for value in journal.values]
        with replacing_folder(build.out) as folder:
            folder.mkdir(mode=0o700)
            built = _write(build, outcomes, folder)
            record = {"settings": build.settings(), **asdict(built)}
            (folder / RECORD_NAME).write_text(
                json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
    shutil.rmtree(working, ignore_errors=True)
    return built


def _ask_rest(build: Build, journal: JsonLines[Any], on_image: OnImage | None) -> None:
    images = build.images.images
    groups = {
        named_target(pair.name).name: pair.super_category
        for image in images
        for pair in image.pairs
        if pair.super_category
    }
    asking = Asking(build.source, build.wanted, build.seed, build.carried, groups)
    for done, image in enumerate(images[len(journal.values) :], start=len(journal.values) + 1):
        journal.append(asking.about(image).to_json())
        if on_image is not None:
            on_image(done, len(images))


def _write(build: Build, outcomes: Sequence[Outcome], folder: Path) -> Built:
    rejected: Counter[tuple[str, str]] = Counter()
    rows: Counter[str] = Counter()
    together, files = TogetherChecks(), SplitFiles(folder)
    try:
        for image, outcome in zip(build.images.images, outcomes, strict=True):
            rejected.update(outcome.rejected)
            for label, row in _rows_of(image, outcome.written):
                fault = together.add(row.image, row.question, row.mask, row.patient, row.split)
                if fault is not None:
                    rejected[label, fault] += 1
                    continue
                files.add(row)
                rows[row.split] += 1
        hashes = files.finish()
    finally:
        files.close()
    counted = tuple((*key, count) for key, count in sorted(rejected.items()))
    if not rows:
        why = "; ".join(f"{count} times: {reason}" for _, reason, count in counted)
        raise BuildError(f"No question passed the checks. {why or 'The folder lists no image.'}")
    return Built(dict(sorted(rows.items())), counted, hashes)


class _Pictures:
    """The pictures of an image as they are stored, each made once."""

    def __init__(self, image: LabelledImage) -> None:
        self._image = image
        self._pairs = {pair.label: pair for pair in image.pairs}
        self._png = b""
        self._masks: dict[tuple[str, bool], bytes] = {}

    def of(self, written: Written) -> tuple[Pair, bytes, bytes]:
        """The pair, its image and the mask of a question.

        Raises:
            EvaluationDataError: a file of the folder has changed meanwhile.
        """
        pair, present = self._pairs[written.label], written.ground_truth != ABSENT
        if (pair.label, present) not in self._masks:
            row = EvaluationRow(
                pair.label, "", self._image.path, pair.mask if present else None,
                written.ground_truth,
            )  # fmt: skip
            case = open_case(row)
            mask = np.zeros(case.shown.mapping.shape_hw, bool) if case.mask is None else case.mask
            self._masks[pair.label, present] = mask_png(mask)
            self._png = self._png or image_png(case.shown.image.pixels)
        return pair, self._png, self._masks[pair.label, present]


def _rows_of(
    image: LabelledImage, written: Sequence[Written]
) -> Iterator[tuple[str, StoredQuestion]]:
    """Each row with the label that it is counted by."""
    pictures = _Pictures(image)
    for each in written:
        pair, png, mask = pictures.of(each)
        label = each.category if each.ground_truth == ABSENT else pair.label
        row = StoredQuestion(
            id=question_id(image.key, label, each.question),
            image=png,
            mask=mask,
            ground_truth=each.ground_truth,
            question=each.question,
            category=each.category,
            super_category=each.super_category,
            modality=image.modality,
            patient=pair.patient,
            split=pair.split,
            licence=pair.licence,
            may_train=pair.may_train,
            kind=each.kind,
            language=each.language,
            reasoning=each.reasoning,
            source=each.source,
            model=each.model,
        )
        yield label, row


def _require_same_build(build: Build, working: Path) -> None:
    path, now = working / _SETTINGS_NAME, json.loads(json.dumps(build.settings()))
    if not path.exists():
        write_durably(path, json.dumps(now, indent=1) + "\n")
        return
    try:
        before = json.loads(path.read_bytes())
    except ValueError as error:
        raise BuildError(
            f"{_SETTINGS_NAME} of an unfinished build is damaged. Remove the folder "
            f"{working.name!r} to start again."
        ) from error
    changed = [key for key in now if not isinstance(before, dict) or before.get(key) != now[key]]
    if changed:
        raise BuildError(
            f"An unfinished build with other {' and '.join(changed)} is in {working.name!r} beside "
            "the output folder. Go on with what it was started with, or remove it."
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(folder / _LOCK_NAME, timeout=0):
            yield
    except Timeout as error:
        raise BuildError(
            "Another process builds this data set. Wait for it, or give another folder."
        ) from error
