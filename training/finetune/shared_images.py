# SPDX-License-Identifier: Apache-2.0
"""Each image of a batch goes through the image encoder once, however many rollouts share it.

GRPO asks every question several times. Equal images have equal features, and the gradients of those
add up, so that sharing them changes the time that a step takes and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from medreasoner_infer.reasoners.families import ModelFamily

if TYPE_CHECKING:
    from torch import nn
    from transformers.modeling_outputs import BaseModelOutputWithPooling

logger = logging.getLogger(__name__)


def share_images(model: nn.Module, family: ModelFamily) -> None:
    """Let the image encoder of a Qwen model skip images that it has in the batch already.

    A model of a family whose encoder does not take patches and a grid is left as it is, and the log
    says so.
    """
    if family.encoder is None:
        logger.info(
            "Rollouts do not share their images: the image encoder of %s takes whole images, and "
            "sharing is written for Qwen's, which takes patches and a grid.",
            family.name,
        )
        return
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == family.encoder:
            _Sharing(module)


class _Sharing:
    """Hooks around one encoder's forward pass: what goes in is thinned out, what comes out spread.

    The encoder takes patches (P, D) of all images one after the other and the grid (N, 3) of each,
    and gives tokens (T, C) in the same order: ``pooler_output``, and for Qwen3-VL also
    ``deepstack_features``, one such tensor for each of the language model's first layers.
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
        output.pooler_output = self._of_all(cast("torch.Tensor", output.pooler_output))
        deepstack: list[torch.Tensor] | None = getattr(output, "deepstack_features", None)
        if deepstack is not None:
            cast("Any", output).deepstack_features = [self._of_all(each) for each in deepstack]
        return output

    def _of_all(self, tokens: torch.Tensor) -> torch.Tensor:
        """The tokens (T, C) of the distinct images, again for every image."""
        features = tokens.split(self._tokens)
        return torch.cat([features[place] for place in self._places])


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
