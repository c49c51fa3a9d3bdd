# SPDX-License-Identifier: Apache-2.0
"""SAM-Med2D's adapter layers, which work beside the perceptron of each block of SAM's encoder.

Cheng et al., SAM-Med2D, 2023, https://arxiv.org/abs/2308.16184, section 3.2.
"""

from __future__ import annotations

import torch
from torch import nn


class AdaptedPerceptron(nn.Module):
    """The perceptron of a block and the adapter, both of the same normalised cells, added up."""

    def __init__(self, perceptron: nn.Module, width: int) -> None:
        super().__init__()
        self.perceptron = perceptron
        self.adapter = Adapter(width)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Map cells (V, h, w, C)."""
        mapped: torch.Tensor = self.perceptron(cells) + self.adapter(cells)
        return mapped


class Adapter(nn.Module):
    """Weighs the channels by their means over the map, then mixes neighbours at half its size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 4
        self.norm = nn.LayerNorm(width)
        self.channel = nn.Sequential(
            nn.Linear(width, inner, bias=False),
            nn.ReLU(),
            nn.Linear(inner, width, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Map cells (V, h, w, C), h and w even."""
        weights = self.channel(cells.mean((1, 2)))[:, None, None]
        mixed = self.spatial((weights * cells).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        adapted: torch.Tensor = self.norm(cells + mixed)
        return adapted
