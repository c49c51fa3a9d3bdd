# SPDX-License-Identifier: Apache-2.0
"""The candidate's weights: between its parent's and those that training ended with.

The mean of a model and its fine-tuned self keeps more of what the parent could, often at no loss
where it was tuned (Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903).
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch

from medreasoner_infer.atomic import replacing_folder
from medreasoner_infer.reasoners.transformers_loading import load_model
from medreasoner_training.finetune.stage import ADAPTER_FILE
from medreasoner_training.finetune.tunable import TunableReasoner

_DOWN, _UP = ".lora_A.", ".lora_B."

Weights = dict[str, torch.Tensor]


def blend(
    start: TunableReasoner, trained: TunableReasoner, share: float, out: Path
) -> TunableReasoner:
    """The model that lies ``share`` of the way from one to the other, as the same kind of folder.

    Args:
        start: what training started from; its adapter, if it has one, is of the trained one's base.
        trained: what it ended with: a full model, or an adapter.
        share: 0...1; 1 is ``trained`` itself, of which no copy is made.
        out: folder to write; it appears only when it is complete, and is kept if it is there.

    Raises:
        ModelUnavailableError: if one of them cannot be loaded.
    """
    if share == 1:
        return trained
    if not out.is_dir():
        with replacing_folder(out) as unfinished:
            if trained.adapter is None:
                _blend_models(start, trained, share, unfinished)
            else:
                _blend_adapters(start.adapter, trained.adapter, share, unfinished)
    if trained.adapter is None:
        return dataclasses.replace(trained, folder=out)
    return dataclasses.replace(trained, adapter=out)


def _blend_models(
    start: TunableReasoner, trained: TunableReasoner, share: float, out: Path
) -> None:
    """Both are loaded, since published models may name their weights otherwise than saved ones."""
    size = trained.settings.input_size
    first, last = (load_model(each.folder, size, device="cpu").model for each in (start, trained))
    parent = dict(first.named_parameters())
    with torch.no_grad():
        for name, weights in last.named_parameters():  # tied ones once
            weights.copy_(_between(parent[name], weights, share))
    last.save_pretrained(out)
    weights_files = shutil.ignore_patterns("*.safetensors*")
    shutil.copytree(trained.folder, out, ignore=weights_files, dirs_exist_ok=True)


def _blend_adapters(start: Path | None, trained: Path, share: float, out: Path) -> None:
    from safetensors.torch import load_file, save_file

    last = load_file(trained / ADAPTER_FILE)
    first = None if start is None else load_file(start / ADAPTER_FILE)
    shutil.copytree(trained, out)
    blended = {name: weights.contiguous() for name, weights in _mean(first, last, share).items()}
    save_file(blended, out / ADAPTER_FILE, metadata={"format": "pt"})


def _mean(first: Weights | None, last: Weights, share: float) -> Weights:
    """An adapter's update is the product of two matrices: products are to be averaged, not these.

    Without a parent's adapter the parent's update is 0.
    """
    if first is None:
        return {name: weights * share if _UP in name else weights for name, weights in last.items()}
    blended: Weights = {}
    for name, weights in last.items():
        if _DOWN in name:
            up = name.replace(_DOWN, _UP)
            pairs = [(each[name].float(), each[up].float()) for each in (first, last)]
            found = mean_update(*pairs[0], *pairs[1], share)
            blended |= {
                key: value.to(weights.dtype) for key, value in zip((name, up), found, strict=True)
            }
        elif _UP not in name:
            blended[name] = _between(first[name], weights, share)
    return blended


def mean_update(
    first_down: torch.Tensor,
    first_up: torch.Tensor,
    last_down: torch.Tensor,
    last_up: torch.Tensor,
    share: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The low-rank update nearest to ``(1 - share) * first + share * last``.

    The sum of two updates of rank r has rank 2r; of it the r largest singular values are kept
    (Eckart and Young 1936), found from the thin factors without the full matrices.

    Args:
        first_down, last_down: float32 (r, inputs).
        first_up, last_up: float32 (outputs, r).
        share: 0...1.

    Returns:
        Matrices (r, inputs) and (outputs, r) whose product is the update.
    """
    rank = len(last_down)
    down = torch.cat([first_down, last_down])
    up = torch.cat([(1 - share) * first_up, share * last_up], 1)
    (up_basis, up_rest), (down_basis, down_rest) = torch.linalg.qr(up), torch.linalg.qr(down.T)
    left, values, right = torch.linalg.svd(up_rest @ down_rest.T)
    root = values[:rank].sqrt()
    return (root[:, None] * right[:rank]) @ down_basis.T, up_basis @ (left[:, :rank] * root)


def _between(first: torch.Tensor, last: torch.Tensor, share: float) -> torch.Tensor:
    return torch.lerp(first.float(), last.float(), share).to(last.dtype)
