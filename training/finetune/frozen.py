# SPDX-License-Identifier: Apache-2.0
"""Proof that weights which must not learn did not."""

from __future__ import annotations

import hashlib

import torch

from medreasoner_training.finetune.errors import FrozenWeightsChangedError


def frozen_sha256(model: torch.nn.Module) -> str | None:
    """SHA-256 over name, number format and bytes of every weight that does not learn.

    ``None`` where nothing is frozen, and where weights are sharded over processes, so that none of
    them holds a whole one.
    """
    digest, any_frozen = hashlib.sha256(), False
    for name, weight in sorted(model.named_parameters()):
        if weight.requires_grad:
            continue
        if not weight.numel() or type(weight.data).__name__ == "DTensor":
            return None
        any_frozen = True
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest() if any_frozen else None


def require_unchanged(before: str | None, after: str | None) -> None:
    """Refuse a training that touched frozen weights.

    Raises:
        FrozenWeightsChangedError: it did.
    """
    if before != after:
        raise FrozenWeightsChangedError(
            f"The frozen weights had the SHA-256 {before} before the training and {after} after "
            "it. The candidate is discarded; report this with the run's config.yaml."
        )
