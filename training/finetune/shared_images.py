# SPDX-License-Identifier: Apache-2.0
"""Each image of a batch goes through the image encoder once, however many rollouts share it.

GRPO asks every question several times. Equal images have equal features, and the gradients of those
add up, so that sharing them changes the time that a step takes and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from torch import nn
    from transformers.modeling_outputs import BaseModelOutputWithPooling

_ENCODER = "visual"


def share_images(model: nn.Module) -> None:
    """Let the image encoder of a Qwen2.5-VL skip images that it has in the batch already.

    A model whose image encoder has another name is left as it is.
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == _ENCODER:
            _Sharing(module)


class _Sharing:
    """Hooks around one encoder's forward pass: what goes in is thinned out, what comes out spread.

    The encoder takes patches (P, D) of all images one after the other and the grid (N, 3) of each,
    and gives ``pooler_output``, tokens (T, C) in the same order, the only output that is used.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self._patches_per_token: int = cast("Any", encoder).spatial_merge_size ** 2
        self._places: list[int] = []
        self._tokens: list[int] = []
        encoder.register_forward_pre_hook(self._thin_out, with_kwargs=True)
        encoder.register_forward_hook(self._spread)

    def _thin_out(
        self, encoder: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
        patches, grid = args[0], kwargs["grid_thw"]
        sizes = grid.prod(-1).tolist()
        images = patches.split(sizes)
        firsts, self._places = distinct_images(images)
        self._tokens = [sizes[first] // self._patches_per_token for first in firsts]
        thinned = torch.cat([images[first] for first in firsts])
        return (thinned, *args[1:]), {**kwargs, "grid_thw": grid[firsts]}

    def _spread(
        self, encoder: nn.Module, args: Any, output: BaseModelOutputWithPooling
    ) -> BaseModelOutputWithPooling:
        features = cast("torch.Tensor", output.pooler_output).split(self._tokens)
        output.pooler_output = torch.cat([features[place] for place in self._places])
        return output


def distinct_images(images: Sequence[torch.Tensor]) -> tuple[list[int], list[int]]:
    """Which images differ.

    Returns:
        The index of the first image of each kind, and for each image the number of its kind.
    """
    firsts: list[int] = []
    places: list[int] = []
    for index, image in enumerate(images):
        kinds = (kind for kind, first in enumerate(firsts) if torch.equal(images[first], image))
        place = next(kinds, len(firsts))
        if place == len(firsts):
            firsts.append(index)
        places.append(place)
    return firsts, places
