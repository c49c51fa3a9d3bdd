# SPDX-License-Identifier: Apache-2.0
"""Shared-prefix packing: one image is encoded once for several questions about it.

A sequence is ``prefix | branch 1 | branch 2 | ...`` where the prefix holds the system prompt and
the image tokens, and a branch holds one question and its answer. Each branch sees the prefix and
itself only and continues the prefix's M-RoPE positions, so that every branch is computed exactly as
if it stood alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from medreasoner_infer.reasoners.image_encoding import prepare_image

from ..phantom.anatomy import Label
from .losses import SUBCELLS
from .modelling import IMAGE_ENCODING, INTEGERS, chat, integer_token_ids
from .queries import known_targets
from .reasonings import PRESENCE_WORDS
from .samples import Sample

#: Token ids of a question and of its answer.
Branch = tuple[list[int], list[int]]

IGNORED = -100
TEXT_WEIGHT, COORDINATE_WEIGHT = 0.5, 2.0
PRESENT_WEIGHT, ABSENT_WEIGHT = 4.0, 10.0
"""Weights of tokens in the loss; one token says whether the target is on the slice, and absent
targets are asked for less often."""


@dataclass(frozen=True)
class PackedBatch:
    """Tensors of a batch of B images with L packed tokens each.

    ``input_ids`` and ``labels`` are (B, L), ``position_ids`` (3, B, L), ``attention`` bool
    (B, 1, L, L), ``is_coordinate`` (B, L) marks labels that are coordinates, ``weights`` (B, L) are
    the labels' weights in the loss, ``pixel_values`` holds
    the patches of all images and ``grid_thw`` (B, 3) their layout. For the auxiliary loss with T
    visual tokens and C targets: ``occupancy`` (B, T, SUBCELLS ** 2, 1 + C) is the share of the
    background and of each target in each part of a token's cell, ``boxes`` (B, C, 8) box and key
    points in reasoner px and ``asked`` (B, C) says which targets have them.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    attention: torch.Tensor
    is_coordinate: torch.Tensor
    weights: torch.Tensor
    pixel_values: torch.Tensor
    grid_thw: torch.Tensor
    occupancy: torch.Tensor
    boxes: torch.Tensor
    asked: torch.Tensor


class Packer:
    """Turns samples into packed batches for one model and processor."""

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor
    ) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.integer_ids = torch.tensor(integer_token_ids(self.tokenizer))
        self._underscore = self._encode("_")[0]
        self._comma = self._encode(",")[0]
        self._presence = [self._encode(word)[0] for word in PRESENCE_WORDS]
        self._encoded: dict[str, list[int]] = {}
        image = processor.image_processor
        self.grid = round(image.size["shortest_edge"] ** 0.5) // image.patch_size
        self._grid_thw = torch.tensor([[1, self.grid, self.grid]])
        image_tokens = (self.grid // image.merge_size) ** 2
        template = processor.apply_chat_template(chat("@@"), add_generation_prompt=True)
        head, tail = template.split("@@")
        head = head.replace("<|image_pad|>", "<|image_pad|>" * image_tokens)
        self.prefix, self.suffix = self._encode(head), self._encode(tail)
        prefix = torch.tensor([self.prefix])
        is_image = (prefix == model.config.image_token_id).int()
        positions, _ = model.model.get_rope_index(prefix, is_image, self._grid_thw)
        self._prefix_positions = positions[:, 0]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _question(self, query: str) -> list[int]:
        if query not in self._encoded:
            self._encoded[query] = self._encode(query) + self.suffix
        return self._encoded[query]

    def prompt(self, query: str) -> list[int]:
        """Token ids of the whole prompt of one question."""
        return self.prefix + self._question(query)

    def pixels(self, greys: Sequence[np.ndarray]) -> torch.Tensor:
        """Patches of letterboxed grey images, as the processor makes them."""
        images = [prepare_image(grey, IMAGE_ENCODING) for grey in greys]
        return self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]

    def grids(self, count: int) -> torch.Tensor:
        """``image_grid_thw`` of ``count`` images."""
        return self._grid_thw.repeat(count, 1)

    def pack(self, samples: Sequence[Sample]) -> PackedBatch:
        """Pack samples that have equally many questions: a row of branches for each image."""
        branches = [
            [(self._question(q.query), self._answer(q.completion)) for q in sample.questions]
            for sample in samples
        ]
        count = len(samples[0].questions)
        width = max(len(q) + len(a) for branch in branches for q, a in branch)
        ids, labels, segment = self._lay_out(branches, count, width)
        is_coordinate = self._coordinates(ids, labels)
        return PackedBatch(
            ids,
            labels,
            self._positions(count, width, len(samples)),
            _attention(segment),
            is_coordinate,
            self._weights(ids, labels, is_coordinate),
            self.pixels([sample.image.grey for sample in samples]),
            self.grids(len(samples)),
            self._occupancy(samples),
            *_boxes(samples),
        )

    def _lay_out(
        self, branches: Sequence[Sequence[Branch]], count: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids, labels and branch numbers (0 in the prefix), each (B, L).

        Each of the ``count`` branches takes ``width`` places behind the prefix, padded at its end.
        """
        start = len(self.prefix)
        shape = len(branches), start + count * width
        ids = torch.full(shape, self.tokenizer.pad_token_id)
        labels = torch.full(shape, IGNORED)
        segment = torch.zeros(shape, dtype=torch.long)
        ids[:, :start] = torch.tensor(self.prefix)
        for row, branch in enumerate(branches):
            for k, (question, answer) in enumerate(branch):
                begin = start + k * width
                middle, end = begin + len(question), begin + len(question) + len(answer)
                ids[row, begin:end] = torch.tensor(question + answer)
                labels[row, middle:end] = torch.tensor(answer)
                segment[row, begin : begin + width] = k + 1
        return ids, labels, segment

    def _answer(self, completion: str) -> list[int]:
        return [*self._encode(completion), self.tokenizer.eos_token_id]

    def _positions(self, count: int, width: int, rows: int) -> torch.Tensor:
        following = int(self._prefix_positions.max()) + 1
        branch = (following + torch.arange(width))[None].expand(3, -1)
        positions = torch.cat([self._prefix_positions] + [branch] * count, 1)
        return positions[:, None].expand(3, rows, -1)

    def _coordinates(self, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Integer tokens except the 1 and 2 of ``points_1`` and ``points_2``."""
        is_integer = torch.isin(labels, self.integer_ids)
        after_underscore = torch.zeros_like(is_integer)
        after_underscore[:, 1:] = ids[:, :-1] == self._underscore
        return is_integer & ~after_underscore

    def _weights(
        self, ids: torch.Tensor, labels: torch.Tensor, is_coordinate: torch.Tensor
    ) -> torch.Tensor:
        weights = torch.where(is_coordinate, COORDINATE_WEIGHT, TEXT_WEIGHT)
        after_comma = torch.zeros_like(is_coordinate)
        after_comma[:, 1:] = ids[:, :-1] == self._comma
        for token, weight in zip(self._presence, (PRESENT_WEIGHT, ABSENT_WEIGHT), strict=True):
            weights[(labels == token) & after_comma] = weight
        return weights

    def _occupancy(self, samples: Sequence[Sample]) -> torch.Tensor:
        labels = torch.from_numpy(np.stack([s.image.labels for s in samples]).astype(np.int64))
        column = torch.zeros(len(Label), dtype=torch.long)
        column[list(known_targets())] = torch.arange(1, len(known_targets()) + 1)
        onehot = F.one_hot(column[labels], len(known_targets()) + 1).float()
        cells = self.grid // self.processor.image_processor.merge_size
        step = labels.shape[1] // (cells * SUBCELLS)
        axis = cells, SUBCELLS, step
        onehot = onehot.view(len(samples), *axis, *axis, -1).mean((3, 6))
        return onehot.permute(0, 1, 3, 2, 4, 5).reshape(len(samples), cells**2, SUBCELLS**2, -1)

    def integer_values(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Value of each integer token; other tokens give -1."""
        table = torch.full((len(self.tokenizer),), -1)
        table[self.integer_ids] = torch.arange(INTEGERS)
        return table[token_ids]


def _attention(segment: torch.Tensor) -> torch.Tensor:
    """Causal mask in which a branch sees the prefix (segment 0) and itself."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None]
    same = segment[:, None, :] == segment[:, :, None]
    return (causal & ((segment[:, None, :] == 0) | same))[:, None]


def _boxes(samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """Box and key points (B, C, 8) and which targets have them (B, C)."""
    boxes = torch.zeros(len(samples), len(known_targets()), 8)
    asked = torch.zeros(len(samples), len(known_targets()), dtype=torch.bool)
    for row, sample in enumerate(samples):
        for column, label in enumerate(known_targets()):
            truth = sample.truths.get(label)
            if truth is not None:
                first, second = truth.points_xy_px
                boxes[row, column] = torch.tensor([*truth.bbox_xyxy_px, *first, *second])
                asked[row, column] = True
    return boxes, asked
