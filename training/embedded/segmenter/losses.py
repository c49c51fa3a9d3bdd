# SPDX-License-Identifier: Apache-2.0
"""Losses on SAM2's candidate masks."""

from __future__ import annotations

import torch
from torch.nn import functional as F

_BCE_WEIGHT = 2.0
_IOU_WEIGHT = 0.1
_PRESENCE_WEIGHT = 0.3


def mask_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Soft Dice + binary cross-entropy of each candidate.

    Args:
        logits: (B, M, h, w).
        targets: (B, S, S) in {0, 1}; compared at half their resolution, as area fractions.

    Returns:
        (B, M).
    """
    target = F.avg_pool2d(targets[:, None], 2)
    size = target.shape[-2:]
    logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    target = target.expand_as(logits)
    probability = logits.sigmoid()
    overlap = (probability * target).sum((2, 3))
    dice = (2 * overlap + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((2, 3))
    return 1 - dice + _BCE_WEIGHT * bce


@torch.no_grad()
def candidate_ious(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Intersection over union of each candidate at the logits' resolution, (B, M)."""
    factor = targets.shape[-1] // logits.shape[-1]
    target = (F.avg_pool2d(targets[:, None], factor) > 0.5).expand_as(logits)
    predicted = logits > 0
    union = (predicted | target).sum((2, 3))
    return (predicted & target).sum((2, 3)) / union.clamp(min=1)


def candidate_loss(
    logits: torch.Tensor,
    predicted_ious: torch.Tensor,
    presence: torch.Tensor,
    targets: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a decoder's candidates, their IoU estimates and the presence score.

    Of four candidates the first (SAM2's single-mask token) answers for itself; of the three
    ambiguity-aware ones only the best is pushed, so that they may specialise (Kirillov et al.,
    Segment Anything, 2023). Absent targets teach the presence score alone.

    Args:
        logits: (B, M, h, w): four candidates, the three ambiguity-aware ones, or the first.
        predicted_ious: (B, M).
        presence: (B, 1) logits.
        targets: (B, S, S) in {0, 1}.

    Returns:
        The scalar loss, and the mean IoU over present targets of the first candidate, or of the
        best of three.
    """
    present = (targets.flatten(1).sum(1) > 0).float()
    losses, ious = mask_losses(logits, targets), candidate_ious(logits, targets)
    ambiguous = losses[:, losses.shape[1] % 3 :]
    masks, iou = torch.zeros_like(present), ious.max(1).values
    if losses.shape[1] % 3:
        masks, iou = losses[:, 0], ious[:, 0]
    if ambiguous.shape[1]:
        masks = masks + ambiguous.min(1).values
    estimates = (predicted_ious - ious).square().mean(1)
    weight = present / present.sum().clamp(min=1)
    loss = (weight * (masks + _IOU_WEIGHT * estimates)).sum()
    loss = loss + _PRESENCE_WEIGHT * F.binary_cross_entropy_with_logits(presence[:, 0], present)
    return loss, (weight * iou).sum()
