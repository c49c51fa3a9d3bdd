# SPDX-License-Identifier: Apache-2.0
"""The candidate's weights: between its parent's and those that its trainings ended with.

The mean of a model and its fine-tuned self keeps more of what the parent could, often at no loss
where it was tuned (Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903). The
mean of several trainings from one start is often better than each of them, and costs no more when
it answers (Wortsman et al., Model soups, arXiv 2203.05482).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from medreasoner_infer.atomic import replacing_folder
from medreasoner_infer.reasoners.picture_kind import KINDS_FILE
from medreasoner_infer.reasoners.transformers_loading import load_model
from medreasoner_training.finetune.stage import ADAPTER_FILE
from medreasoner_training.finetune.tunable import TunableReasoner

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DOWN, _UP = ".lora_A.", ".lora_B."

Weights = dict[str, torch.Tensor]


def blend(
    start: TunableReasoner, trained: Sequence[TunableReasoner], share: float, out: Path
) -> TunableReasoner:
    """The model ``share`` of the way from one to the mean of others, as the same kind of folder.

    Args:
        start: what training started from; its adapter, if it has one, is of the trained ones' base.
        trained: what each training ended with: all full models, or all adapters.
        share: 0...1; 1 is that mean, and of a single one no copy is made.
        out: folder to write; it appears only when it is complete, and is kept if it is there.

    Raises:
        ModelUnavailableError: if one of them cannot be loaded.
    """
    first = trained[0]
    if share == 1 and len(trained) == 1:
        return first
    shares = [share / len(trained)] * len(trained)
    adapters = [each.adapter for each in trained if each.adapter is not None]
    if not out.is_dir():
        with replacing_folder(out) as unfinished:
            if adapters:
                _mix_adapters(start.adapter, adapters, shares, unfinished)
            else:
                _mix_models(start, trained, shares, unfinished)
    if adapters:
        return dataclasses.replace(first, adapter=out)
    return dataclasses.replace(first, folder=out)


def _mix_models(
    start: TunableReasoner, trained: Sequence[TunableReasoner], shares: Sequence[float], out: Path
) -> None:
    """They are loaded, since published models may name their weights otherwise than saved ones."""
    size = trained[0].settings.input_size

    def loaded(folder: Path) -> PreTrainedModel:
        return load_model(folder, size, device="cpu").model

    with torch.no_grad():
        mixed = loaded(start.folder)
        # Tied ones are named once.
        sums = {name: p.float() * (1 - sum(shares)) for name, p in mixed.named_parameters()}
        for each, share in zip(trained, shares, strict=True):
            mixed = loaded(each.folder)
            for name, weights in mixed.named_parameters():
                sums[name] += share * weights.float()
        for name, weights in mixed.named_parameters():
            weights.copy_(sums[name])
    mixed.save_pretrained(out)
    of_these_weights = shutil.ignore_patterns("*.safetensors*", KINDS_FILE)
    shutil.copytree(trained[-1].folder, out, ignore=of_these_weights, dirs_exist_ok=True)


def _mix_adapters(
    start: Path | None, trained: Sequence[Path], shares: Sequence[float], out: Path
) -> None:
    """Without a parent's adapter the parent's update is 0."""
    from safetensors.torch import load_file, save_file

    folders = [*trained] if start is None else [start, *trained]
    weighted = [*shares] if start is None else [1 - sum(shares), *shares]
    mixed = _mean([load_file(each / ADAPTER_FILE) for each in folders], weighted)
    shutil.copytree(trained[-1], out)
    contiguous = {name: weights.contiguous() for name, weights in mixed.items()}
    save_file(contiguous, out / ADAPTER_FILE, metadata={"format": "pt"})


def _mean(adapters: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """An adapter's update is the product of two matrices: products are to be averaged, not these.

    What an adapter keeps beside its updates is a mean in the proportion of the shares.
    """
    mixed: Weights = {}
    for name, weights in adapters[-1].items():
        if _DOWN in name:
            up = name.replace(_DOWN, _UP)
            updates = [(each[name].float(), each[up].float()) for each in adapters]
            found = mean_update(updates, shares)
            mixed |= {
                key: value.to(weights.dtype) for key, value in zip((name, up), found, strict=True)
            }
        elif _UP not in name:
            parts = [s * each[name].float() for each, s in zip(adapters, shares, strict=True)]
            mixed[name] = (torch.stack(parts).sum(0) / sum(shares)).to(weights.dtype)
    return mixed


def mean_update(
    updates: Sequence[tuple[torch.Tensor, torch.Tensor]], shares: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The low-rank update nearest to the sum of updates, each times its share.

    The sum of n updates of rank r has rank n r; of it the r largest singular values are kept
    (Eckart and Young 1936), found from the thin factors without the full matrices.

    Args:
        updates: float32 (r, inputs) and (outputs, r) of each.
        shares: of each, 0...1.

    Returns:
        Matrices (r, inputs) and (outputs, r) whose product is the update.
    """
    rank = len(updates[-1][0])
    down = torch.cat([down for down, _ in updates])
    up = torch.cat([share * up for (_, up), share in zip(updates, shares, strict=True)], 1)
    (up_basis, up_rest), (down_basis, down_rest) = torch.linalg.qr(up), torch.linalg.qr(down.T)
    left, values, right = torch.linalg.svd(up_rest @ down_rest.T)
    root = values[:rank].sqrt()
    return (root[:, None] * right[:rank]) @ down_basis.T, up_basis @ (left[:, :rank] * root)
