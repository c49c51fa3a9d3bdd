# SPDX-License-Identifier: Apache-2.0
"""What transformers' ``generate`` is given: logits processor, stopping criterion, streamer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor, StoppingCriteria, TextStreamer

from medreasoner_infer.hooks import Cancelled, OnText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from xgrammar import CompiledGrammar

    from medreasoner_infer.reasoners.transformers_loading import LoadedModel


class TokenLogprobs(LogitsProcessor):
    """Records the log probability of every chosen token before any constraint.

    It must be the first processor. ``generate`` could return all logits instead, but they are
    overwritten in place by the grammar, and a step of a large vocabulary weighs 0.6 MB.
    """

    def __init__(self) -> None:
        self._columns: list[torch.Tensor] = []
        self._current: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Record the last step's choice, and return ``scores`` as they are."""
        self._take_choice(input_ids[:, -1])
        self._current = torch.log_softmax(scores.float(), dim=-1)
        return scores

    def finish(self, last_tokens: torch.Tensor) -> torch.Tensor:
        """Float of shape (rows, steps), once ``last_tokens`` (rows,), the last choice, is known."""
        self._take_choice(last_tokens)
        self._current = None
        return torch.stack(self._columns, dim=1)

    def _take_choice(self, tokens: torch.Tensor) -> None:
        if self._current is not None:
            self._columns.append(self._current.gather(1, tokens[:, None])[:, 0])


class StopWhenCancelled(StoppingCriteria):
    """Ends the generation at the next token once the caller has cancelled."""

    def __init__(self, cancelled: Cancelled) -> None:
        self._cancelled = cancelled
        self.fired = False

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        """Bool of shape (rows,): all rows stop together."""
        self.fired = self.fired or self._cancelled()
        return torch.full((input_ids.shape[0],), self.fired, device=input_ids.device)


class FirstRowStreamer(TextStreamer):
    """Hands the first row's text to a callback, at word boundaries."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: OnText) -> None:
        super().__init__(
            tokenizer,
            skip_prompt=True,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        self._on_text = on_text

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (rows, length) or the next token of each row (rows,)."""
        TextStreamer.put(self, value[:1])

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Pass on what will not change any more."""
        if text:
            self._on_text(text)


def compile_answer_grammar(loaded: LoadedModel, regex: str) -> CompiledGrammar:
    """The regular expression over the model's own tokens."""
    import xgrammar

    info = xgrammar.TokenizerInfo.from_huggingface(
        loaded.processor.tokenizer,
        vocab_size=loaded.vocabulary_size,
        stop_token_ids=list(loaded.stop_token_ids),
    )
    return xgrammar.GrammarCompiler(info).compile_regex(regex)


@contextmanager
def own_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside the block; the caller's random state is as before afterwards."""
    # torch.manual_seed seeds every CUDA device, so all of them are restored.
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    with torch.random.fork_rng(devices=range(count)):
        torch.manual_seed(seed)
        yield
