# SPDX-License-Identifier: Apache-2.0
"""From the uint8 pixels of a crop to the values that a network was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.segmenters.crop import Crop, Resampling

if TYPE_CHECKING:
    import torch

#: Of ImageNet's red, green and blue in 0...1, by which SAM and SAM2 normalise.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class ReadPixels(Protocol):
    """Reads a crop of a slice as a network wants it."""

    def __call__(
        self, pixels: NDArray[np.uint8], crop: Crop, size: int, device: torch.device
    ) -> torch.Tensor:
        """Float32 (3, size, size) of uint8 pixels (H, W) or (H, W, 3)."""
        ...


@dataclass(frozen=True)
class ByImageNet:
    """Normalised by ImageNet's mean and deviation; what lies beyond the slice is black."""

    resampling: Resampling = Resampling.LINEAR

    def __call__(
        self, pixels: NDArray[np.uint8], crop: Crop, size: int, device: torch.device
    ) -> torch.Tensor:
        """Read a crop; see :class:`ReadPixels`."""
        import torch

        shown = _rgb(crop.read(pixels, size, self.resampling))
        image = torch.from_numpy(shown / np.float32(255)).to(device)
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
        return (image.permute(2, 0, 1) - mean) / std


@dataclass(frozen=True)
class ByRange:
    """Stretched to 0...1 from the least to the greatest value of what shows the slice.

    What lies beyond the slice is 0, as LiteMedSAM pads.
    """

    resampling: Resampling = Resampling.LINEAR

    def __call__(
        self, pixels: NDArray[np.uint8], crop: Crop, size: int, device: torch.device
    ) -> torch.Tensor:
        """Read a crop; see :class:`ReadPixels`."""
        import torch

        shown = crop.read(pixels, size, self.resampling)
        height, width = pixels.shape[:2]
        corners = crop.to_crop_px(np.array([[0, 0], [width, height]]), size).clip(0, size)
        (left, top), (right, bottom) = np.ceil(corners[0]).astype(int), corners[1].astype(int)
        inside = shown[top:bottom, left:right]
        least, greatest = (int(inside.min()), int(inside.max())) if inside.size else (0, 0)
        stretched = (_rgb(shown) - least) / max(greatest - least, 1)
        return torch.from_numpy(stretched.clip(0, 1)).to(device).permute(2, 0, 1)


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Float32 (H, W, 3) in 0...255, grey as three equal channels."""
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
    return colour.astype(np.float32)
