# SPDX-License-Identifier: Apache-2.0
"""The rollouts of a question go through the language model behind one copy of their prompt.

The usual forward pass reads prompt and image again for each rollout. Here a row holds the prompt
once and behind it several rollouts, the branches, that see the prompt and themselves but not each
other, at the positions that they would have alone. Keys and values of the prompt are then computed
once and their gradients add up, so that the time of a pass changes and nothing else.

A branch begins with the prompt's last token, which predicts the rollout's first one, and ends with
the rollout's last but one. Token ids are (B, P + C): prompts, padded on the left, and completions
of C tokens, padded on the right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from medreasoner_training.finetune.shared_images import distinct_images

_IGNORED = -100  # torch's label of what is not learnt


@dataclass(frozen=True, eq=False)
class Branches:
    """How the rollouts of a batch are laid out: ``each`` of them behind one prompt.

    Attributes:
        each: rollouts in a row; it divides every run of equal prompts.
        completion_tokens: C.
    """

    each: int
    completion_tokens: int

    def joined(self, tokens: torch.Tensor) -> torch.Tensor:
        """Rows (R, P - 1 + each C) of what belongs to the tokens (B, P + C) that are read."""
        start = tokens.shape[1] - self.completion_tokens - 1
        branches = tokens[:, start:-1].reshape(-1, self.each * self.completion_tokens)
        return torch.cat([tokens[:: self.each, :start], branches], dim=1)

    def labels(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """What each place of the rows predicts; nothing within the prompt and for padding."""
        wanted = input_ids.masked_fill(attention_mask == 0, _IGNORED)[:, -self.completion_tokens :]
        behind = wanted.reshape(-1, self.each * self.completion_tokens)
        prompt = input_ids.shape[1] - self.completion_tokens - 1
        return torch.nn.functional.pad(behind, (prompt, 0), value=_IGNORED)

    def seen(self, attention_mask: torch.Tensor) -> torch.Tensor:
        """Which place sees which, bool (R, 1, L, L); padding sees itself, as softmax needs one."""
        is_token = self.joined(attention_mask).bool()
        place = torch.arange(is_token.shape[1], device=is_token.device)
        prompt = is_token.shape[1] - self.each * self.completion_tokens
        branch = torch.where(place < prompt, -1, (place - prompt) // self.completion_tokens)
        related = (branch[None] == branch[:, None]) | (branch[None] < 0)
        before = (place[None] <= place[:, None]) & related
        itself = place[None] == place[:, None]
        return ((before & is_token[:, None]) | itself)[:, None]

    def apart(self, values: torch.Tensor) -> torch.Tensor:
        """What the rows (R, L) hold for each token of the completions (B, C)."""
        behind = values[:, -self.each * self.completion_tokens :]
        return behind.reshape(-1, self.completion_tokens)


def asked_of(
    prompt_ids: torch.Tensor, patches: torch.Tensor, grid: torch.Tensor
) -> list[tuple[int, ...]]:
    """What each rollout was asked: equal for the same prompt about the same image only.

    Args:
        prompt_ids: (B, P).
        patches: (N, D) of all images, one a rollout.
        grid: (B, 3) of each.
    """
    _, pictures = distinct_images(patches.split(grid.prod(-1).tolist()))
    prompts = prompt_ids.tolist()
    return [(picture, *ids) for picture, ids in zip(pictures, prompts, strict=True)]


def branches_of(
    asked: Sequence[tuple[int, ...]], prompt_tokens: int, completion_tokens: int, width: int
) -> Branches | None:
    """How to lay out a batch, or ``None`` where nothing is gained by sharing prompts.

    More branches in a row read the prompt less often, but attention grows with a row's square. The
    number is chosen by the multiplications of a layer: about 12 ``width``² for each token, and
    2 ``width`` for each pair of a row's places.

    Args:
        asked: of :func:`asked_of`; equal ones stand together.
        prompt_tokens: P.
        completion_tokens: C.
        width: of the language model's hidden states.
    """
    most = math.gcd(*(len(list(run)) for _, run in groupby(asked)))

    def cost(each: int) -> float:
        length = prompt_tokens + each * completion_tokens
        return (6 * width * length + length**2) / each

    each = min((n for n in range(1, most + 1) if most % n == 0), key=cost)
    return Branches(each, completion_tokens) if each > 1 else None


def first_images(
    patches: torch.Tensor, grid: torch.Tensor, each: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (P, D) and grids (R, 3) of every ``each``-th of the images (B, 3), one in a row."""
    images = patches.split(grid.prod(-1).tolist())
    return torch.cat(images[::each]), grid[::each]


def model_inputs(
    model: Any,
    branches: Branches,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    image: dict[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """What a Qwen-VL with TRL's fused head is called with.

    Args:
        model: it tells the positions that each token has in the usual pass.
        branches: the layout.
        input_ids: (B, P + C).
        attention_mask: likewise, 0 for padding.
        image: ``pixel_values``, ``image_grid_thw`` and ``mm_token_type_ids`` of the usual pass.
    """
    positions, _ = model.get_rope_index(
        input_ids,
        mm_token_type_ids=image["mm_token_type_ids"],
        image_grid_thw=image["image_grid_thw"],
        attention_mask=attention_mask,
    )
    patches, grid = first_images(image["pixel_values"], image["image_grid_thw"], branches.each)
    return {
        "input_ids": branches.joined(input_ids),
        "attention_mask": branches.seen(attention_mask),
        "position_ids": torch.stack([branches.joined(axis) for axis in positions]),
        "pixel_values": patches,
        "image_grid_thw": grid,
        "shift_labels": branches.labels(input_ids, attention_mask),
    }
