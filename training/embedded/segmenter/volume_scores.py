# SPDX-License-Identifier: Apache-2.0
"""Volume Dice of propagation from a structure's middle slice, and what leaks past its ends."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

import numpy as np

from medreasoner_infer.segmenters import Segmenter
from medreasoner_training.embedded.segmenter.measures import true_prompt
from medreasoner_training.embedded.segmenter.real_data import FrameStack, LabelledVolume
from medreasoner_training.rewards import dice

_PROPAGATED = re.compile(r"liver|spleen|kidney_(right|left)|aorta|lung_\w+|vertebrae_\w+")
#: A fissure between lobes is thinner than the slices of most studies; lungs are followed whole.
_LOBE = re.compile(r"lung_(?:upper|middle|lower)_lobe_(right|left)")
MIN_SLICES = 8
MIN_MIDDLE_AREA_PX = 30


@dataclass(frozen=True)
class Structure:
    """What is followed through a volume: the union of one or more labels."""

    name: str
    labels: tuple[int, ...]

    def mask(self, volume: LabelledVolume) -> np.ndarray:
        """Where it is, bool (slices, H, W)."""
        return np.isin(volume.labels, self.labels)


def propagated_structures(volume: LabelledVolume) -> list[Structure]:
    """Organs, whole lungs and single vertebrae on at least eight slices, in label order.

    The middle slice must show at least 30 px, fewer are no fair start.
    """
    labels: dict[str, list[int]] = {}
    for label, name in sorted(volume.label_names.items()):
        if _PROPAGATED.fullmatch(name):
            labels.setdefault(_LOBE.sub(r"lung_\1", name), []).append(label)
    structures = (Structure(name, tuple(values)) for name, values in labels.items())
    return [structure for structure in structures if _is_fair(structure.mask(volume))]


def _is_fair(truth: np.ndarray) -> bool:
    areas = truth.sum((1, 2))
    present = np.flatnonzero(areas)
    return len(present) >= MIN_SLICES and areas[_middle(present)] >= MIN_MIDDLE_AREA_PX


def evaluate_propagation(
    segmenter: Segmenter, volume: LabelledVolume, structure: Structure
) -> dict:
    """Propagate from the true prompts of the middle slice.

    Returns:
        ``dice`` of the volume, ``prompted_slice_dice``, numbers of ``slices`` of the structure,
        of ``slices_missed`` among them, of slices masked beyond its first (``leaked_before``) and
        its last one (``leaked_after``), and ``seconds_per_slice`` found.
    """
    truth = structure.mask(volume)
    present = np.flatnonzero(truth.any((1, 2)))
    start = _middle(present)
    prompt = true_prompt(truth[start], volume.spacing_xy_mm)
    predicted = np.zeros_like(truth)
    started = time.perf_counter()
    for index, answer in segmenter.propagate(
        FrameStack(volume, structure.labels[0]), start, prompt
    ):
        predicted[index] = answer.mask
    seconds = time.perf_counter() - started
    found = predicted.any((1, 2))
    return {
        "dice": round(dice(predicted, truth), 4),
        "prompted_slice_dice": round(dice(predicted[start], truth[start]), 4),
        "slices": len(present),
        "slices_missed": int((truth.any((1, 2)) & ~found).sum()),
        "leaked_before": int(found[: present[0]].sum()),
        "leaked_after": int(found[present[-1] + 1 :].sum()),
        "seconds_per_slice": round(seconds / max(1, int(found.sum())), 4),
    }


def _middle(present: np.ndarray) -> int:
    return int(present[len(present) // 2])
