# SPDX-License-Identifier: Apache-2.0
"""Small networks of each family of segmenters, saved as their authors publish the real ones.

The prompt encoder and the mask decoder of a checkpoint are Meta's own modules, from the package
``sam2``, whose tensors are called as in SAM's checkpoints but for two layers.
"""

from __future__ import annotations

from pathlib import Path

import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.prompt_encoder import PromptEncoder
from sam2.modeling.sam.transformer import TwoWayTransformer
from transformers import SamConfig, SamModel

from medreasoner_infer.segmenters.tiny_vit import TinyVit, TinyVitShape

#: A TinyViT that encodes 256 px in a moment.
SMALL_TINY_VIT = TinyVitShape(widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), heads=(1, 2, 2, 4))
#: A vision transformer of two layers, the second of which looks at the whole map.
SMALL_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "global_attn_indexes": [1],
    "window_size": 4,
}


def meta_modules(input_size: int, stride: int) -> tuple[PromptEncoder, MaskDecoder]:
    """Meta's prompt encoder and mask decoder of SAM, with random weights."""
    side = input_size // stride
    encoder = PromptEncoder(
        embed_dim=256,
        image_embedding_size=(side, side),
        input_image_size=(input_size, input_size),
        mask_in_chans=16,
    )
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        transformer_dim=256,
        iou_head_depth=3,
        iou_head_hidden_dim=256,
    )
    return encoder.eval(), decoder.eval()


def published(encoder: PromptEncoder, decoder: MaskDecoder) -> dict[str, torch.Tensor]:
    """Their tensors by the names of SAM's checkpoints."""
    state = {f"prompt_encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    for name, tensor in decoder.state_dict().items():
        for layer, sam_s in (("mlp.layers.0.", "mlp.lin1."), ("mlp.layers.1.", "mlp.lin2.")):
            name = name.replace(layer, sam_s) if name.startswith("transformer.") else name
        state[f"mask_decoder.{name}"] = tensor
    return state


def lite_medsam_state(shape: TinyVitShape = SMALL_TINY_VIT) -> dict[str, torch.Tensor]:
    """A checkpoint of a LiteMedSAM with a small encoder."""
    torch.manual_seed(0)
    state = published(*meta_modules(256, 4))
    encoder = TinyVit(shape).state_dict()
    return state | {f"image_encoder.{name}": tensor for name, tensor in encoder.items()}


def sam_med2d_state(width: int = 32, layers: int = 2) -> dict[str, torch.Tensor]:
    """A checkpoint of a SAM-Med2D with a small encoder, whose names are written out here."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 16, 16, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "neck.0.weight": (256, width, 1, 1),
        "neck.1.weight": (256,),
        "neck.1.bias": (256,),
        "neck.2.weight": (256, 256, 3, 3),
        "neck.3.weight": (256,),
        "neck.3.bias": (256,),
    }
    for layer in range(layers):
        distances = 2 * (16 if layer == 1 else 4) - 1
        of_block = {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "attn.rel_pos_h": (distances, width // 2),
            "attn.rel_pos_w": (distances, width // 2),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.lin1.weight": (4 * width, width),
            "mlp.lin1.bias": (4 * width,),
            "mlp.lin2.weight": (width, 4 * width),
            "mlp.lin2.bias": (width,),
            "Adapter.norm.weight": (width,),
            "Adapter.norm.bias": (width,),
            "Adapter.channel.0.weight": (width // 4, width),
            "Adapter.channel.2.weight": (width, width // 4),
            "Adapter.spatial.0.weight": (width, width, 3, 3),
            "Adapter.spatial.2.weight": (width, width, 4, 4),
        }
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in of_block.items()}
    encoder = {f"image_encoder.{name}": torch.randn(shape) / 8 for name, shape in shapes.items()}
    return encoder | published(*meta_modules(256, 16))


def save_medsam(folder: Path) -> None:
    """A folder as transformers saves a fine-tuned MedSAM, of a small network."""
    torch.manual_seed(0)
    size = {"image_size": 128, "patch_size": 16}
    config = SamConfig(vision_config={**size, **SMALL_VIT}, prompt_encoder_config=size)
    SamModel(config).save_pretrained(folder)
