# SPDX-License-Identifier: Apache-2.0
"""The names of SAM's published weights, and what transformers calls the same tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_SHARED = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
#: Pixel scaling that some checkpoints carry; it is no weight.
_NO_WEIGHTS = ("pixel_mean", "pixel_std")
#: Applied one after the other.
_PROMPT_AND_DECODER = (
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"^(mask_decoder\.transformer\..*)\bnorm", r"\1layer_norm"),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"^(mask_decoder\.(?:iou|output)_.*)\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?:iou|output)_.*)\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:iou|output)_.*)\.layers\.2\.", r"\1.proj_out."),
    (r"^image_encoder\.", "vision_encoder."),
)
_VISION_TRANSFORMER = (
    (r"^vision_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^vision_encoder\.blocks\.(\d+)\.norm", r"vision_encoder.layers.\1.layer_norm"),
    (r"^vision_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^vision_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^vision_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^vision_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^vision_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
)
_ADAPTERS = (
    (r"^(vision_encoder\.layers\.\d+)\.mlp\.", r"\1.mlp.perceptron."),
    (r"^(vision_encoder\.layers\.\d+)\.Adapter\.", r"\1.mlp.adapter."),
)


def lite_medsam_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LiteMedSAM's tensors by the names of a ``SamModel`` with a :class:`TinyVit`."""
    return _renamed(state, _PROMPT_AND_DECODER)


def sam_med2d_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SAM-Med2D's tensors by the names of a ``SamModel`` with adapters."""
    return _renamed(state, (*_PROMPT_AND_DECODER, *_VISION_TRANSFORMER, *_ADAPTERS))


def _renamed(
    state: Mapping[str, torch.Tensor], rules: tuple[tuple[str, str], ...]
) -> dict[str, torch.Tensor]:
    named = {}
    for published, tensor in state.items():
        if published == _POSITIONS:
            named.update(dict.fromkeys(_SHARED, tensor))
        elif published not in _NO_WEIGHTS:
            name = published
            for pattern, replacement in rules:
                name = re.sub(pattern, replacement, name)
            named[name] = tensor
    return named
