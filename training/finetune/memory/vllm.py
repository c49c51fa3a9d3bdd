# SPDX-License-Identifier: Apache-2.0
"""The memory of a colocated vLLM, and whether it starts.

At its start vLLM runs the largest image that the model's processor lets through, and takes its
share of the GPU less weights and this pass for the KV cache. It refuses to start if that cannot
hold one sequence of its longest length, or if its share of the GPU is not free.
"""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_training.finetune.memory.architecture import Architecture
from medreasoner_training.finetune.memory.estimate import Item, Phase, key_value_bytes

_BYTES = 2  # vLLM holds weights, keys and values in 16 bit


@dataclass(frozen=True)
class Colocated:
    """A vLLM beside the training.

    Attributes:
        share_bytes: that it may take.
        weights: bytes of its copy of the weights, of its part of them.
        first_pass: bytes that the image encoder takes for the largest image.
        token_bytes: of keys and values of one token.
        model_length: tokens of its longest sequence.
        sleeps: whether it gives its memory back while the model learns.
    """

    share_bytes: int
    weights: int
    first_pass: int
    token_bytes: int
    model_length: int
    sleeps: bool

    @property
    def cache_bytes(self) -> int:
        """What is left for keys and values; below 0 where nothing is."""
        return self.share_bytes - self.weights - self.first_pass

    @property
    def sequences(self) -> int:
        """Of the longest length that are generated at once."""
        return max(0, self.cache_bytes // (self.token_bytes * self.model_length))

    def items(self) -> list[Item]:
        """Its parts of the memory; together they are its share."""
        phase = Phase.ANSWERING if self.sleeps else Phase.ALWAYS
        holds = (
            f"{self.sequences} rollouts of {self.model_length:,} tokens x {self.token_bytes:,} B"
        )
        return [
            Item("vLLM: weights", self.weights, phase, "a second copy in 16 bit"),
            Item("vLLM: first pass", self.first_pass, phase, "image encoder, largest image"),
            Item("vLLM: KV cache", max(0, self.cache_bytes), phase, f"the rest; {holds}"),
        ]


def colocated(
    arch: Architecture,
    *,
    card_bytes: int,
    share: float,
    model_length: int,
    tensor_parallel: int,
    sleeps: bool,
) -> Colocated:
    """What a colocated vLLM takes of a card."""
    patches = arch.largest_image_px // arch.patch_px**2
    values = 3 * arch.vision_intermediate + 4 * arch.vision_hidden
    return Colocated(
        share_bytes=int(card_bytes * share),
        weights=arch.weights * _BYTES // tensor_parallel,
        first_pass=patches * values * _BYTES,
        token_bytes=key_value_bytes(arch) // tensor_parallel,
        model_length=model_length,
        sleeps=sleeps,
    )


def why_it_does_not_start(vllm: Colocated, card_bytes: int, taken_bytes: int) -> str | None:
    """A sentence if it does not; ``taken_bytes`` are the trainer's when vLLM starts."""
    needed = vllm.model_length * vllm.token_bytes
    if vllm.cache_bytes < needed:
        least = (vllm.weights + vllm.first_pass + needed) / card_bytes
        return (
            f"vLLM would not start: its share of {vllm.share_bytes / 1e9:.1f} GB leaves "
            f"{max(0, vllm.cache_bytes) / 1e9:.1f} GB for the KV cache, and one sequence of "
            f"{vllm.model_length:,} tokens takes {needed / 1e9:.1f} GB. Raise "
            f"vllm.gpu_memory_share to {least:.2f} or more, or lower vllm.max_model_length."
        )
    if vllm.share_bytes > card_bytes - taken_bytes:
        return (
            f"vLLM would not start: its share of {vllm.share_bytes / 1e9:.1f} GB is not free "
            f"beside {taken_bytes / 1e9:.1f} GB of the trainer. Lower vllm.gpu_memory_share."
        )
    return None
