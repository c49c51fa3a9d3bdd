# SPDX-License-Identifier: Apache-2.0
"""A SAM of the first generation (MedSAM, LiteMedSAM, SAM-Med2D) as a :class:`Network`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.segmenters.crop import Crop
from medreasoner_infer.segmenters.network import Candidate, Embedding, Network, SparsePrompt
from medreasoner_infer.segmenters.pixels import ReadPixels

if TYPE_CHECKING:
    import torch
    from transformers import SamModel


class SamNetwork(Network):
    """The parts of a ``SamModel``, whose image encoder may be another one; see :class:`Network`.

    Args:
        model: its ``vision_encoder`` gives a tuple whose first entry is the feature map
            (V, C, h, w).
        device: torch device that it runs on.
        multimask: see :class:`Network`.
        read: how the pixels are scaled.
    """

    half_on_cuda = False  # position encodings of coordinates lose their last bits

    def __init__(
        self, model: SamModel, device: torch.device, multimask: bool, read: ReadPixels
    ) -> None:
        super().__init__(model, device, multimask)
        self._read = read
        self._shape: Any = model.config.prompt_encoder_config

    @property
    def input_size(self) -> int:
        """Side of the square input in px."""
        return int(self._shape.image_size)

    def encode(self, pixels: NDArray[np.uint8], crop: Crop, mirror: bool = False) -> Embedding:
        """Encode a crop of a slice; see :class:`Network`."""
        import torch

        views = self._read(pixels, crop, self.input_size, self.device)[None]
        views = torch.cat([views, views.flip(-1)]) if mirror else views
        return Embedding((self.model.vision_encoder(views)[0],), ())

    def decode(
        self, embedding: Embedding, prompt: SparsePrompt, mask: NDArray[np.float32] | None = None
    ) -> Candidate:
        """Decode the best mask for a prompt; see :class:`Network`."""
        sparse, dense = self.model.prompt_encoder(
            **_box_and_points(prompt),
            input_masks=self.mask_prompt(mask, len(prompt.labels), self._mask_size),
        )
        logits, ious = self.model.mask_decoder(
            image_embeddings=embedding.features[0],
            image_positional_embeddings=self.model.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.multimask,
        )
        # It says nothing of the target's presence: whatever the rule wants, it holds.
        return self.best_candidate(logits[:, 0], ious[:, 0], presence=math.inf)

    @property
    def _mask_size(self) -> tuple[int, int]:
        side = 4 * int(self._shape.image_embedding_size)
        return side, side


def _box_and_points(prompt: SparsePrompt) -> dict[str, torch.Tensor | None]:
    """What transformers calls them: boxes (V, 1, 4), points (V, 1, P, 2), labels (V, 1, P).

    The corners of a box are the points of the labels 2 and 3, in front of the others.
    """
    corners = 2 if 2 in prompt.labels[0].tolist() else 0
    points, labels = prompt.coordinates[:, None, corners:], prompt.labels[:, None, corners:]
    boxes = prompt.coordinates[:, :2].reshape(-1, 1, 4) if corners else None
    some = points.shape[2] > 0
    return {
        "input_points": points if some else None,
        "input_labels": labels if some else None,
        "input_boxes": boxes,
    }
