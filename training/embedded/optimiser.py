# SPDX-License-Identifier: Apache-2.0
"""Muon for the hidden matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


def computes_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself; emulation takes ten times as long."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


NARROWEST, WIDEST = 16, 192
"""Bounds of the smaller side of the matrices that Muon takes."""


class MuonWithAdamW(Optimizer):
    """One optimiser of two: Muon (Jordan et al. 2024) wants hidden weight matrices only.

    Embeddings, output layers tied to them, biases, norms, tokens and convolutions go to AdamW, and
    so do the few matrices wider than ``WIDEST`` both ways, whose orthogonalisation would cost a
    tenth of a training step. Muon's steps are scaled to the root mean square of AdamW's (Liu et
    al., arXiv 2502.16982), so that one learning rate fits both.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float = 0.01) -> None:
        embeddings = {
            id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
        }
        trained = [p for p in model.parameters() if p.requires_grad]
        fast = any(p.is_cuda for p in trained) or computes_bf16()
        hidden = [
            p
            for p in trained
            if fast
            and p.ndim == 2
            and NARROWEST <= min(p.shape) <= WIDEST
            and id(p) not in embeddings
        ]
        chosen = {id(p) for p in hidden}
        others = [p for p in trained if id(p) not in chosen]
        super().__init__(hidden + others, {"lr": lr})
        parts: list[Optimizer] = [AdamW(others, lr, betas=(0.9, 0.98), weight_decay=weight_decay)]
        if hidden:
            parts.insert(0, Muon(hidden, lr, weight_decay, adjust_lr_fn="match_rms_adamw"))
        self._parts = tuple(parts)
        self._share_groups()

    def _share_groups(self) -> None:
        """Let a scheduler that sets the learning rate of this optimiser set that of its parts."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step both parts; a closure is evaluated once, before."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict:
        """State of both parts."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what :meth:`state_dict` returned."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
