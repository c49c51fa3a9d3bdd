# SPDX-License-Identifier: Apache-2.0
"""Samples of a data set folder, decoded, and on squares of another size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medreasoner_infer.scaling import rescale
from medreasoner_training.rewards import GroundTruth, read_ground_truth
from medreasoner_training.samples import stored_row


@dataclass(frozen=True, eq=False)
class RawSample:
    """A row of the data set folder.

    Attributes:
        image: uint8 (D, D, 3), letterboxed, not yet encoded.
        mask: bool (D, D).
        truth: box and key points in pixels of ``image``; ``None`` where the target is absent.
        query: the question.
        label: name of the target.
        patient: pseudonym.
        reasoning: stored trace, if there is one.
    """

    image: np.ndarray
    mask: np.ndarray
    truth: GroundTruth | None
    query: str
    label: str
    patient: str
    reasoning: str | None


def read_sample(row: Mapping[str, Any]) -> RawSample:
    """Decode a row of :meth:`medreasoner_training.samples.SampleDataset.load`, or of U-MRG-14K.

    A row that tells no patient is one by itself, named by its id.

    Raises:
        RowSchemaError: the row is none of U-MRG-14K.
        GroundTruthError: the row's ground truth is malformed.
    """
    stored = stored_row(row)
    return RawSample(
        image=np.asarray(stored.image.convert("RGB")),
        mask=np.asarray(stored.mask.convert("L")) > 0,
        truth=read_ground_truth(stored.ground_truth),
        query=stored.question,
        label=stored.category,
        patient=stored.patient or stored.id,
        reasoning=stored.reasoning,
    )


def scale_image(image: np.ndarray, size_px: int) -> np.ndarray:
    """Bilinear, with anti-aliasing where it shrinks; an image of the size stays as it is."""
    if len(image) == size_px:
        return image
    from PIL import Image

    resized = Image.fromarray(image).resize((size_px, size_px), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def scale_mask(mask: np.ndarray, size_px: int) -> np.ndarray:
    """Bool (D, D) to bool (size_px, size_px), nearest neighbour."""
    picked = ((np.arange(size_px) + 0.5) * len(mask) / size_px).astype(int)
    return mask[np.ix_(picked, picked)]


def scale_sample(sample: RawSample, size_px: int) -> RawSample:
    """Image, mask, box and points on a square of ``size_px``."""
    return dataclasses.replace(
        sample,
        image=scale_image(sample.image, size_px),
        mask=scale_mask(sample.mask, size_px),
        truth=sample.truth and rescale(sample.truth, size_px / len(sample.image)),
    )
