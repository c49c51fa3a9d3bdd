# SPDX-License-Identifier: Apache-2.0
"""Samples of another site, mixed in so that the reasoner does not forget it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.imaging import Plane
from medreasoner_training.finetune.errors import NoValidationError
from medreasoner_training.finetune.rows import spread_rows
from medreasoner_training.finetune.settings import DataSettings
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    QuerySource,
    Question,
    Sample,
    open_dataset,
)
from medreasoner_training.samples.schema import features, to_row

if TYPE_CHECKING:
    from datasets import Dataset

    from medreasoner_training.embedded.reasoner.asking import Asker
    from medreasoner_training.embedded.reasoner.samples import Asked

PHANTOMS = "phantoms"
_SEED, _HELD_OUT_SEED = 940_000, 941_000
#: Samples of the former site that the gate looks at, at most.
_HELD_OUT_ROWS = 240
#: Questions about one section to choose from: enough that one of each kind is among them.
_DRAWN_QUESTIONS = 12
#: Of pictures that are no sections of a torso: five kinds share it, and each is soon forgotten.
_PICTURE_SHARE = 0.5


def with_replay(
    raw: Dataset, data: DataSettings, run_dir: Path, size_px: int, prompts: int = 0
) -> Dataset:
    """The site's training rows and the share of replayed ones that the configuration asks for.

    Phantoms cost nothing, so that none need be shown twice: where the prompts of the run are known,
    the site's rows stand in it as often as training passes over them, beside other phantoms each
    time.

    Args:
        raw: the site's rows, images of D px.
        data: which share of what.
        run_dir: relative paths count from it.
        size_px: side of generated images.
        prompts: questions that the run asks in all, 0 if its passes decide that.

    Raises:
        DatasetFolderError: the replayed folder is no data set.
    """
    count = round(len(raw) * data.replay_share / (1 - data.replay_share))
    if not count or data.replay is None:
        return raw
    from datasets import concatenate_datasets

    if data.replay == PHANTOMS:
        passes = max(1, round(prompts / (len(raw) + count)))
        raw = concatenate_datasets([raw] * passes)
        replayed = phantom_rows(passes * count, size_px)
    else:
        replayed = spread_rows(open_dataset(run_dir / data.replay).load(TRAIN), count)
    return concatenate_datasets([raw.cast(features()), replayed.cast(features())])


def former_rows(data: DataSettings, run_dir: Path, size_px: int) -> Dataset | None:
    """Rows of the replayed site that are not learnt from; ``None`` where nothing is replayed.

    Raises:
        DatasetFolderError: the replayed folder is no data set.
        NoValidationError: it holds no validation patients.
    """
    if not data.replay_share or data.replay is None:
        return None
    if data.replay == PHANTOMS:
        return phantom_rows(_HELD_OUT_ROWS, size_px, _HELD_OUT_SEED)
    former = open_dataset(run_dir / data.replay)
    counts = former.manifest.splits.get(VALIDATION)
    if counts is None or not counts.rows:
        raise NoValidationError(
            f"The replayed data set {data.replay} has no validation patients, so nobody could tell "
            "what is forgotten of it. Export it again with a validation share above 0."
        )
    return spread_rows(former.load(VALIDATION), min(counts.rows, _HELD_OUT_ROWS))


def phantom_rows(count: int, size_px: int, seed: int = _SEED) -> Dataset:
    """Synthetic images and questions of the kinds that the embedded reasoner was trained on.

    Every other question asks for a target that is not there, as about half of a site's exported
    questions do: with fewer, the reasoner forgets how to say so.
    """
    from datasets import Dataset

    rows = [to_row(phantom_sample(index, size_px, seed), index) for index in range(count)]
    return Dataset.from_list(rows, features=features())


def phantom_sample(index: int, size_px: int, seed: int = _SEED) -> Sample:
    """One question about a synthetic image; equal arguments give equal samples."""
    rng = np.random.default_rng([seed, index])
    fitting: list[Asked] = []
    while not fitting:
        drawn = _asker(size_px).sample(rng, _DRAWN_QUESTIONS, 0)
        fitting = [q for q in drawn.questions if q.target and (q.truth is None) == bool(index % 2)]
    asked, grey = fitting[int(rng.integers(len(fitting)))], drawn.image.grey
    truth = asked.truth
    trace = asked.completion.partition("<think>")[2].partition("</think>")[0]
    return Sample(
        image=np.repeat(grey[..., None], 3, axis=2),
        mask=np.zeros(grey.shape, bool) if truth is None else truth.mask,
        question=Question(asked.query, QuerySource.TEMPLATE, trace),
        label_name=asked.target,
        bbox_xyxy_px=None if truth is None else truth.bbox_xyxy_px,
        points_xy_px=None if truth is None else truth.points_xy_px,
        plane=Plane.AXIAL,
        slice_index=0,
        modality="CT" if drawn.is_torso else drawn.image.mode,
        window="phantom",
        case_key=f"phantom-{index}",
        patient_key=f"phantom-{index}",
    )


@lru_cache(maxsize=1)
def _asker(size_px: int) -> Asker:
    from medreasoner_training.embedded.questions import QuestionWriter
    from medreasoner_training.embedded.reasoner.asking import Asker

    writer = QuestionWriter(held_out_languages=())
    return Asker(writer, size_px=size_px, picture_share=_PICTURE_SHARE)
