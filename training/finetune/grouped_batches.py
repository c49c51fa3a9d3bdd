# SPDX-License-Identifier: Apache-2.0
"""GRPO whose forward passes share what the rollouts of a question share, and that can be watched.

TRL shuffles the rollouts of a step before it cuts them into micro-batches. All of them belong to
one optimiser step, whose gradient is their sum in any order; in the order of their questions, a
micro-batch has few images, each of which goes through the image encoder once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from trl import GRPOTrainer
from trl.trainer.utils import (
    split_pixel_values_by_grid,
    split_tensor_dict,
    unsplit_pixel_values_by_grid,
)

from medreasoner_training.finetune.shared_prompts import asked_of, branches_of, model_inputs
from medreasoner_training.rewards.trl_functions import completion_text


@dataclass(frozen=True, eq=False)
class Rollouts:
    """What this process's questions were answered, and what the answers earned.

    Each sequence has one item for each rollout; those of a question stand together.

    Attributes:
        step: optimiser steps that the stage has done.
        rows: what was asked, with the columns that ``RowMaker`` makes.
        completions: as the model wrote them.
        terms: each reward by its name, weights included; ``None`` where it does not score.
        advantages: what the rollout is learnt by.
        cut_off: whether it was ended at the longest length.
    """

    step: int
    rows: Sequence[Mapping[str, Any]]
    completions: Sequence[str]
    terms: Sequence[Mapping[str, float | None]]
    advantages: Sequence[float]
    cut_off: Sequence[bool]


class GroupedGRPOTrainer(GRPOTrainer):
    """TRL's trainer without its shuffling within a step; ``on_rollouts`` is told what was made."""

    on_rollouts: Callable[[Rollouts], None] | None = None
    shares_prompts = False

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The micro-batch whose turn it is, of rollouts that are made when a step begins."""
        mine = cast("Any", self)  # TRL declares few of its own attributes
        if not mine.model.training:
            return super()._prepare_inputs(generation_batch)
        passes = mine.args.steps_per_generation
        if mine._buffered_inputs is None or mine._step % (passes * mine.num_iterations) == 0:
            made: Any = mine._generate_and_score_completions(generation_batch)
            if self.on_rollouts is not None:
                self.on_rollouts(self._told(generation_batch, made))
            by_image: Any = split_pixel_values_by_grid(made)
            parts: list[Any] = split_tensor_dict(by_image, passes)
            mine._buffered_inputs = [unsplit_pixel_values_by_grid(part) for part in parts]
        return mine._buffered_inputs[mine._step % passes]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **image: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """As TRL's, (B, C); where rollouts share their prompt and image, it is read once."""
        plain = partial(
            super()._get_per_token_logps_and_entropies,
            model, input_ids, attention_mask, logits_to_keep,
            batch_size, compute_entropy, compute_aux_loss,
        )  # fmt: skip
        given = {name: value for name, value in image.items() if value is not None}
        one_pass = batch_size is None or batch_size >= len(input_ids)
        if not (self.shares_prompts and one_pass and _has_an_image_each(given, len(input_ids))):
            return cast("Any", plain(**image))
        mine = cast("Any", self)
        whole = mine.accelerator.unwrap_model(model)
        width = whole.config.get_text_config().hidden_size
        prompts = input_ids[:, :-logits_to_keep]
        asked = asked_of(prompts, given["pixel_values"], given["image_grid_thw"])
        branches = branches_of(asked, prompts.shape[1], logits_to_keep, width)
        if branches is None or compute_aux_loss:
            return cast("Any", plain(**image))
        owner = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
        inputs = model_inputs(owner.model, branches, input_ids, attention_mask, given)
        with mine.accelerator.autocast():
            outputs = model(**inputs, fused_lm_head=True)
        entropy = branches.apart(outputs.entropy) if compute_entropy else None
        return branches.apart(outputs.log_probs), entropy, None

    def _told(
        self, rows: Sequence[Mapping[str, Any]], made: Mapping[str, torch.Tensor]
    ) -> Rollouts:
        """TRL's own log holds the newest generation of all processes, in their order."""
        mine = cast("Any", self)
        first = mine.accelerator.process_index * len(rows)
        place = slice(first, first + len(rows))
        rewards = {name: list(found)[place] for name, found in mine._logs["rewards"].items()}
        scored = zip(*rewards.values(), strict=True)
        terms = [dict(zip(rewards, map(_known, values), strict=True)) for values in scored]
        completions = map(completion_text, list(mine._logs["completion"])[place])
        return Rollouts(
            mine.state.global_step,
            rows,
            tuple(completions),
            terms,
            made["advantages"].tolist(),
            _cut_off(made, [*mine.eos_token_ids, mine._tokenizer.pad_token_id]),
        )


def _has_an_image_each(given: Mapping[str, Any], count: int) -> bool:
    """Whether a batch is what Qwen's processors make of questions with one image."""
    known = {"pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids"}
    return set(given) == known and list(given["num_images"]) == [1] * count


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cut_off(made: Mapping[str, torch.Tensor], ends: Sequence[int]) -> list[bool]:
    """Rollouts whose last token ends nothing, or that TRL masked for that reason."""
    lengths = made["completion_mask"].sum(dim=1).tolist()
    written = zip(made["completion_ids"].tolist(), lengths, strict=True)
    return [not length or ids[length - 1] not in ends for ids, length in written]
