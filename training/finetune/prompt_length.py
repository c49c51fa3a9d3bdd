# SPDX-License-Identifier: Apache-2.0
"""How many tokens the prompts of a data set take, their image included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from medreasoner_training.finetune.rows import RowMaker
from medreasoner_training.samples.schema import question_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import ProcessorMixin

# vLLM keeps keys and values in blocks of so many tokens.
_BLOCK_TOKENS = 16


def questions_of(raw: Dataset) -> list[str]:
    """The different questions of a data set's rows, without decoding an image."""
    return sorted(set(map(question_of, raw.select_columns("prompt")["prompt"])))


def longest_prompt(
    questions: Iterable[str], maker: RowMaker, processor: ProcessorMixin, image_tokens: int
) -> int:
    """Tokens of the longest prompt, as the trainer and vLLM give it to the model.

    Args:
        questions: as :func:`questions_of`.
        maker: makes the messages.
        processor: of the model; its chat template places the image.
        image_tokens: that one image takes; the template itself has one token for it.
    """
    from trl.data_utils import prepare_multimodal_messages

    def tokens(question: str) -> int:
        messages = prepare_multimodal_messages(maker.messages(question), images=[None])
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return len(cast("Any", processor).tokenizer(text)["input_ids"])

    return max(map(tokens, questions)) + image_tokens - min(1, image_tokens)


def model_length(prompt: int, completion: int) -> int:
    """Tokens that vLLM must hold for one rollout, in whole blocks of its cache."""
    return -(-(prompt + completion) // _BLOCK_TOKENS) * _BLOCK_TOKENS
