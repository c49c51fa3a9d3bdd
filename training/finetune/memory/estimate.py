# SPDX-License-Identifier: Apache-2.0
"""The memory of one GPU, added up from what lies on it while a run learns and while it answers.

Bytes per value: 16 bit 2, float32 4; GB are 10^9 B. Activations follow arXiv 2205.05198, which
counts what each layer keeps for its backward pass; the terms here are those of Qwen2.5-VL's layers
in transformers, with a kernel for attention that keeps no matrix of tokens x tokens. With
checkpointing (arXiv 1604.06174) only each layer's input stays, and one layer at a time is computed
again. Logits are those of TRL's fused head, which are never there as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from medreasoner_training.finetune.memory.architecture import Architecture

# TRL's fused head makes logits tile by tile (trl.kernels.chunked_logprob, trl.trainer.utils).
_TILE_TOKENS, _TILE_VOCABULARY = 4096, 32768
#: CUDA's context and kernels, and what the allocator loses in fragments; an assumption.
CONTEXT_BYTES = 2_000_000_000


class Phase(str, Enum):
    """When memory is taken: always, while rollouts are generated, or while the model learns."""

    ALWAYS = "always"
    ANSWERING = "answering"
    LEARNING = "learning"


@dataclass(frozen=True)
class Item:
    """What takes memory; ``how`` tells how it was reckoned."""

    name: str
    bytes: int
    phase: Phase
    how: str


@dataclass(frozen=True)
class Load:
    """What a run asks of one GPU.

    Attributes:
        prompt: tokens of the longest prompt, its image included.
        completion: tokens of the longest rollout.
        side_px: of the image that the processor is given.
        micro_batch: rollouts, or samples, of one forward pass.
        rollouts: of a step, on this GPU; 0 for supervised steps.
        generations: rollouts of one question.
        lora_rank: of the adapter; 0 where all weights learn.
        weight_bytes: per value of the base's weights.
        arithmetic_bytes: per value that is computed.
        checkpointing: whether activations are computed again.
        reference: whether a copy of the model at the start is kept.
        shards: GPUs that share weights, gradients and optimiser.
    """

    prompt: int
    completion: int
    side_px: int
    micro_batch: int
    rollouts: int
    generations: int
    lora_rank: int
    weight_bytes: int
    arithmetic_bytes: int
    checkpointing: bool
    reference: bool = False
    shards: int = 1

    @property
    def tokens(self) -> int:
        """Of the longest prompt with the longest rollout."""
        return self.prompt + self.completion


def kept_of_a_layer(arch: Architecture, load: Load) -> int:
    """Bytes that one layer keeps for its backward pass, of one token.

    7 x hidden (input, normed input, queries, attention's result and a copy of it, input and normed
    input of the MLP), keys and values, 4 x intermediate (gate, its activation, up, their product).
    An adapter keeps its ranks, weights that learn the scaled input of both norms. In 16 bit, norms
    keep a float32 copy of their input, and an adapter one of each layer's input.
    """
    hidden, wide = arch.hidden, arch.intermediate
    values = 7 * hidden + 2 * arch.key_values + 4 * wide
    values += 7 * load.lora_rank if load.lora_rank else 2 * hidden
    kept = load.arithmetic_bytes * values
    if load.weight_bytes == 2:
        kept += 2 * 4 * hidden
    if load.lora_rank and load.arithmetic_bytes == 2:
        kept += 2 * (6 * hidden + wide)
    return kept


def items_of(arch: Architecture, load: Load) -> list[Item]:
    """What a run takes on one GPU without vLLM's part."""
    return [*_weights(arch, load), *_learning(arch, load), _logits(arch, load)]


def _weights(arch: Architecture, load: Load) -> list[Item]:
    base, shards = load.weight_bytes, load.shards
    frozen = arch.weights if load.lora_rank else 0
    found = [
        _values("frozen weights", frozen, base, shards),
        _values("learning weights", arch.learning, 4, shards),
        _values("gradients", arch.learning, 4, shards),
        _values("AdamW", arch.learning, 8, shards),
    ]
    if load.reference and not load.lora_rank:
        found.append(_values("reference model", arch.weights, base, shards))
    if shards > 1:
        layer = (arch.weights - arch.vision_weights) // arch.layers
        how = "two layers' weights, gathered"
        found.append(Item("gathered weights", 2 * layer * base, Phase.ALWAYS, how))
    elif not load.lora_rank and load.arithmetic_bytes == 2:
        how = f"{arch.weights:,} x 2 B, which autocast keeps during a forward pass"
        found.append(Item("weights in 16 bit", arch.weights * 2, Phase.LEARNING, how))
    return found


def _values(name: str, count: int, size: int, shards: int) -> Item:
    how = f"{count:,} x {size} B" + (f" / {shards}" if shards > 1 else "")
    return Item(name, count * size // shards, Phase.ALWAYS, how)


def _learning(arch: Architecture, load: Load) -> list[Item]:
    tokens, layer = load.micro_batch * load.tokens, kept_of_a_layer(arch, load)
    layers = arch.layers
    flowing = load.arithmetic_bytes * (3 * arch.hidden + 2 * arch.intermediate)
    how = f"{load.micro_batch} x {load.tokens:,} tokens"
    found = []
    if load.checkpointing:
        kept = arch.hidden * load.weight_bytes
        found.append(_kept(tokens * kept * layers, f"{how} x {kept:,} B x {layers} layers"))
        again = tokens * (layer + flowing)
        found.append(
            Item("one layer again", again, Phase.LEARNING, f"{how} x {layer + flowing:,} B")
        )
    else:
        found.append(_kept(tokens * layer * layers, f"{how} x {layer:,} B x {layers} layers"))
        found.append(Item("gradients of a layer", tokens * flowing, Phase.LEARNING, how))
    found.append(_encoder(arch, load))
    return found


def _kept(size: int, how: str) -> Item:
    return Item("activations", size, Phase.LEARNING, how)


def _encoder(arch: Architecture, load: Load) -> Item:
    """Of a frozen encoder the features of a step's images stay, otherwise its activations."""
    patches, hidden = arch.patches(load.side_px), arch.vision_hidden
    if not arch.learns_vision:
        tokens = arch.image_tokens(load.side_px)
        image = 4 * patches * arch.patch_values
        image += load.arithmetic_bytes * (tokens * arch.hidden + patches * hidden)
        images = -(-load.rollouts // load.generations)
        how = f"{images} images x {image:,} B"
        return Item("images and their features", images * image, Phase.ALWAYS, how)
    layer = load.arithmetic_bytes * (14 * hidden + 4 * arch.vision_intermediate)
    kept = hidden * load.weight_bytes if load.checkpointing else layer
    size = patches * (kept * arch.vision_layers + (layer if load.checkpointing else 0))
    images = -(-load.micro_batch // load.generations)
    how = f"{images} images x {patches:,} patches, {arch.vision_layers} layers"
    return Item("activations of the image encoder", images * size, Phase.LEARNING, how)


def _logits(arch: Architecture, load: Load) -> Item:
    tokens = load.micro_batch * load.completion
    tile = min(tokens, _TILE_TOKENS), min(arch.vocabulary, _TILE_VOCABULARY)
    size = tile[0] * tile[1] * load.arithmetic_bytes + tokens * arch.hidden * 4
    how = f"a tile of {tile[0]:,} x {tile[1]:,}, and the gradient of {tokens:,} tokens"
    if not load.lora_rank:
        size += arch.vocabulary * arch.hidden * 4
        how += ", and the head's"
    return Item("logits", size, Phase.LEARNING, how)


def key_value_bytes(arch: Architecture, value_bytes: int = 2) -> int:
    """Of the keys and values of one token, in all layers."""
    return 2 * arch.layers * arch.key_values * value_bytes


def items_of_transformers(arch: Architecture, load: Load) -> list[Item]:
    """What rollouts take that transformers generates, all of a step at once."""
    cache = key_value_bytes(arch, load.arithmetic_bytes)
    first = load.arithmetic_bytes * (3 * arch.intermediate + 4 * arch.hidden)
    return [
        Item(
            "KV cache",
            load.rollouts * load.tokens * cache,
            Phase.ANSWERING,
            f"{load.rollouts} rollouts x {load.tokens:,} tokens x {cache:,} B",
        ),
        Item(
            "prompts' pass",
            load.rollouts * load.prompt * first,
            Phase.ANSWERING,
            f"{load.rollouts} x {load.prompt:,} tokens x {first:,} B of one layer",
        ),
    ]


def context_item() -> Item:
    """What CUDA itself takes."""
    how = "assumed: CUDA's context and fragments"
    return Item("context", CONTEXT_BYTES, Phase.ALWAYS, how)
