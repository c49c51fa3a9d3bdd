# SPDX-License-Identifier: Apache-2.0
"""A ``SAM2Base`` model as two plain functions: encode an image, decode a prompt."""

from __future__ import annotations

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

#: Of ImageNet's red, green and blue in 0...1, by which SAM2 normalises.
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
#: SAM2 adds half a pixel to each coordinate; ours are edge based and must not move.
SAM_OFFSET_PX = 0.5
#: Logit of the pixels of a mask prompt, as SAM2 uses it for masks that a user gives.
MASK_PROMPT_LOGIT = 10.0


@dataclass(frozen=True)
class Embedding:
    """The image encoder's output for one crop: feature maps and position encodings.

    Levels go from fine (stride 4) to coarse (stride 16), each of shape (V, C, h, w). There is one
    view (V = 1), or a second one of the mirrored crop. The position encodings are the same for all
    crops, and shared by them.
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


class Sam2Network:
    """The frozen network on its device.

    Args:
        model: a ``SAM2Base`` with its weights.
        device: torch device that it runs on.
        multimask: whether to choose among the three candidates of the ambiguity-aware head by
            predicted IoU, or to take the single-mask candidate.
    """

    def __init__(self, model: Any, device: torch.device, multimask: bool) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.multimask = multimask
        self._positions: dict[int, tuple[torch.Tensor, ...]] = {}

    @property
    def input_size(self) -> int:
        """Side of the square input in px."""
        return int(self.model.image_size)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """No gradients, bfloat16 on CUDA only, and a typed error when memory runs out."""
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

        if self.device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", dtype=torch.bfloat16)

    def encode(self, pixels: NDArray[np.uint8], mirror: bool = False) -> Embedding:
        """Encode uint8 pixels (size, size) or (size, size, 3), and their mirror image if wanted."""
        import torch

        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
        image = torch.from_numpy(rgb.astype(np.float32) / 255).to(self.device).permute(2, 0, 1)
        mean, std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD)
        )
        views = ((image - mean) / std)[None]
        output = self.model.forward_image(torch.cat([views, views.flip(-1)]) if mirror else views)
        features = tuple(output["backbone_fpn"])
        # Sines of the positions in the input, whose size is fixed; five sixths of what is encoded.
        positions = self._positions.setdefault(len(features[0]), tuple(output["vision_pos_enc"]))
        return Embedding(features, positions)

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

    def decode(
        self, embedding: Embedding, prompt: SparsePrompt, mask: NDArray[np.float32] | None = None
    ) -> Candidate:
        """Decode the best mask for a prompt; with a mirrored view, the mean of both.

        Args:
            embedding: of the crop that the prompt's coordinates belong to.
            prompt: box and points, in as many views as the embedding.
            mask: float32 (size, size) in 0...1, a rough mask of the target on the same crop.
        """
        encoder = self.model.sam_prompt_encoder
        sparse, dense = encoder(
            points=(prompt.coordinates, prompt.labels),
            boxes=None,
            masks=self._mask_prompt(mask, views=len(prompt.labels)),
        )
        *fine, coarse = embedding.features
        logits, ious, _, presence = self.model.sam_mask_decoder(
            image_embeddings=coarse + self.model.no_mem_embed.view(1, -1, 1, 1),
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=self.multimask,
            repeat_image=False,
            high_res_features=fine,
        )
        best = int(ious.mean(0).argmax())
        logits = logits[:, best : best + 1]
        if len(logits) == 2:
            logits = (logits[:1] + logits[1:].flip(-1)) / 2
        return self.candidate(logits, float(ious[:, best].mean()), float(presence.mean()))

    def candidate(self, logits: torch.Tensor, predicted_iou: float, presence: float) -> Candidate:
        """Bring logits (1, 1, h, w) to the input's size."""
        from torch.nn import functional as F

        size = (self.input_size, self.input_size)
        full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)
        return Candidate(full[0, 0].cpu().numpy(), predicted_iou, presence)

    def _mask_prompt(self, mask: NDArray[np.float32] | None, views: int) -> torch.Tensor | None:
        import torch
        from torch.nn import functional as F

        if mask is None:
            return None
        size = self.model.sam_prompt_encoder.mask_input_size
        full = torch.from_numpy(np.ascontiguousarray(mask, np.float32)).to(self.device)
        logits = (2 * F.interpolate(full[None, None], size, mode="area") - 1) * MASK_PROMPT_LOGIT
        return torch.cat([logits, logits.flip(-1)]) if views == 2 else logits
