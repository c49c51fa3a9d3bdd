# SPDX-License-Identifier: Apache-2.0
"""What a model computed of an image, to be used again for the next question about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache


@dataclass(frozen=True)
class ImagePrefix:
    """Keys and values of the tokens up to and including the image; never written to again.

    ``inputs`` holds the prefix's own (1, length) token tensors and the image's patch grid, all
    that position ids are computed from.
    """

    inputs: dict[str, torch.Tensor]
    keys_and_values: DynamicCache

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        from transformers.cache_utils import DynamicLayer

        layers = (x for x in self.keys_and_values.layers if isinstance(x, DynamicLayer))
        held = [part for layer in layers for part in (layer.keys, layer.values)]
        return sum(int(part.nbytes) for part in held if part is not None)
