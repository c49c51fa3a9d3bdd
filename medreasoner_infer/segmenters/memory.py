# SPDX-License-Identifier: Apache-2.0
"""SAM2's memory over the slices of a volume, held in memory only as far as it is read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.segmenters.network import Candidate, Embedding, Network, SparsePrompt

if TYPE_CHECKING:
    import torch

#: What later slices read of a slice's output; the rest is let go at once.
_REMEMBERED = ("maskmem_features", "maskmem_pos_enc", "obj_ptr")


class SliceMemory:
    """The inference state of one tracked target.

    It keeps the prompted slice and as many of the last slices as the model attends to, so that its
    size does not grow with the volume. Used inside :meth:`Network.inference`.

    Args:
        network: one that ``remembers``, a SAM2.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        model = network.model
        self._horizon = max(model.num_maskmem, model.max_obj_ptrs_in_encoder)
        self._prompted: dict[int, dict[str, Any]] = {}
        self._recent: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._prompted) + len(self._recent)

    def forget_recent(self) -> None:
        """Keep the prompted slice only."""
        self._recent.clear()

    def prompt(self, index: int, embedding: Embedding, prompt: SparsePrompt) -> Candidate:
        """Segment the prompted slice and remember it."""
        inputs = {"point_coords": prompt.coordinates, "point_labels": prompt.labels}
        output = self._track(index, embedding, reverse=False, point_inputs=inputs)
        self._prompted[index] = {name: output[name] for name in _REMEMBERED}
        return self._candidate(output)

    def show(self, index: int, embedding: Embedding, mask: NDArray[np.float32]) -> None:
        """Remember a slice whose mask is known: float32 (size, size) in 0...1."""
        import torch

        shown = torch.from_numpy(mask)[None, None].to(self.network.device)
        output = self._track(index, embedding, reverse=False, mask_inputs=(shown > 0.5).float())
        self._prompted[index] = {name: output[name] for name in _REMEMBERED}

    def step(self, index: int, embedding: Embedding) -> Candidate:
        """Segment a further slice from what is remembered, and remember it."""
        (prompted_index,) = self._prompted
        output = self._track(index, embedding, reverse=index < prompted_index)
        self._recent[index] = {name: output[name] for name in _REMEMBERED}
        while len(self._recent) > self._horizon:
            del self._recent[next(iter(self._recent))]
        return self._candidate(output)

    def _track(
        self,
        index: int,
        embedding: Embedding,
        reverse: bool,
        point_inputs: dict[str, torch.Tensor] | None = None,
        mask_inputs: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        features = [level.flatten(2).permute(2, 0, 1) for level in embedding.features]
        positions = [level.flatten(2).permute(2, 0, 1) for level in embedding.positions]
        output: dict[str, Any] = self.network.model.track_step(
            frame_idx=index,
            is_init_cond_frame=point_inputs is not None or mask_inputs is not None,
            current_vision_feats=features,
            current_vision_pos_embeds=positions,
            feat_sizes=[tuple(level.shape[-2:]) for level in embedding.features],
            point_inputs=point_inputs,
            mask_inputs=mask_inputs,
            output_dict={
                "cond_frame_outputs": self._prompted,
                "non_cond_frame_outputs": self._recent,
            },
            num_frames=sys.maxsize,  # beyond the volume nothing is remembered anyway
            track_in_reverse=reverse,
        )
        return output

    def _candidate(self, output: dict[str, Any]) -> Candidate:
        presence = float(output["object_score_logits"])
        # SAM2 reports no IoU while tracking; the presence probability stands in for it.
        iou = float(output["object_score_logits"].sigmoid())
        return self.network.candidate(output["pred_masks"], iou, presence)
