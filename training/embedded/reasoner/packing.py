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
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from medreasoner_infer.reasoners.image_encoding import prepare_image

from ..phantom.anatomy import Label
from ..queries import known_targets
from .losses import SUBCELLS
from .modelling import IMAGE_ENCODING, INTEGERS, chat, integer_token_ids
from .reasonings import PRESENCE_WORDS
from .samples import Asked, AskedSample, Question, Sample

#: Token ids of a question and of its answer.
Branch = tuple[list[int], list[int]]

IGNORED = -100
TEXT_WEIGHT, COORDINATE_WEIGHT = 0.5, 2.0
STATED_WEIGHT = 2.0
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
    points in reasoner px and ``asked`` (B, C) says which targets have them; ``perceived`` (B,)
    which images have a complete label map.
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
    perceived: torch.Tensor


@dataclass(frozen=True)
class WordBatch:
    """Tensors of B rows of questions without images, as in :class:`PackedBatch`."""

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    attention: torch.Tensor
    weights: torch.Tensor


class Packer:
    """Turns samples into packed batches for one model and processor.

    Args:
        model: whose positions are used.
        processor: its tokenizer and image processor.
        dropout: of the merges of a question's tokens in half of the questions that are packed
            (BPE-dropout, Provilkov et al. 2020), so that words are also known by their parts.
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        processor: Qwen2_5_VLProcessor,
        dropout: float = 0.0,
    ) -> None:
        self._split_apart = _with_dropout(processor.tokenizer, dropout)
        self._rng = np.random.default_rng(0)
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

    def pack(self, samples: Sequence[Sample | AskedSample]) -> PackedBatch:
        """Pack samples: a row of branches for each image."""
        rows = [sample.questions for sample in samples]
        ids, labels, segment, positions = self._lay_out(rows, self.prefix)
        is_coordinate = self._coordinates(ids, labels)
        weights = self._weights(ids, labels, is_coordinate)
        self._weigh_statements(weights, labels, segment, rows)
        return PackedBatch(
            ids,
            labels,
            positions,
            _attention(segment),
            is_coordinate,
            weights,
            self.pixels([sample.image.grey for sample in samples]),
            self.grids(len(samples)),
            self._occupancy(samples),
            *_boxes(samples),
            torch.tensor([sample.is_torso for sample in samples]),
        )

    def pack_words(self, rows: Sequence[Sequence[Asked]]) -> WordBatch:
        """Pack rows of questions that stand without an image, at the places behind one."""
        ids, labels, segment, positions = self._lay_out(rows, [])
        weights = torch.full(labels.shape, TEXT_WEIGHT)
        self._weigh_statements(weights, labels, segment, rows)
        return WordBatch(ids, labels, positions, _attention(segment), weights)

    def _branch(self, asked: Question | Asked) -> Branch:
        if isinstance(asked, Question):
            return self._question(asked.query), self._answer(asked.completion)
        question = self._encode(asked.query)  # not kept: there is no end of them
        if self._split_apart is not None and self._rng.random() < 0.5:
            question = self._split_apart.encode(asked.query).ids
        answer = self._answer if asked.whole else self._encode
        return question + self.suffix, answer(asked.completion)

    def _lay_out(
        self, rows: Sequence[Sequence[Question | Asked]], prefix: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids, labels and branch numbers (0 in the prefix, -1 behind the last), each (B, L),
        and positions (3, B, L).

        The branches of a row lie end to end, each from the prefix's last position on.
        """
        start = len(prefix)
        branches = [[self._branch(asked) for asked in row] for row in rows]
        lengths = [sum(len(q) + len(a) for q, a in branch) for branch in branches]
        shape = len(branches), start + max(lengths)
        ids = torch.full(shape, self.tokenizer.pad_token_id)
        labels = torch.full(shape, IGNORED)
        segment = torch.full(shape, -1)
        positions = torch.zeros(3, *shape, dtype=torch.long)
        following = int(self._prefix_positions.max()) + 1
        if prefix:
            ids[:, :start], segment[:, :start] = torch.tensor(prefix), 0
            positions[:, :, :start] = self._prefix_positions[:, None]
        for row, branch in enumerate(branches):
            begin = start
            for k, (question, answer) in enumerate(branch):
                middle = begin + len(question)
                end = middle + len(answer)
                ids[row, begin:end] = torch.tensor(question + answer)
                labels[row, middle:end] = torch.tensor(answer)
                segment[row, begin:end] = k + 1
                positions[:, row, begin:end] = following + torch.arange(end - begin)
                begin = end
        return ids, labels, segment, positions

    def _weigh_statements(
        self,
        weights: torch.Tensor,
        labels: torch.Tensor,
        segment: torch.Tensor,
        rows: Sequence[Sequence[Question | Asked]],
    ) -> None:
        """What the question alone decides is one name among dozens."""
        for row, questions in enumerate(rows):
            for number, asked in enumerate(questions, start=1):
                if isinstance(asked, Asked):
                    answer = (segment[row] == number) & (labels[row] != IGNORED)
                    places = answer.nonzero()[:, 0]
                    weights[row, places[: len(self._encode(asked.stated))]] = STATED_WEIGHT

    def _answer(self, completion: str) -> list[int]:
        return [*self._encode(completion), self.tokenizer.eos_token_id]

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

    def _occupancy(self, samples: Sequence[Sample | AskedSample]) -> torch.Tensor:
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


def _with_dropout(tokenizer: PreTrainedTokenizerFast, dropout: float) -> Tokenizer | None:
    if not dropout:
        return None
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.model.dropout = dropout
    return copy


def _attention(segment: torch.Tensor) -> torch.Tensor:
    """Causal mask in which a branch sees the prefix (segment 0) and itself."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()[None]
    same = segment[:, None, :] == segment[:, :, None]
    return (causal & ((segment[:, None, :] == 0) | same))[:, None]


def _boxes(samples: Sequence[Sample | AskedSample]) -> tuple[torch.Tensor, torch.Tensor]:
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
