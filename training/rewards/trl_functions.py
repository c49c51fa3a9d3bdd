# SPDX-License-Identifier: Apache-2.0
"""The terms as reward functions of TRL's ``GRPOTrainer(reward_funcs=…)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from medreasoner_training.rewards.config import RewardConfig
from medreasoner_training.rewards.errors import CompletionTypeError, RewardConfigError
from medreasoner_training.rewards.ground_truth import Truth, read_truth
from medreasoner_training.rewards.scoring import weighted_terms

Completion = str | Sequence[Mapping[str, Any]]


class RewardFunction(Protocol):
    """What TRL calls: one value for each completion, under ``rewards/<__name__>`` in its logs."""

    __name__: str

    def __call__(self, completions: Sequence[Completion], **columns: object) -> list[float | None]:
        """Score a batch; ``None`` leaves a completion out of this reward's mean."""
        ...


def make_reward_functions(config: RewardConfig | None = None) -> list[RewardFunction]:
    """One reward function for each selected term, named like the term.

    The values carry the configuration's weights already, so that their sum is the reward; leave
    ``GRPOConfig.reward_weights`` unset. Each function takes ``completions``, plain or
    conversational, and the data set's columns as keywords, of which it reads
    ``config.ground_truth_column``. TRL calls them in turn with the same batch: all terms are scored
    at the first call, and the others read theirs from it.

    Args:
        config: *soft* mode with unit weights if not given.

    Examples:
        >>> functions = make_reward_functions(RewardConfig(weights={"bbox_iou": 2.0}))
        >>> [function.__name__ for function in functions]
        ['format_think', 'format_seg', 'bbox_iou', 'points_dice']
        >>> functions[2](["<think>Not seen.</think><answer>null</answer>"], ground_truth=[None])
        [1.0114]
    """
    config = config or RewardConfig()
    batches = _NewestBatch(config)
    column = config.ground_truth_column
    return [_term_function(term, column, batches) for term in config.selected_terms]


class _NewestBatch:
    """The scores of the batch that was asked for last, which one trainer's functions share.

    A batch is told by its texts and truths, not by the identity of the lists that hold them.
    """

    def __init__(self, config: RewardConfig) -> None:
        self._config = config
        self._newest: tuple[object, list[dict[str, float | None]]] = (None, [])

    def scores(
        self, completions: Sequence[Completion], truths: Sequence[Any]
    ) -> list[dict[str, float | None]]:
        """Each completion's terms, weights included."""
        texts = [each if type(each) is str else completion_text(each) for each in completions]
        given = [
            truth if truth is None or isinstance(truth, str) else read_truth(truth)
            for truth in truths
        ]
        batch, scores = self._newest
        if batch != (texts, given):
            scores = self._score(texts, given)
            self._newest = ((texts, given), scores)
        return scores

    def _score(
        self, texts: list[str], given: list[str | Truth | None]
    ) -> list[dict[str, float | None]]:
        """A group's rollouts share their truth, which is read once."""
        read = {
            truth: truth if isinstance(truth, Truth) else read_truth(truth) for truth in set(given)
        }
        return [
            weighted_terms(text, read[truth], self._config)
            for text, truth in zip(texts, given, strict=True)
        ]


def _term_function(term: str, column: str, batches: _NewestBatch) -> RewardFunction:
    def term_reward(completions: Sequence[Completion], **columns: object) -> list[float | None]:
        truths = take_column(columns, column)
        return [terms[term] for terms in batches.scores(completions, truths)]

    term_reward.__name__ = term_reward.__qualname__ = term
    return term_reward


def completion_text(completion: Completion) -> str:
    """The generated text: the completion itself, or the content of its last chat message.

    Raises:
        CompletionTypeError: it is neither.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence):
        raise CompletionTypeError(
            f"A completion is a {type(completion).__name__}; expected text or chat messages."
        )
    messages = cast("Sequence[Mapping[str, Any]]", completion)
    if not messages:
        return ""
    content = messages[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def take_column(columns: Mapping[str, object], name: str) -> Sequence[Any]:
    """The data set's column ``name``, one item for each completion.

    Raises:
        RewardConfigError: the data set has no such column.
    """
    if name not in columns:
        raise RewardConfigError(
            f"The data set has no column {name!r} among {sorted(columns)}; add it, or name another "
            "one in the reward's configuration."
        )
    return cast("Sequence[Any]", columns[name])
