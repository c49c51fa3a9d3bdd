# SPDX-License-Identifier: Apache-2.0
"""Questions with known answers, as the pipeline is asked them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medreasoner_infer.imaging import Volume
from medreasoner_training.embedded.phantom.anatomy import Label
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.embedded.reasoner.evaluate import phantom_cases
from medreasoner_training.embedded.reasoner.real_ct import labelled_volumes, phrasing

PRESENT_PER_TARGET = 8
MIN_SECTION_PX = 50


@dataclass(frozen=True)
class MaskCase:
    """A question about one slice, and the true mask of its target.

    ``truth_hw`` is bool of the displayed slice's shape, all false when the target is absent.
    """

    volume: Volume
    index: int
    query: str
    target: str
    truth_hw: np.ndarray


def phantom_mask_cases(count: int) -> Iterator[MaskCase]:
    """The held-out phantoms of the reasoner's evaluation, in a trained phrasing."""
    for number, case in enumerate(phantom_cases(count)):
        question = case.trained
        truth = question.truth
        picture = Volume(
            case.grey.T[:, :, None],
            np.eye(4),
            "OT",
            f"phantom-{number}",
            Path("phantom"),
            is_picture=True,
        )
        mask = np.zeros(case.grey.shape, bool) if truth is None else truth.mask
        name = known_targets()[question.label].name
        yield MaskCase(picture, 0, question.query, name, mask)


def real_mask_cases(data: Path) -> Iterator[MaskCase]:
    """The labelled organs of the real CT volumes, on slices where they are large.

    The slices are read at their own resolution. An organ is asked about on at most eight evenly
    spaced slices per volume, among those with at least half of its largest section.
    """
    for organ in real_organs(data):
        areas = organ.truth_khw.sum(axis=(1, 2))
        large = np.flatnonzero(areas >= max(MIN_SECTION_PX, areas.max() / 2))
        picks = np.linspace(0, len(large) - 1, min(PRESENT_PER_TARGET, len(large)))
        for number, index in enumerate(large[np.unique(picks.astype(int))]):
            yield MaskCase(
                organ.volume,
                int(index),
                phrasing(organ.label, number, held_out=False),
                organ.name,
                organ.truth_khw[index],
            )


@dataclass(frozen=True)
class RealOrgan:
    """A labelled organ of a real CT volume; ``truth_khw`` is bool, each slice as displayed."""

    volume: Volume
    label: Label
    truth_khw: np.ndarray

    @property
    def name(self) -> str:
        """What the reasoner calls it."""
        return known_targets()[self.label].name


def real_organs(data: Path) -> Iterator[RealOrgan]:
    """Every labelled organ of the real CT volumes that the reasoner can be asked for."""
    for ct in labelled_volumes(data / "totalsegmentator"):
        key = f"real-{ct.hu.shape}"
        volume = Volume(ct.hu.transpose(2, 1, 0), ct.ijk_to_lps, "CT", key, Path("real CT"))
        for value in np.unique(ct.labels[ct.labels > 0]):
            yield RealOrgan(volume, Label(value), ct.labels == value)
