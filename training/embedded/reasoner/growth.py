# SPDX-License-Identifier: Apache-2.0
"""A larger reasoner that starts with what a smaller one has learned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from ..questions import QuestionWriter, question_set
from .modelling import LARGER, NanoConfig, build_model, build_processor

TOKENIZER_QUESTIONS = 60_000
_LAYER = re.compile(r"(.*language_model\.layers\.)(\d+)(\..*)")
_OF_WORDS = ("embed_tokens.weight", "lm_head.weight")
_WRITES = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""The matrices by which a layer adds to the stream; with zeros it changes nothing."""


def grown(
    folder: Path,
    writer: QuestionWriter,
    config: NanoConfig = LARGER,
    questions: int = TOKENIZER_QUESTIONS,
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """A model with more layers and a tokenizer of all languages, which answers as before.

    New layers come first, since they are to read the question, and begin as the identity. Words
    that both tokenizers have keep their embeddings. Of a model that has grown, only what is new can
    be trained, until all of its parameters are asked to.

    Args:
        folder: of the smaller model.
        writer: its questions teach the tokenizer words.
        config: of the larger model, as wide as the smaller one.
        questions: how many.
    """
    loaded = AutoModelForImageTextToText.from_pretrained(  # nosec B615 # a folder
        str(folder), dtype=torch.float32
    )
    small = cast("Qwen2_5_VLForConditionalGeneration", loaded)
    words = AutoProcessor.from_pretrained(str(folder)).tokenizer  # nosec B615 # a folder
    texts = [q.text for q in question_set(writer, "train", questions, seed=7)]
    processor = build_processor(config, texts)
    model = build_model(config, processor.tokenizer)
    added = config.layers - small.config.get_text_config().num_hidden_layers
    state = model.state_dict()
    for name, value in small.state_dict().items():
        match = _LAYER.fullmatch(name)
        new = f"{match[1]}{int(match[2]) + added}{match[3]}" if match else name
        if not name.endswith(_OF_WORDS):
            state[new] = value
    for name in state:
        match = _LAYER.fullmatch(name)
        if match and int(match[2]) < added and name.endswith(_WRITES):
            state[name] = torch.zeros_like(state[name])
    model.load_state_dict(state)
    shared = _keep_embeddings(model, processor.tokenizer, small, words)
    if added:
        _train_words_only(model, added, shared)
    return model, processor


def _train_words_only(
    model: Qwen2_5_VLForConditionalGeneration, added: int, shared: list[int]
) -> None:
    """Freeze what reads the image: only new layers and the embeddings of new words are trained.

    Text alone, trained through all layers, makes a model forget within minutes where things are.
    """
    for name, parameter in model.named_parameters():
        match = _LAYER.fullmatch(name)
        parameter.requires_grad = match is not None and int(match[2]) < added
    embeddings = cast("torch.Tensor", model.get_input_embeddings().weight)
    embeddings.requires_grad = True
    kept = torch.tensor(shared)

    def only_new_words(gradient: torch.Tensor) -> torch.Tensor:
        return gradient.index_fill(0, kept, 0.0)

    embeddings.register_hook(only_new_words)


@torch.no_grad()
def _keep_embeddings(
    model: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    small: Qwen2_5_VLForConditionalGeneration,
    words: PreTrainedTokenizerFast,
) -> list[int]:
    """Copy the embeddings of words that both have; returns their ids in the larger one."""
    new = cast("torch.Tensor", model.get_input_embeddings().weight)
    old = cast("torch.Tensor", small.get_input_embeddings().weight)
    ids = words.get_vocab()
    shared = [(index, ids[token]) for token, index in tokenizer.get_vocab().items() if token in ids]
    for index, known in shared:
        new[index] = old[known]
    return [index for index, _ in shared]
