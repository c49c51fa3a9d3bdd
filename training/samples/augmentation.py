# SPDX-License-Identifier: Apache-2.0
"""Augmentation with MONAI: small affine changes, grey levels and noise; never a flip.

A flip would show the patient's left on the wrong side, which the display convention and many
questions rely on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import MissingExtraError
from medreasoner_training.samples.geometry import Truth, truth_on_square

if TYPE_CHECKING:
    from monai.transforms import Compose


@dataclass(frozen=True)
class AugmentationSettings:
    """Ranges are symmetric about no change.

    ``translate_share`` is relative to the image's side; ``gamma`` is the range of the exponent of
    grey levels in 0...1, ``noise_std`` the largest standard deviation in the same unit.
    ``min_kept_share`` is the share of the target's area, after scaling, that must stay on the
    image; otherwise the image keeps its geometry.
    """

    probability: float = 0.8
    rotate_deg: float = 7.0
    scale_share: float = 0.08
    translate_share: float = 0.04
    gamma: tuple[float, float] = (0.8, 1.25)
    noise_std: float = 0.02
    min_kept_share: float = 0.7


@dataclass(frozen=True, eq=False)
class Augmented:
    """Image uint8 (S, S, 3), mask bool (S, S), and the truth *of this mask*; ``None`` if absent."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    truth: Truth | None


@dataclass(frozen=True)
class Augmentation:
    """Changes an image and its mask alike; box and key points are taken from the changed mask."""

    settings: AugmentationSettings = field(default_factory=AugmentationSettings)

    def __call__(self, image: NDArray[np.uint8], mask: NDArray[np.bool_], seed: int) -> Augmented:
        """Draw a change.

        Args:
            image: uint8 (S, S, 3).
            mask: bool (S, S).
            seed: equal seeds draw equal changes.

        Raises:
            MissingExtraError: MONAI is not installed.
        """
        is_grey = bool((image == image[..., :1]).all())
        channels = image[..., :1] if is_grey else image
        data = {
            "image": channels.transpose(2, 0, 1).astype(np.float32) / 255,
            "mask": mask[np.newaxis].astype(np.float32),
        }
        moved = _drawn(_geometry(self.settings, len(mask)), seed)(data)
        if np.sum(moved["mask"]) < self.settings.min_kept_share * mask.sum():
            moved = data
        final = _drawn(_appearance(self.settings), seed)(moved)
        grey = np.clip(np.asarray(final["image"]), 0, 1)
        final_mask = np.asarray(final["mask"])[0] > 0.5
        pixels = np.rint(grey * 255).astype(np.uint8).transpose(1, 2, 0)
        # One noise for all channels, or grey images would become coloured ones.
        final_image = np.repeat(pixels, 3, axis=2) if is_grey else pixels
        return Augmented(final_image, final_mask, truth_on_square(final_mask))


def _geometry(settings: AugmentationSettings, size_px: int) -> Compose:
    transforms = _monai_transforms()
    geometry: Compose = transforms.Compose(
        [
            transforms.RandAffined(
                ("image", "mask"),
                prob=settings.probability,
                rotate_range=math.radians(settings.rotate_deg),
                translate_range=(settings.translate_share * size_px,) * 2,
                scale_range=(settings.scale_share,) * 2,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            )
        ]
    )
    return geometry


def _appearance(settings: AugmentationSettings) -> Compose:
    transforms = _monai_transforms()
    appearance: Compose = transforms.Compose(
        [
            transforms.RandAdjustContrastd(
                "image", prob=settings.probability, gamma=settings.gamma
            ),
            transforms.RandGaussianNoised(
                "image", prob=settings.probability, std=settings.noise_std
            ),
        ]
    )
    return appearance


def _drawn(transform: Compose, seed: int) -> Compose:
    return transform.set_random_state(seed=seed)


def _monai_transforms() -> ModuleType:
    try:
        from monai import transforms
    except ModuleNotFoundError as error:
        raise MissingExtraError("monai", "monailabel") from error
    return transforms
