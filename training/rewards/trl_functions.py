# SPDX-License-Identifier: Apache-2.0
"""The terms as reward functions of TRL's ``GRPOTrainer(reward_funcs=…)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from medreasoner_training.rewards.config import RewardConfig
from medreasoner_training.rewards.errors import CompletionTypeError, RewardConfigError
from medreasoner_training.rewards.scoring import score

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
    ``config.ground_truth_column``.

    Args:
        config: *soft* mode with unit weights if not given.

    Examples:
        >>> functions = make_reward_functions(RewardConfig(weights={"bbox_iou": 2.0}))
        >>> [function.__name__ for function in functions]
        ['format_think', 'format_seg', 'bbox_iou', 'points_dice']
        >>> functions[2](["<think>Not seen.</think><answer>null</answer>"], ground_truth=[None])
        [2.0]
    """
    config = config or RewardConfig()
    return [_term_function(term, config) for term in config.selected_terms]


def _term_function(term: str, config: RewardConfig) -> RewardFunction:
    mode, weight = config.mode_of(term), config.weight_of(term)

    def term_reward(completions: Sequence[Completion], **columns: object) -> list[float | None]:
        truths = take_column(columns, config.ground_truth_column)
        values = [
            score(completion_text(completion), truth, mode, config.as_released)[term]
            for completion, truth in zip(completions, truths, strict=True)
        ]
        return [None if value is None else weight * value for value in values]

    term_reward.__name__ = term_reward.__qualname__ = term
    return term_reward


def completion_text(completion: Completion) -> str:
    """The generated text: the completion itself, or the content of its last chat message.

    Raises:
        CompletionTypeError: it is neither.
    """
    if not isinstance(completion, Sequence):
        raise CompletionTypeError(
            f"A completion is a {type(completion).__name__}; expected text or chat messages."
        )
    if isinstance(completion, str):
        return completion
    if not completion:
        return ""
    content = completion[-1]["content"]
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
