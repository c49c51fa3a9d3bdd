# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of a reasoner to many questions at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from .packing import Packer

MAX_NEW_TOKENS = 128


@torch.no_grad()
def answer_all(
    model: Qwen2_5_VLForConditionalGeneration,
    packer: Packer,
    greys: Sequence[np.ndarray],
    queries: Sequence[str],
    batch: int = 40,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[str]:
    """Greedy completions, one for each pair of image (uint8 (S, S), letterboxed) and question.

    With fewer ``max_new_tokens`` they break off.
    """
    model.eval()
    completions: list[str] = []
    for start in range(0, len(queries), batch):
        part = slice(start, start + batch)
        prompts = [packer.prompt(query) for query in queries[part]]
        completions += _generate(model, packer, greys[part], prompts, max_new_tokens)
    return completions


def _generate(
    model: Qwen2_5_VLForConditionalGeneration,
    packer: Packer,
    greys: Sequence[np.ndarray],
    prompts: Sequence[list[int]],
    max_new_tokens: int,
) -> list[str]:
    tokenizer = packer.tokenizer
    padded = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    ids = padded["input_ids"]
    # Its annotation asks for more of a model than the library's own models have.
    generate: Callable[..., torch.Tensor] = cast("Any", model).generate
    output = generate(
        input_ids=ids,
        attention_mask=padded["attention_mask"],
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
        pixel_values=packer.pixels(greys),
        image_grid_thw=packer.grids(len(prompts)),
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    return tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
