# SPDX-License-Identifier: Apache-2.0
"""The tiny Qwen2.5-VL: tokenizer, processor and model, all of the real classes.

Every non-negative integer up to 255 is one token, so that a coordinate is one decision. The tags
``<think>`` and ``<answer>`` are added tokens that are *not* special: they stay in decoded text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from medreasoner_infer.language import SIDES, vocabulary
from medreasoner_infer.reasoners.known_targets import (
    SEVERAL_TARGETS,
    UNKNOWN_TARGET,
    KnownTargets,
)

from ..phantom.anatomy import Label
from ..queries import known_targets, query_table
from ..questions import known_names
from .reasonings import UNKNOWN_PICTURE

if TYPE_CHECKING:
    import torch
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
    )

SYSTEM_PROMPT = "You are a medical grounding assistant."
IMAGE_ENCODING = "grey_xy_ramps"
INTEGERS = 256
"""Integers 0...255 are single tokens."""

_CONTROL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen's pre-tokenizer, except that digits stay together in groups of up to three."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a medical grounding assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's chat template with this model's own default system prompt."""


@dataclass(frozen=True)
class NanoConfig:
    """Size of the embedded reasoner; 2.2 million parameters."""

    image_px: int = 128
    patch_px: int = 8
    hidden: int = 128
    layers: int = 4
    heads: int = 2
    intermediate: int = 352
    vision_hidden: int = 128
    vision_depth: int = 4
    vision_heads: int = 4
    vision_intermediate: int = 320
    vocabulary: int = 1800
    initializer_range: float = 0.08
    seed: int = 0

    @property
    def image_tokens(self) -> int:
        """Merged visual tokens of one image."""
        return (self.image_px // (2 * self.patch_px)) ** 2


LARGER = NanoConfig(layers=8, vocabulary=6000)
"""What the small model grows to before it learns the clinical vocabulary."""


def taught_by_name() -> KnownTargets:
    """The targets of the clinical vocabulary that a model is taught, each asked for by its name."""
    names = list(known_names())
    words = vocabulary().targets
    names += [f"{side} {name}" for name in known_names() if words[name].paired for side in SIDES]
    return KnownTargets({name: question_by_name(name) for name in sorted(names)})


def taught_by_phrasing() -> KnownTargets:
    """The phantoms' targets, each asked for by the first of its phrasings."""
    table = query_table().targets.values()
    return KnownTargets({target.name: target.trained[0] for target in table})


def question_by_name(name: str) -> str:
    """How a model that was taught the vocabulary is asked for a target."""
    return f"Where is the {name}?"


def _corpus(questions: Sequence[str]) -> list[str]:
    """Text that the tokenizer learns its words from: trained questions and answer templates."""
    table = query_table()
    lines = [
        SYSTEM_PROMPT,
        "system\n",
        "user\n",
        "assistant\n",
        *table.prefixes,
        *table.suffixes,
    ] * 50
    words = "upper middle lower left right centre bright dark grey round oval elongated irregular"
    for target in table.targets.values():
        lines += list(target.trained) * 20
        lines += [query.lower() for query in target.trained] * 8
        lines += [
            f"The question points to the {target.name}, a {words} region in the upper left of "
            f"the image, left of the {target.name}, right of the {target.name}, below the "
            f"{target.name}, above the {target.name}.",
            f"The question points to the {target.name}, which is not visible on this slice of the "
            f"{target.name}.",
            f"The question points to the {target.name}, a {words} region at the patient's front "
            f"right, in front of the {target.name}, behind the {target.name}. It is asked for by "
            "its name, its function, its appearance, its place, a symptom, a sign, a disease.",
            '{"bbox":[1,2,3,4],"points_1":[1,2],"points_2":[1,2]}',
            "null",
            '"not understood"',
            UNKNOWN_TARGET,
            SEVERAL_TARGETS,
            UNKNOWN_PICTURE,
        ] * 30
    for integer in range(INTEGERS):
        lines += [str(integer)] * 60
    return [*lines, *questions]


def build_tokenizer(vocabulary: int, questions: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer with Qwen's control tokens.

    Args:
        vocabulary: number of tokens, without the control tokens.
        questions: further text to learn words from.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(questions), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(_CONTROL_TOKENS[1:]),
        model_max_length=2048,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in _TAGS])
    return fast


def integer_token_ids(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Token ids of the integers 0...255.

    Raises:
        ValueError: an integer is not a single token, so the tokenizer cannot be used.
    """
    ids = [tokenizer.encode(str(n), add_special_tokens=False) for n in range(INTEGERS)]
    split = [n for n, tokens in enumerate(ids) if len(tokens) != 1]
    if split:
        raise ValueError(f"The integers {split[:5]} are not single tokens; enlarge the vocabulary.")
    return [tokens[0] for tokens in ids]


def name_token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[Label, list[int]]:
    """Token ids of each target's name as it stands in a reasoning, after a space."""
    return {
        label: tokenizer.encode(f" {target.name}", add_special_tokens=False)
        for label, target in known_targets().items()
    }


def build_processor(config: NanoConfig, questions: Sequence[str] = ()) -> Qwen2_5_VLProcessor:
    """Tokenizer, image processor for one fixed size, and chat template."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    pixels = config.image_px**2
    settings: dict[str, Any] = {
        "patch_size": config.patch_px,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": pixels, "longest_edge": pixels},
        "image_mean": [0.4] * 3,
        "image_std": [0.3] * 3,
    }
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**settings),
        tokenizer=build_tokenizer(config.vocabulary, questions),
        video_processor=Qwen2VLVideoProcessor(**settings),
        chat_template=CHAT_TEMPLATE,
    )


def build_model(
    config: NanoConfig, tokenizer: PreTrainedTokenizerFast
) -> Qwen2_5_VLForConditionalGeneration:
    """A randomly initialised model whose integer embeddings start as sinusoids of their value."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    def token(text: str) -> int:
        return cast("int", tokenizer.convert_tokens_to_ids(text))

    end, pad = token("<|im_end|>"), token("<|endoftext|>")
    full = Qwen2_5_VLConfig(
        text_config=_text_config(config, len(tokenizer), end, pad),
        vision_config=_vision_config(config),
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(config.seed)
    model = Qwen2_5_VLForConditionalGeneration(full)
    model.generation_config.eos_token_id = [end, pad]
    model.generation_config.pad_token_id = pad
    weight = cast("torch.Tensor", model.get_input_embeddings().weight)
    with torch.no_grad():
        start = _sinusoids(config.hidden) * (1.4 * config.initializer_range)
        weight[torch.tensor(integer_token_ids(tokenizer))] = start
    return model


def _text_config(config: NanoConfig, vocabulary: int, end: int, pad: int) -> dict:
    """Language model; M-RoPE shares a half head between time, height and width as Qwen does."""
    half = config.hidden // config.heads // 2
    spatial = 3 * half // 8
    return {
        "vocab_size": vocabulary,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "max_position_embeddings": 2048,
        "max_window_layers": config.layers,
        "initializer_range": config.initializer_range,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [half - 2 * spatial, spatial, spatial],
        },
        "bos_token_id": pad,
        "eos_token_id": end,
        "pad_token_id": pad,
        "tie_word_embeddings": True,
    }


def _vision_config(config: NanoConfig) -> dict:
    """Vision tower; every block attends to the whole image, so the window never counts."""
    return {
        "depth": config.vision_depth,
        "hidden_size": config.vision_hidden,
        "intermediate_size": config.vision_intermediate,
        "num_heads": config.vision_heads,
        "out_hidden_size": config.hidden,
        "patch_size": config.patch_px,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": config.patch_px * 8,
        "fullatt_block_indexes": list(range(config.vision_depth)),
        "tokens_per_second": 2,
        "initializer_range": config.initializer_range,
    }


def _sinusoids(width: int) -> torch.Tensor:
    """Sine and cosine features of 0...255, wavelengths from 8 to 512: shape (256, width)."""
    import torch

    integers = torch.arange(float(INTEGERS))[:, None]
    lowest, highest = math.log(2 * math.pi / 512), math.log(2 * math.pi / 8)
    frequencies = torch.exp(torch.linspace(lowest, highest, width // 2))[None]
    return torch.cat([torch.sin(integers * frequencies), torch.cos(integers * frequencies)], 1)


def chat(query: str) -> list[dict]:
    """Messages of one question about one image, for ``apply_chat_template``."""
    content = [{"type": "image"}, {"type": "text", "text": query}]
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": content}]
