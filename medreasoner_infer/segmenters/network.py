# SPDX-License-Identifier: Apache-2.0
"""A SAM as two plain functions: encode a crop of a slice, decode a prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import OutOfMemoryError
from medreasoner_infer.segmenters.crop import Crop
from medreasoner_infer.types import SlicePrompt

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

#: SAM adds half a pixel to each coordinate; ours are edge based and must not move.
SAM_OFFSET_PX = 0.5
#: Logit of the pixels of a mask prompt, as SAM2 uses it for masks that a user gives.
MASK_PROMPT_LOGIT = 10.0


@dataclass(frozen=True)
class Embedding:
    """The image encoder's output for one crop: feature maps and position encodings.

    Levels go from fine to coarse, each of shape (V, C, h, w): three of a SAM2 (strides 4 to 16),
    one of a SAM. There is one view (V = 1), or a second one of the mirrored crop. The position
    encodings, which only a memory reads, are the same for all crops, and shared by them.
    """

    features: tuple[torch.Tensor, ...]
    positions: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Memory that the embedding holds alone."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.features)


@dataclass(frozen=True)
class Candidate:
    """The chosen candidate: logits float32 (size, size), its own IoU estimate, presence logit."""

    logits: NDArray[np.float32]
    predicted_iou: float
    presence: float


@dataclass(frozen=True)
class SparsePrompt:
    """SAM's point prompts as tensors: coordinates (V, P, 2), labels (V, P), V views."""

    coordinates: torch.Tensor
    labels: torch.Tensor


class Network(ABC):
    """A frozen promptable network on its device.

    Args:
        model: the torch module with its weights.
        device: torch device that it runs on.
        multimask: whether to choose among the three candidates of the ambiguity-aware head by
            predicted IoU, or to take the single-mask candidate.
    """

    #: Whether it can follow a target by a memory of the slices seen so far.
    remembers = False
    #: Whether it runs in bfloat16 on CUDA.
    half_on_cuda = True

    def __init__(self, model: Any, device: torch.device, multimask: bool) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.multimask = multimask

    @property
    @abstractmethod
    def input_size(self) -> int:
        """Side of the square input in px."""

    @abstractmethod
    def encode(self, pixels: NDArray[np.uint8], crop: Crop, mirror: bool = False) -> Embedding:
        """Encode a crop of a slice, uint8 (H, W) or (H, W, 3), and its mirror image if wanted."""

    @abstractmethod
    def decode(
        self, embedding: Embedding, prompt: SparsePrompt, mask: NDArray[np.float32] | None = None
    ) -> Candidate:
        """Decode the best mask for a prompt; with a mirrored view, the mean of both.

        Args:
            embedding: of the crop that the prompt's coordinates belong to.
            prompt: box and points, in as many views as the embedding.
            mask: float32 (size, size) in 0...1, a rough mask of the target on the same crop.
        """

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, the network's own precision, and a typed error when memory runs out."""
        import torch

        with torch.inference_mode(), self._precision():
            try:
                yield
            except torch.OutOfMemoryError as error:
                raise OutOfMemoryError(
                    f"The segmenter ran out of memory on {self.device}. Close other programs that "
                    "use it, or start with --device cpu."
                ) from error

    def free_memory(self) -> None:
        """Give memory that PyTorch holds in reserve back to the device."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _precision(self) -> AbstractContextManager[Any]:
        import torch

        if self.device.type != "cuda" or not self.half_on_cuda:
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)

    def sparse_prompt(self, prompt: SlicePrompt, crop: Crop, mirror: bool = False) -> SparsePrompt:
        """Box and points as SAM's points: the box's corners have the labels 2 and 3."""
        import torch

        points, labels = list(prompt.points_xy_px), list(prompt.point_labels)
        if prompt.bbox_xyxy_px is not None:
            x1, y1, x2, y2 = prompt.bbox_xyxy_px
            points, labels = [(x1, y1), (x2, y2), *points], [2, 3, *labels]
        crop_px = crop.to_crop_px(np.array(points), self.input_size)
        views = [crop_px]
        if mirror:
            mirrored = crop_px * (-1, 1) + (self.input_size, 0)
            if prompt.bbox_xyxy_px is not None:
                mirrored[:2, 0] = mirrored[1::-1, 0]  # the left corner stays the first one
            views.append(mirrored)
        return SparsePrompt(
            torch.tensor(np.stack(views) - SAM_OFFSET_PX, dtype=torch.float32).to(self.device),
            torch.tensor([labels] * len(views), dtype=torch.int32).to(self.device),
        )

    def best_candidate(
        self, logits: torch.Tensor, ious: torch.Tensor, presence: float
    ) -> Candidate:
        """The candidate of the highest predicted IoU.

        Args:
            logits: (V, N, h, w), N candidates in each view.
            ious: (V, N).
            presence: the presence logit.
        """
        best = int(ious.mean(0).argmax())
        logits = logits[:, best : best + 1]
        if len(logits) == 2:
            logits = (logits[:1] + logits[1:].flip(-1)) / 2
        predicted_iou = min(max(float(ious[:, best].mean()), 0.0), 1.0)  # SAM's has no bounds
        return self.candidate(logits, predicted_iou, presence)

    def candidate(self, logits: torch.Tensor, predicted_iou: float, presence: float) -> Candidate:
        """Bring logits (1, 1, h, w) to the input's size."""
        from torch.nn import functional as F

        size = (self.input_size, self.input_size)
        full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        return Candidate(full[0, 0].cpu().numpy(), predicted_iou, presence)

    def mask_prompt(
        self, mask: NDArray[np.float32] | None, views: int, size: tuple[int, int]
    ) -> torch.Tensor | None:
        """A rough mask float32 (S, S) in 0...1 as SAM's mask prompt: logits (V, 1, *size)."""
        import torch
        from torch.nn import functional as F

        if mask is None:
            return None
        full = torch.from_numpy(np.ascontiguousarray(mask, np.float32)).to(self.device)
        logits = (2 * F.interpolate(full[None, None], size, mode="area") - 1) * MASK_PROMPT_LOGIT
        return torch.cat([logits, logits.flip(-1)]) if views == 2 else logits
