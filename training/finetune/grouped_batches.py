# SPDX-License-Identifier: Apache-2.0
"""GRPO whose forward passes keep the rollouts of a question together.

TRL shuffles the rollouts of a step before it cuts them into micro-batches. All of them belong to
one optimiser step, whose gradient is their sum in any order; in the order of their questions, a
micro-batch has few images, each of which goes through the image encoder once.
"""

from __future__ import annotations

from typing import Any, cast

from trl import GRPOTrainer
from trl.trainer.utils import (
    split_pixel_values_by_grid,
    split_tensor_dict,
    unsplit_pixel_values_by_grid,
)


class GroupedGRPOTrainer(GRPOTrainer):
    """TRL's trainer without its shuffling within a step."""

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """The micro-batch whose turn it is, of rollouts that are made when a step begins."""
        mine = cast("Any", self)  # TRL declares few of its own attributes
        if not mine.model.training:
            return super()._prepare_inputs(generation_batch)
        passes = mine.args.steps_per_generation
        if mine._buffered_inputs is None or mine._step % (passes * mine.num_iterations) == 0:
            made: Any = mine._generate_and_score_completions(generation_batch)
            by_image: Any = split_pixel_values_by_grid(made)
            parts: list[Any] = split_tensor_dict(by_image, passes)
            mine._buffered_inputs = [unsplit_pixel_values_by_grid(part) for part in parts]
        return mine._buffered_inputs[mine._step % passes]
