# SPDX-License-Identifier: Apache-2.0
"""Real, randomly initialised models of the families that can be asked, as their authors save them.

Each has its own processor class and a byte-level tokenizer that was trained here; weights are a few
hundred kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from support.tiny_qwen import save_tiny_qwen

import medreasoner_infer

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"

_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
GEMMA_MARKS = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}
INTERN_MARKS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.2,
    "bos_token_id": None,
}


def tokenizer_with(marks: dict[str, str]):
    """Byte-level BPE that has seen a few answers, with a family's marks of an image."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    text = ['{"bbox": [12, 34, 560, 780], "points_1": [1, 2]}', "The liver lies here."]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(text * 5, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", *dict.fromkeys(marks.values())],
        extra_special_tokens=marks,
    )
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in tags])
    return tokenizer


def _save(folder: Path, model_class, config, processor, tokenizer) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = model_class(config)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id], pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _text(tokenizer, context: int) -> dict:
    return TEXT | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": context,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def qwen3_processor(tokenizer, patch_px: int = 16, area_px2: tuple[int, int] = (65536, 16777216)):
    grid = {
        "patch_size": patch_px,
        "merge_size": 2,
        "size": {"shortest_edge": area_px2[0], "longest_edge": area_px2[1]},
    }
    return transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(**grid),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen3VLVideoProcessor(**grid),
        chat_template=_TURNS.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )


def save_tiny_qwen3(folder: Path, *, context: int = 2048, patch_px: int = 8) -> None:
    tokenizer = tokenizer_with(QWEN_MARKS)
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in QWEN_MARKS.items()}
    text = _text(tokenizer, context) | {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 3, 3],
            "mrope_interleaved": True,
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": patch_px,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
        "initializer_range": 0.2,
    }
    config = transformers.Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        vision_start_token_id=ids["vision_start_token"],
        vision_end_token_id=ids["vision_end_token"],
        tie_word_embeddings=True,
    )
    _save(
        folder,
        transformers.Qwen3VLForConditionalGeneration,
        config,
        qwen3_processor(tokenizer, patch_px, (256, 65536)),
        tokenizer,
    )


def gemma3_processor(tokenizer, side_px: int = 896, image_tokens: int = 256):
    return transformers.Gemma3Processor(
        image_processor=transformers.Gemma3ImageProcessor(
            size={"height": side_px, "width": side_px}
        ),
        tokenizer=tokenizer,
        chat_template=_TURNS.replace("IMAGE", "<start_of_image>"),
        image_seq_length=image_tokens,
    )


def save_tiny_gemma3(folder: Path, *, context: int = 2048, side_px: int = 64) -> None:
    tokenizer = tokenizer_with(GEMMA_MARKS)
    text = _text(tokenizer, context) | {"query_pre_attn_scalar": 16, "sliding_window": 512}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": side_px,
        "patch_size": 8,
        "vision_use_head": False,
    }
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=16,
        boi_token_index=tokenizer.convert_tokens_to_ids(GEMMA_MARKS["boi_token"]),
        eoi_token_index=tokenizer.convert_tokens_to_ids(GEMMA_MARKS["eoi_token"]),
        image_token_index=tokenizer.convert_tokens_to_ids(GEMMA_MARKS["image_token"]),
        eos_token_id=[tokenizer.eos_token_id],
    )
    _save(
        folder,
        transformers.Gemma3ForConditionalGeneration,
        config,
        gemma3_processor(tokenizer, side_px, 16),
        tokenizer,
    )


def internvl_processor(tokenizer, tile_px: int = 448, tile_tokens: int = 256):
    return transformers.InternVLProcessor(
        image_processor=transformers.GotOcr2ImageProcessor(
            size={"height": tile_px, "width": tile_px}, crop_to_patches=True
        ),
        tokenizer=tokenizer,
        video_processor=transformers.InternVLVideoProcessor(
            size={"height": tile_px, "width": tile_px}
        ),
        chat_template=_TURNS.replace("IMAGE", "<IMG_CONTEXT>\n"),
        image_seq_length=tile_tokens,
    )


def save_tiny_internvl(folder: Path, *, context: int = 2048, tile_px: int = 32) -> None:
    tokenizer = tokenizer_with(INTERN_MARKS)
    text = _text(tokenizer, context) | {"model_type": "qwen2"}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": [tile_px, tile_px],
        "patch_size": [8, 8],
        "initializer_range": 0.2,
    }
    config = transformers.InternVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(INTERN_MARKS["context_image_token"]),
        image_seq_length=(tile_px // 8 // 2) ** 2,
    )
    _save(
        folder,
        transformers.InternVLForConditionalGeneration,
        config,
        internvl_processor(tokenizer, tile_px, (tile_px // 8 // 2) ** 2),
        tokenizer,
    )


def save_tiny_qwen25(folder: Path, *, context: int = 2048) -> None:
    save_tiny_qwen(folder, context=context)


#: By ``model_type``: what saves a tiny model, and a size at which it sees images as they are.
TINY: dict[str, tuple[Callable[..., None], int]] = {
    "qwen2_5_vl": (save_tiny_qwen25, 64),
    "qwen3_vl": (save_tiny_qwen3, 64),
    "gemma3": (save_tiny_gemma3, 64),
    "internvl": (save_tiny_internvl, 64),
}


def qwen_folder(name: str, folder: Path) -> Path:
    """Of the embedded Qwen2.5-VL, or of a tiny Qwen3-VL made in ``folder``, whose encoder feeds the
    language model's first layers."""
    if name == "embedded":
        return EMBEDDED
    save_tiny_qwen3(folder)
    return folder
