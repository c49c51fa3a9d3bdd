# SPDX-License-Identifier: Apache-2.0
"""An image encoder that does not learn computes no gradient, and remembers a step's images.

Gradient checkpointing lets the encoder's first layer ask for a gradient, so that the backward pass
would compute the whole encoder again and go through it, though none of its weights learns. Features
of weights that never change stay what they are: the rollouts, the probabilities under the old
weights and each forward pass of a step share them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import distributed

if TYPE_CHECKING:
    from torch import nn

_ENCODER = "visual"


def spare_frozen_encoders(model: nn.Module, kept_images: int) -> None:
    """Let the image encoder of a Qwen-VL compute what is needed only, while none of it learns.

    Whether a weight of it learns is looked at in every pass; one that does learn is left as it is,
    and so is a model whose image encoder has another name.

    Args:
        model: with its adapter, if there is one.
        kept_images: the features of so many images are kept, the newest ones.
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == _ENCODER:
            encoder = cast("Any", module)
            encoder.forward = _Sparing(encoder, encoder.forward, kept_images)


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image, and what became of it: patches (P, D), grid (1, 3), the encoder's output."""

    patches: torch.Tensor
    grid: torch.Tensor
    arithmetic: torch.dtype | None
    output: Any

    def is_of(self, patches: torch.Tensor, grid: torch.Tensor) -> bool:
        """Whether the encoder would compute the same once more."""
        return (
            self.arithmetic == _arithmetic(patches)
            and self.patches.dtype == patches.dtype
            and torch.equal(self.grid, grid)
            and torch.equal(self.patches, patches)
        )


class _Sparing:
    """An encoder's forward pass: patches (P, D) of all images one after the other, grids (N, 3)."""

    def __init__(self, encoder: nn.Module, forward: Callable[..., Any], kept_images: int) -> None:
        self._encoder = encoder
        self._forward = forward
        self._seen: deque[_Seen] = deque(maxlen=kept_images)

    def __call__(self, patches: torch.Tensor, grid_thw: torch.Tensor, **kwargs: Any) -> Any:
        """The encoder's output, without a gradient if the encoder is frozen."""
        if any(weight.requires_grad for weight in self._encoder.parameters()):
            return self._forward(patches, grid_thw=grid_thw, **kwargs)
        with torch.no_grad():
            if _is_shared_by_processes() or any(map(torch.is_tensor, kwargs.values())):
                return self._forward(patches, grid_thw=grid_thw, **kwargs)
            images = patches.split(grid_thw.prod(-1).tolist())
            found = [
                self._output_of(image, grid, kwargs)
                for image, grid in zip(images, grid_thw.split(1), strict=True)
            ]
            return joined(found)

    def _output_of(self, patches: torch.Tensor, grid: torch.Tensor, kwargs: dict[str, Any]) -> Any:
        for seen in self._seen:
            if seen.is_of(patches, grid):
                return seen.output
        output = self._forward(patches, grid_thw=grid, **kwargs)
        self._seen.append(_Seen(patches.clone(), grid.clone(), _arithmetic(patches), output))
        return output


def _arithmetic(tensor: torch.Tensor) -> torch.dtype | None:
    """The number format that autocast computes in; ``None`` where it is off."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


def _is_shared_by_processes() -> bool:
    """Whether others take part in each pass, as sharded weights need; then none is left out."""
    return distributed.is_initialized() and distributed.get_world_size() > 1


def joined(outputs: Sequence[Any]) -> Any:
    """One output of several images from those of each, field by field along the first axis.

    A field is a tensor or a list of them, one of each layer, as a DeepStack has.
    """
    fields = {name: [output[name] for output in outputs] for name in outputs[0]}
    return type(outputs[0])(**{name: _joined_field(each) for name, each in fields.items()})


def _joined_field(values: Sequence[Any]) -> Any:
    if torch.is_tensor(values[0]):
        return torch.cat(list(values))
    return [torch.cat(layer) for layer in zip(*values, strict=True)]
