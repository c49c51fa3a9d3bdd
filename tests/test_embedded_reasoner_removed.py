# SPDX-License-Identifier: Apache-2.0
"""Torsos that lack what belongs there: as after an operation, or with a place blotted out."""

from __future__ import annotations

import numpy as np
import pytest

from medreasoner_training.embedded.phantom import Label, sample_image
from medreasoner_training.embedded.questions import QuestionWriter
from medreasoner_training.embedded.reasoner.asking import Asker
from medreasoner_training.embedded.reasoner.removed import blotted, operated

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_operated_torso_is_the_same_but_for_what_was_taken_away(seed: int) -> None:
    whole = sample_image(np.random.default_rng(seed))
    lacking = sample_image(np.random.default_rng(seed), operated=operated)
    assert lacking.z_mm == whole.z_mm
    if lacking.removed is not None:
        assert (whole.labels == lacking.removed).any()
        assert not (lacking.labels == lacking.removed).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_blot_takes_a_target_away_or_lies_elsewhere(seed: int) -> None:
    whole = sample_image(np.random.default_rng(seed))
    lacking = blotted(whole, np.random.default_rng(seed))
    gone = lacking.labels != whole.labels
    assert (lacking.labels[gone] == Label.BACKGROUND).all()
    if lacking.removed is not None:
        assert gone[whole.labels == lacking.removed].all()
        assert not (lacking.labels == lacking.removed).any()


def test_what_was_taken_away_is_asked_for_and_absent() -> None:
    asker = Asker(QuestionWriter(), removed_share=1.0, picture_share=0.0)
    samples = [asker.sample(np.random.default_rng([3, n]), 3, 0) for n in SEEDS]
    lacking = [sample for sample in samples if sample.image.removed is not None]
    assert lacking
    first = [sample.questions[0] for sample in lacking]
    denied = [asked for asked in first if asked.target and asked.truth is None]
    assert len(denied) > len(lacking) / 2
    for sample in lacking:
        assert Label(sample.image.removed) not in sample.truths
