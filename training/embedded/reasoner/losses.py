# SPDX-License-Identifier: Apache-2.0
"""Losses of the embedded reasoner's training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..phantom.anatomy import Label
from .modelling import INTEGERS

SUBCELLS = 4
"""Along each axis, a visual token's cell is divided into so many parts for the outline loss."""


def soft_integers(values: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian distribution over the integers 0...255 around each value: (..., 256)."""
    distance = torch.arange(float(INTEGERS)) - values[..., None].float()
    return torch.softmax(-(distance**2) / (2 * sigma**2), -1)


@dataclass(frozen=True)
class TokenLoss:
    """Weighted language-modelling loss and its unweighted parts, each a scalar."""

    total: torch.Tensor
    coordinate: torch.Tensor
    text: torch.Tensor


def token_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    coordinate_values: torch.Tensor,
    weights: torch.Tensor,
    integer_ids: torch.Tensor,
    sigma: float = 1.0,
) -> TokenLoss:
    """Cross entropy with soft targets for coordinates.

    A coordinate that misses by one pixel is almost right, which plain cross entropy cannot say.

    Args:
        logits: (N, vocabulary).
        targets: (N,) token ids.
        coordinate_values: (N,) pixel value where the target is a coordinate, else -1.
        weights: (N,) weight of each token in the mean.
        integer_ids: (256,) token ids of the integers.
        sigma: width of the soft targets in pixels.
    """
    is_coordinate = coordinate_values >= 0
    losses = F.cross_entropy(logits, targets, reduction="none")
    text = losses[~is_coordinate].detach().mean()
    log_probabilities = F.log_softmax(logits[is_coordinate], -1)[:, integer_ids]
    soft = soft_integers(coordinate_values[is_coordinate], sigma)
    coordinate = -(soft * log_probabilities).sum(-1)
    losses = losses.masked_scatter(is_coordinate, coordinate)
    total = (weights * losses).sum() / weights.sum()
    return TokenLoss(total, coordinate.detach().mean(), text)


class PerceptionLoss(nn.Module):
    """Auxiliary dense loss on the merged visual tokens, tied to the language model's embeddings.

    Each visual token is to say which targets lie in its cell, by similarity with the embeddings of
    their names, and where the box and key points of each of these targets are, by similarity with
    the embeddings of the integers. Sharing the embeddings gives the language model features that it
    can already read. A linear head divides the cell finer, which teaches where the outlines run.
    """

    def __init__(
        self, width: int, name_ids: dict[Label, list[int]], integer_ids: torch.Tensor
    ) -> None:
        super().__init__()
        self.background = nn.Parameter(torch.randn(1, width) * 0.08)
        self.norm = nn.RMSNorm(width)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.mix = nn.Sequential(nn.RMSNorm(width), nn.Linear(width, 2 * width), nn.SiLU())
        self.read = nn.Linear(2 * width, 8 * width)
        self.outline = nn.Linear(width, SUBCELLS**2 * (1 + len(name_ids)))
        self._name_ids = [torch.tensor(ids) for ids in name_ids.values()]
        self._integer_ids = integer_ids

    def forward(
        self,
        visual: torch.Tensor,
        embeddings: torch.Tensor,
        fine_occupancy: torch.Tensor,
        boxes: torch.Tensor,
        asked: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Occupancy, outline and coordinate loss (scalars).

        Args:
            visual: (B, T, width) merged visual tokens.
            embeddings: (vocabulary, width) token embeddings.
            fine_occupancy: (B, T, SUBCELLS ** 2, 1 + targets), see :class:`PackedBatch`.
            boxes: (B, targets, 8) box and key points in reasoner px.
            asked: bool (B, targets), which targets have them.
        """
        names = torch.stack([embeddings[ids].mean(0) for ids in self._name_ids])
        tokens = self.norm(visual)
        occupancy = fine_occupancy.mean(2)
        scores = self.scale * tokens @ torch.cat([self.background, names]).T
        found = -(occupancy * F.log_softmax(scores, -1)).sum(-1).mean()
        fine_scores = self.outline(tokens).view(fine_occupancy.shape)
        outlined = -(fine_occupancy * F.log_softmax(fine_scores, -1)).sum(-1).mean()
        image, cell, column = ((occupancy[..., 1:] > 0.03) & asked[:, None]).nonzero(as_tuple=True)
        hidden = self.mix(tokens[image, cell] + names[column])
        read = self.read(hidden).view(len(image), 8, -1)
        log_probabilities = F.log_softmax(read @ embeddings[self._integer_ids].T, -1)
        soft = soft_integers(boxes[image, column], 1.5)
        return found, outlined, -(soft * log_probabilities).sum(-1).mean()
