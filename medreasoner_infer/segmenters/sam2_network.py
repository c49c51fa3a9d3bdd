# SPDX-License-Identifier: Apache-2.0
"""A ``SAM2Base`` model (SAM 2.1, MedSAM2, the embedded model) as a :class:`Network`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.segmenters.crop import Crop
from medreasoner_infer.segmenters.network import Candidate, Embedding, Network, SparsePrompt
from medreasoner_infer.segmenters.pixels import ByImageNet

if TYPE_CHECKING:
    import torch


class Sam2Network(Network):
    """A ``SAM2Base``; see :class:`Network`."""

    remembers = True

    def __init__(self, model: Any, device: torch.device, multimask: bool) -> None:
        super().__init__(model, device, multimask)
        self._read = ByImageNet()
        self._positions: dict[int, tuple[torch.Tensor, ...]] = {}

    @property
    def input_size(self) -> int:
        """Side of the square input in px."""
        return int(self.model.image_size)

    def encode(self, pixels: NDArray[np.uint8], crop: Crop, mirror: bool = False) -> Embedding:
        """Encode a crop of a slice; see :class:`Network`."""
        import torch

        views = self._read(pixels, crop, self.input_size, self.device)[None]
        output = self.model.forward_image(torch.cat([views, views.flip(-1)]) if mirror else views)
        features = tuple(output["backbone_fpn"])
        # Sines of the positions in the input, whose size is fixed; five sixths of what is encoded.
        positions = self._positions.setdefault(len(features[0]), tuple(output["vision_pos_enc"]))
        return Embedding(features, positions)

    def decode(
        self, embedding: Embedding, prompt: SparsePrompt, mask: NDArray[np.float32] | None = None
    ) -> Candidate:
        """Decode the best mask for a prompt; see :class:`Network`."""
        encoder = self.model.sam_prompt_encoder
        sparse, dense = encoder(
            points=(prompt.coordinates, prompt.labels),
            boxes=None,
            masks=self.mask_prompt(mask, len(prompt.labels), encoder.mask_input_size),
        )
        *fine, coarse = embedding.features
        logits, ious, _, presence = self.model.sam_mask_decoder(
            image_embeddings=coarse + self.model.no_mem_embed.view(1, -1, 1, 1),
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.multimask,
            repeat_image=False,
            high_res_features=fine,
        )
        return self.best_candidate(logits, ious, float(presence.mean()))
