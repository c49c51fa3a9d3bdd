# SPDX-License-Identifier: Apache-2.0
"""What transformers' ``generate`` is given: logits processor, stopping criterion, streamer."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria, TextStreamer
from transformers.generation.streamers import BaseStreamer

from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.hooks import Cancelled, OnText

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
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


class StopRows(StoppingCriteria):
    """Ends the generation at the next token once every row has ended or was left by its caller.

    A row that was left alone is written on meanwhile: the grammar takes no row that ends early.

    Args:
        cancelled: by row.
        stop_token_ids: end a row.
        between: called before each look.

    Attributes:
        left: by row, whether its caller has cancelled.
    """

    def __init__(
        self,
        cancelled: Sequence[Cancelled],
        stop_token_ids: Sequence[int],
        between: Callable[[], object] | None,
    ) -> None:
        self._cancelled = cancelled
        self._stop_token_ids = stop_token_ids
        self._between = between
        self._ended = [False] * len(cancelled)
        self.left = [False] * len(cancelled)

    def __call__(self, input_ids: torch.Tensor, scores: object, **kwargs: object) -> torch.Tensor:
        """Bool of shape (rows,): all rows stop together."""
        if self._between is not None:
            self._between()
        for row, (cancelled, token) in enumerate(
            zip(self._cancelled, input_ids[:, -1].tolist(), strict=True)
        ):
            self._ended[row] = self._ended[row] or token in self._stop_token_ids
            self.left[row] = self.left[row] or (not self._ended[row] and cancelled())
        all_done = all(map(operator.or_, self._ended, self.left))
        return torch.full((input_ids.shape[0],), all_done, device=input_ids.device)


class RowStreamer(TextStreamer):
    """Hands one row's text, the first one's if not said, to a callback, at word boundaries."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: OnText, row: int = 0) -> None:
        super().__init__(
            tokenizer,
            skip_prompt=True,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        self._on_text = on_text
        self._row = row

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (rows, length) or the next token of each row (rows,)."""
        TextStreamer.put(self, value[self._row : self._row + 1])

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Pass on what will not change any more."""
        if text:
            self._on_text(text)


class RowsStreamer(BaseStreamer):
    """Hands the rows' texts to a callback each, and notes what a callback raised of ours.

    Args:
        rows: by number, a streamer of those whose text is wanted.
        left: by row, whether its text is wanted no more.
        stop_token_ids: end a row; the others may still be written.
    """

    def __init__(
        self,
        rows: Mapping[int, RowStreamer],
        left: Sequence[bool],
        stop_token_ids: Sequence[int],
    ) -> None:
        self._rows = dict(rows)
        self._left = left
        self._stop_token_ids = stop_token_ids
        self._is_prompt = True
        self.faults: dict[int, MedReasonerError] = {}

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (rows, length) or the next token of each row (rows,)."""
        tokens = [] if self._is_prompt else value.tolist()
        self._is_prompt = False
        for row, streamer in list(self._rows.items()):
            if self._left[row]:
                del self._rows[row]
                continue
            self._tell(row, partial(streamer.put, value))
            if tokens and tokens[row] in self._stop_token_ids:
                self._end(row)

    def end(self) -> None:
        """Nothing follows."""
        for row in list(self._rows):
            self._end(row)

    def _end(self, row: int) -> None:
        streamer = self._rows.pop(row, None)
        if streamer is not None and not self._left[row]:
            self._tell(row, streamer.end)

    def _tell(self, row: int, tell: Callable[[], None]) -> None:
        try:
            tell()
        except MedReasonerError as error:
            self.faults[row] = error
            self._rows.pop(row, None)


def decoding_of(
    model: PreTrainedModel, max_new_tokens: int, temperature: float
) -> GenerationConfig:
    """The model's own stops, greedy at temperature 0, else sampling from the whole distribution."""
    shared = model.generation_config.to_dict() | {
        "max_new_tokens": max_new_tokens,
        "do_sample": temperature > 0,
    }
    if temperature > 0:
        shared |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(**shared)


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
