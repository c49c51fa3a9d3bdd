# SPDX-License-Identifier: Apache-2.0
"""Proof that weights which must not learn did not, and that those which should did."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from medreasoner_training.finetune.errors import FrozenWeightsChangedError, NothingLearntError

_SIGNS = {
    "frac_reward_zero_std": "groups of rollouts whose rewards were all alike",
    "completions/clipped_ratio": "rollouts that were cut at their longest length",
}


def frozen_sha256(model: torch.nn.Module) -> str | None:
    """SHA-256 over name, number format and bytes of every weight that does not learn.

    ``None`` where nothing is frozen, and where weights are sharded over processes, so that none of
    them holds a whole one.
    """
    return _sha256(model, learning=False)


def learning_sha256(model: torch.nn.Module) -> str | None:
    """The same of every weight that learns."""
    return _sha256(model, learning=True)


def _sha256(model: torch.nn.Module, *, learning: bool) -> str | None:
    digest, any_weight = hashlib.sha256(), False
    for name, weight in sorted(model.named_parameters()):
        if weight.requires_grad is not learning:
            continue
        if not weight.numel() or type(weight.data).__name__ == "DTensor":
            return None
        any_weight = True
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest() if any_weight else None


def require_learnt(
    before: str | None, after: str | None, history: Sequence[Mapping[str, float]]
) -> None:
    """Refuse a training that changed no weight, which no comparison would tell from its parent.

    Args:
        before: :func:`learning_sha256` of the parent.
        after: the same when the training had ended.
        history: what the trainer logged.

    Raises:
        NothingLearntError: it did not learn; the message holds what the log tells of why.
    """
    if before is None or before != after:
        return
    found = {sign: [line[sign] for line in history if sign in line] for sign in _SIGNS}
    told = [f"{np.mean(values):.0%} {_SIGNS[sign]}" for sign, values in found.items() if values]
    raise NothingLearntError(
        "The training changed no weight, so there is no candidate"
        + (f": {', '.join(told)}" if told else "")
        + ". Give rollouts more room (grpo.max_completion_tokens), a higher grpo.temperature or "
        "more generations, more steps or a higher learning rate, and start a new run."
    )


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
