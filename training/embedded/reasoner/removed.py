# SPDX-License-Identifier: Apache-2.0
"""Sections from which something was taken away that belongs there.

A model that sees only whole torsos may learn where an organ is and never look. Here an organ is
missing as after an operation, its place taken by the tissue around it, or its place is blotted out
in the picture, as the removal test does it; or another place of that shape is, so that a blot alone
says nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from medreasoner_infer.checks.removal import content_of, elsewhere, region_around, replaced
from medreasoner_infer.checks_record import Removal
from medreasoner_infer.keypoints import bbox_from_mask

from ..phantom.anatomy import Label
from ..phantom.scanner import PhantomImage
from ..phantom.section import Section
from ..required import required
from .targets import EMPTY, MIN_AREA_PX, target_mask

MARGIN = (0.01, 0.09)
"""Shares of the picture's longer side; the removal test's own are 0.02, 0.05 and 0.08."""
BOX_SHARE, ELSEWHERE_SHARE = 0.6, 0.3
_RING_PX = 3
_WAYS: tuple[Removal, ...] = ("filled", "emptied", "greyed")


def operated(section: Section, rng: np.random.Generator) -> tuple[Section, Label | None]:
    """A section without one of its targets, and which; ``None`` where it shows none."""
    label = _one_of(section.labels, rng)
    if label is None:
        return section, None
    gone = target_mask(section.labels, label)
    ring = ndimage.binary_dilation(gone, iterations=_RING_PX) & ~gone
    around = np.bincount(section.tissue[ring & (section.labels == Label.BACKGROUND)], minlength=1)
    if not around.any():
        return section, None
    tissue, labels = section.tissue.copy(), section.labels.copy()
    tissue[gone], labels[gone] = int(around.argmax()), Label.BACKGROUND
    return Section(tissue, labels), label


def blotted(image: PhantomImage, rng: np.random.Generator) -> PhantomImage:
    """A picture of which one target's place, or another place of that shape, is blotted out."""
    label = _one_of(image.labels, rng)
    if label is None:
        return image
    mask = target_mask(image.labels, label)
    box = required(bbox_from_mask(mask), EMPTY)
    region = region_around(mask, rng.uniform(*MARGIN), box if rng.random() < BOX_SHARE else None)
    how = _WAYS[int(rng.integers(len(_WAYS)))]
    if rng.random() < ELSEWHERE_SHARE:
        shift = elsewhere(region, content_of(image.grey), int(rng.integers(2**31)))
        if shift is None:
            return image
        region, label = np.roll(region, shift[::-1], (0, 1)), None
    labels = np.where(region, np.uint8(Label.BACKGROUND), image.labels)
    return replace(image, grey=replaced(image.grey, region, how), labels=labels, removed=label)


def _one_of(labels: np.ndarray, rng: np.random.Generator) -> Label | None:
    values, counts = np.unique(labels, return_counts=True)
    shown = [
        Label(int(value))
        for value, count in zip(values, counts, strict=True)
        if value != Label.BACKGROUND and count >= MIN_AREA_PX
    ]
    return shown[int(rng.integers(len(shown)))] if shown else None
