# SPDX-License-Identifier: Apache-2.0
"""A real, randomly initialised Qwen2.5-VL of 0.1 M parameters, as its authors save theirs."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers

SPECIAL = ("im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer():
    """Byte-level BPE that has seen a few answers, with Qwen's control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    text = ['{"bbox":[12,34,56,78],"points_1":[1,2],"points_2":[3,4]}', "The liver lies here."]
    text += [str(number) for number in range(128)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(text * 5, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[f"<|{name}|>" for name in SPECIAL],
    )
    tags = ("<think>", "</think>", "<answer>", "</answer>")
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in tags])
    return tokenizer


def tiny_model(tokenizer, context: int, patch_px: int):
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in SPECIAL}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": context,
        "initializer_range": 0.2,
        "bos_token_id": None,
        "eos_token_id": ids["im_end"],
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [2, 3, 3],
        },
        "tie_word_embeddings": True,
    }
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 32,
        "patch_size": patch_px,
        "fullatt_block_indexes": [0],
        "initializer_range": 0.2,
    }
    config = transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=[ids["im_end"]], pad_token_id=tokenizer.pad_token_id, repetition_penalty=5.0
    )
    return model


def save_tiny_qwen(
    folder: Path, *, context: int = 1024, patch_px: int = 8, shard_size: str = "5GB"
) -> None:
    """Model, processor and tokenizer; ``shard_size`` below 1 MB makes several files of weights."""
    tokenizer = tiny_tokenizer()
    grid = {
        "patch_size": patch_px,
        "merge_size": 2,
        "size": {"shortest_edge": 56 * 56, "longest_edge": 56 * 56},
    }
    processor = transformers.Qwen2_5_VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(**grid),
        tokenizer=tokenizer,
        video_processor=transformers.Qwen2VLVideoProcessor(**grid),
        chat_template=CHAT_TEMPLATE,
    )
    model = tiny_model(tokenizer, context, patch_px)
    model.save_pretrained(folder, max_shard_size=shard_size)
    processor.save_pretrained(folder)
