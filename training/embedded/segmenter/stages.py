# SPDX-License-Identifier: Apache-2.0
"""The training stages' forward passes through a ``SAM2Base``: prompted crops, and clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from medreasoner_infer.segmenters.network import MASK_PROMPT_LOGIT, SAM_OFFSET_PX
from medreasoner_training.embedded.segmenter.batches import (
    ClipBatch,
    CropBatch,
    sample_clips,
    sample_crops,
)
from medreasoner_training.embedded.segmenter.chains import ChainBatch, sample_chains
from medreasoner_training.embedded.segmenter.losses import candidate_loss
from medreasoner_training.embedded.segmenter.prompts import (
    PromptKind,
    SparsePrompt,
    correction_click,
    sample_kind,
    sample_prompt,
)

if TYPE_CHECKING:
    from sam2.modeling.sam2_base import SAM2Base

#: SAM2 writes -1024 where it sees no target; that must not swamp the loss.
MAX_LOGIT = 32.0


@dataclass(frozen=True)
class StepResult:
    """The loss to step on and the scalars to log."""

    loss: torch.Tensor
    scalars: dict[str, float]


Stage = Callable[["SAM2Base", np.random.Generator], StepResult]
#: A slice's candidates: logits (B, M, h, w), IoUs (B, M) and presence (B, 1).
Answer = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class ImageStage:
    """Prompted crops, half of the batches with correcting clicks after the first answer."""

    batch_size: int
    correction_probability: float = 0.5
    max_clicks: int = 3

    def __call__(self, model: SAM2Base, rng: np.random.Generator) -> StepResult:
        """Draw a batch and compute its loss."""
        kind = sample_kind(rng)
        batch = sample_crops(rng, self.batch_size, kind)
        features = encode(model, batch.images)
        logits, ious, presence = decode(model, features, batch)
        loss, iou = candidate_loss(logits, ious, presence, batch.targets)
        correctable = kind not in (PromptKind.NEIGHBOUR, PromptKind.ONE_POINT)
        if correctable and rng.random() < self.correction_probability:
            clicks = int(rng.integers(1, self.max_clicks + 1))
            corrected = _after_clicks(model, rng, features, batch, logits, clicks)
            loss = loss + 0.5 * candidate_loss(*corrected, batch.targets)[0]
        scalars = {f"iou/{kind.name.lower()}": float(iou), "loss": float(loss.detach())}
        return StepResult(loss, scalars)


@dataclass(frozen=True)
class MemoryStage:
    """Clips tracked from their prompted first slice, alternating with prompted crops.

    The image encoder is frozen, so that prompted slices keep their quality; the crops in between
    keep the decoder from forgetting them.
    """

    batch_size: int
    clip_length: int = 8
    image_stage: ImageStage = ImageStage(16)
    image_probability: float = 0.3

    def __call__(self, model: SAM2Base, rng: np.random.Generator) -> StepResult:
        """Draw a batch of clips (or of crops) and compute its loss."""
        model.image_encoder.requires_grad_(False)
        if rng.random() < self.image_probability:
            return self.image_stage(model, rng)
        batch = sample_clips(rng, self.batch_size, self.clip_length)
        return _clip_result("clip", track(model, batch), batch.targets)


@dataclass(frozen=True)
class ChainStage:
    """Clips in which each slice is prompted with the model's own last mask, and prompted crops.

    What the model is prompted with is what it will be prompted with in use: its own mistakes
    (Ross et al., A reduction of imitation learning to no-regret online learning, 2011). The masks
    carry no gradient from slice to slice.

    Attributes:
        growing: share of clips whose target grows from slice to slice.
        looks: answers on each slice; from the second on it is prompted with its own last answer on
            the same slice, and learns to mend what it took over from the neighbour.
    """

    batch_size: int
    clip_length: int = 4
    growing: float = 0.0
    looks: int = 1
    image_stage: ImageStage = ImageStage(16)
    image_probability: float = 0.5

    def __call__(self, model: SAM2Base, rng: np.random.Generator) -> StepResult:
        """Draw a batch of clips (or of crops) and compute its loss."""
        if rng.random() < self.image_probability:
            return self.image_stage(model, rng)
        batch = sample_chains(rng, self.batch_size, self.clip_length, self.growing)
        targets = batch.targets.repeat_interleave(self.looks, 1)
        return _clip_result("chain", follow(model, rng, batch, self.looks), targets)


def _clip_result(name: str, answers: Iterable[Answer], targets: torch.Tensor) -> StepResult:
    """Mean loss over the answers on clips, targets (B, T, S, S); logged under the stage's name.

    Whether presence was told rightly counts from the second answer on: the first is prompted.
    """
    losses, ious, right = [], [], []
    for t, (logits, estimates, presence) in enumerate(answers):
        on_slice = targets[:, t]
        loss, iou = candidate_loss(logits, estimates, presence, on_slice)
        losses.append(loss)
        ious.append(iou)
        found = (presence[:, 0] > 0) == on_slice.flatten(1).any(1)
        right.append(found.float().mean())
    loss = torch.stack(losses).mean()
    scalars = {
        f"iou/{name}": float(torch.stack(ious).mean()),
        f"presence/{name}": float(torch.stack(right[1:]).mean()),
        f"loss/{name}": float(loss.detach()),
    }
    return StepResult(loss, scalars)


@dataclass(frozen=True)
class Features:
    """The image encoder's levels, finest first, each (B, C, h, w)."""

    levels: tuple[torch.Tensor, ...]


def encode(model: SAM2Base, images: torch.Tensor) -> Features:
    """Run the image encoder on (B, 3, S, S)."""
    return Features(tuple(model.forward_image(images)["backbone_fpn"]))


def decode(model: SAM2Base, features: Features, batch: CropBatch) -> Answer:
    """Prompted decoding: four candidates' logits (B, 4, h, w), IoUs (B, 4), presence (B, 1)."""
    *fine, coarse = features.levels
    sparse, dense = model.sam_prompt_encoder(
        points=(batch.coordinates - SAM_OFFSET_PX, batch.labels),
        boxes=None,
        masks=mask_prompt(model, batch.prompt_masks),
    )
    masks, ious, _, presence = model.sam_mask_decoder.predict_masks(
        image_embeddings=coarse + model.no_mem_embed.view(1, -1, 1, 1),
        image_pe=model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=fine,
    )
    return masks, ious, presence


def mask_prompt(model: SAM2Base, masks: torch.Tensor | None) -> torch.Tensor | None:
    """Masks (B, S, S) in {0, 1} as the decoder's low-resolution logits (B, 1, h, w)."""
    if masks is None:
        return None
    size = model.sam_prompt_encoder.mask_input_size
    coarse = F.interpolate(masks[:, None], size, mode="area")
    return (2 * coarse - 1) * MASK_PROMPT_LOGIT


def _after_clicks(
    model: SAM2Base,
    rng: np.random.Generator,
    features: Features,
    batch: CropBatch,
    logits: torch.Tensor,
    clicks: int,
) -> Answer:
    """Decode after some correcting clicks, each where the answer before it was wrong."""
    for click in range(clicks):
        batch = _with_click(rng, batch, logits[:, 0].detach())
        with torch.set_grad_enabled(click == clicks - 1):
            answer = decode(model, features, batch)
        logits = answer[0]
    return answer


def _with_click(rng: np.random.Generator, batch: CropBatch, logits: torch.Tensor) -> CropBatch:
    size = batch.targets.shape[-2:]
    full = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    pairs = zip((full > 0).numpy(), batch.targets.bool().numpy(), strict=True)
    clicks, labels = zip(*[correction_click(rng, *pair) for pair in pairs], strict=True)
    added = torch.from_numpy(np.stack(clicks))[:, None]
    added_labels = torch.tensor(labels, dtype=batch.labels.dtype)[:, None]
    return dataclasses.replace(
        batch,
        coordinates=torch.cat([batch.coordinates, added], 1),
        labels=torch.cat([batch.labels, added_labels], 1),
    )


def follow(
    model: SAM2Base, rng: np.random.Generator, batch: ChainBatch, looks: int = 1
) -> Iterator[Answer]:
    """Follow the targets of clips, each slice prompted with the model's mask of the last one.

    Args:
        model: a ``SAM2Base``.
        rng: draws the prompts.
        batch: B clips of T slices.
        looks: answers on each slice, each prompted with the one before.

    Yields:
        For each slice, ``looks`` times, the candidates' logits (B, M, h, w), IoUs (B, M) and
        presence (B, 1).
    """
    size, length = batch.targets.shape[:2]
    encoded = encode(model, batch.images.flatten(0, 1))
    masks = batch.targets[:, 0].bool().numpy()
    kind, prompt_masks = PromptKind.BOX_AND_POINTS, None
    for t in (t for t in range(length) for _ in range(looks)):
        at_t = torch.arange(size) * length + t
        prompts = [sample_prompt(rng, mask, kind) for mask in masks]
        crops = _prompted(batch, t, prompts, prompt_masks)
        answer = decode(model, Features(tuple(level[at_t] for level in encoded.levels)), crops)
        yield answer
        masks = next_prompt_masks(answer[0][:, 0].detach(), batch.targets[:, t], masks)
        kind, prompt_masks = PromptKind.NEIGHBOUR, torch.from_numpy(masks.astype(np.float32))


def _prompted(
    batch: ChainBatch, t: int, prompts: list[SparsePrompt], masks: torch.Tensor | None
) -> CropBatch:
    coordinates = torch.from_numpy(np.stack([prompt.coordinates_xy_px for prompt in prompts]))
    labels = torch.from_numpy(np.stack([prompt.labels for prompt in prompts]))
    return CropBatch(batch.images[:, t], batch.targets[:, t], coordinates, labels, masks)


def next_prompt_masks(logits: torch.Tensor, targets: torch.Tensor, last: np.ndarray) -> np.ndarray:
    """The answers (B, S, S) to prompt the next slices with; where one is empty, the truth.

    Where the target has ended as well, the last prompt stays.
    """
    full = F.interpolate(logits[:, None], targets.shape[-2:], mode="bilinear")[:, 0]
    candidates = zip((full > 0).numpy(), targets.bool().numpy(), last, strict=True)
    return np.stack([next(mask for mask in masks if mask.any()) for masks in candidates])


def track(model: SAM2Base, batch: ClipBatch) -> Iterator[Answer]:
    """Follow the prompted target through clips with SAM2's memory.

    Args:
        model: a ``SAM2Base``.
        batch: B clips of T slices.

    Yields:
        For each slice the candidates' logits (B, M, h, w), IoUs (B, M) and presence (B, 1).
    """
    size, length = batch.targets.shape[:2]
    encoded = model.forward_image(batch.images.flatten(0, 1))
    history: dict[str, dict] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    for t in range(length):
        at_t = torch.arange(size) * length + t
        levels = [level[at_t] for level in encoded["backbone_fpn"]]
        positions = [level[at_t] for level in encoded["vision_pos_enc"]]
        features = _flat(levels)
        prompt = _point_inputs(batch) if t == 0 else None
        # track_step() keeps the best mask only; the loss needs all candidates.
        output, (logits, _, ious, low, high, pointer, presence), _, _ = model._track_step(
            t, t == 0, features, _flat(positions), [f.shape[-2:] for f in levels],
            prompt, None, history, length, False, None,
        )  # fmt: skip
        yield logits.clamp(-MAX_LOGIT, MAX_LOGIT), ious, presence
        output.update(pred_masks=low, pred_masks_high_res=high, obj_ptr=pointer)
        sizes = [f.shape[-2:] for f in levels]
        model._encode_memory_in_output(features, sizes, prompt, True, high, presence, output)
        history["cond_frame_outputs" if t == 0 else "non_cond_frame_outputs"][t] = output


def _flat(levels: list[torch.Tensor]) -> list[torch.Tensor]:
    """Maps (B, C, h, w) as SAM2's sequences (h * w, B, C)."""
    return [level.flatten(2).permute(2, 0, 1) for level in levels]


def _point_inputs(batch: ClipBatch) -> dict[str, torch.Tensor]:
    return {"point_coords": batch.coordinates - SAM_OFFSET_PX, "point_labels": batch.labels}
