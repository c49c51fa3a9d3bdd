# SPDX-License-Identifier: Apache-2.0
"""LiteMedSAM's image encoder: a TinyViT at 256 px whose feature map keeps a quarter of that side.

Wu et al., TinyViT: Fast Pretraining Distillation for Small Vision Transformers, ECCV 2022.
LiteMedSAM (Ma et al., https://github.com/bowang-lab/MedSAM, branch LiteMedSAM) embeds single pixels
instead of patches and does not halve the last stage. Modules are called as in its weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TinyVitShape:
    """Numbers of the four stages, the first of convolutions, the others of attention.

    Attributes:
        widths: channels of each stage.
        depths: blocks of each stage.
        heads: attention heads; the first is not used.
        windows: side of the attention windows in cells of the map; the first is not used.
        strides: by how much the map shrinks behind each stage but the last.
        channels: of the feature map.
    """

    widths: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)
    strides: tuple[int, ...] = (2, 2, 1)
    channels: int = 256


class TinyVit(nn.Module):
    """The encoder; see the module."""

    def __init__(self, shape: TinyVitShape | None = None) -> None:
        super().__init__()
        shape = shape or TinyVitShape()
        first = shape.widths[0]
        embedding = (_ConvNorm(3, first // 2), nn.GELU(), _ConvNorm(first // 2, first))
        self.patch_embed = nn.ModuleDict({"seq": nn.Sequential(*embedding)})
        self.layers = nn.ModuleList(_Stage(shape, index) for index in range(len(shape.widths)))
        self.neck = nn.Sequential(
            nn.Conv2d(shape.widths[-1], shape.channels, 1, bias=False),
            LayerNorm2d(shape.channels),
            nn.Conv2d(shape.channels, shape.channels, 3, padding=1, bias=False),
            LayerNorm2d(shape.channels),
        )

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        """Encode float32 (V, 3, S, S) to a map (V, C, S / 4, S / 4), the tuple's only entry."""
        features = self.patch_embed["seq"](pixels)
        for layer in self.layers:
            features = layer(features)
        return (self.neck(features),)


class _ConvNorm(nn.Sequential):
    """A convolution that keeps the map's size at stride 1, and its batch normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.add_module("c", convolution)
        self.add_module("bn", nn.BatchNorm2d(outputs))


class _Stage(nn.Module):
    """Blocks, and behind all but the last stage a step to the next width and size."""

    def __init__(self, shape: TinyVitShape, index: int) -> None:
        super().__init__()
        width = shape.widths[index]
        self.blocks = nn.ModuleList(
            _AttentionBlock(width, shape.heads[index], shape.windows[index])
            if index
            else _ConvBlock(width)
            for _ in range(shape.depths[index])
        )
        self.downsample: nn.Module = nn.Identity()
        if index < len(shape.strides):
            self.downsample = _Merging(width, shape.widths[index + 1], shape.strides[index])

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            features = block(features)
        merged: torch.Tensor = self.downsample(features)
        return merged


class _ConvBlock(nn.Module):
    """An inverted bottleneck (MBConv), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 4 * width
        self.conv1 = _ConvNorm(width, inner)
        self.conv2 = _ConvNorm(inner, inner, kernel=3, groups=inner)
        self.conv3 = _ConvNorm(inner, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        inner = F.gelu(self.conv2(F.gelu(self.conv1(features))))
        return F.gelu(features + self.conv3(inner))


class _Merging(nn.Module):
    """From one stage's width and map size to the next one's."""

    def __init__(self, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(width, outputs)
        self.conv2 = _ConvNorm(outputs, outputs, kernel=3, stride=stride, groups=outputs)
        self.conv3 = _ConvNorm(outputs, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        merged: torch.Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(features)))))
        return merged


class _AttentionBlock(nn.Module):
    """Attention within windows, a local convolution, and a perceptron."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _WindowAttention(width, heads, window)
        self.local_conv = _ConvNorm(width, width, kernel=3, groups=width)
        self.mlp = _Perceptron(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        cells = features.permute(0, 2, 3, 1)
        cells = cells + self._attend(cells)
        cells = self.local_conv(cells.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        mixed: torch.Tensor = cells + self.mlp(cells)
        return mixed.permute(0, 3, 1, 2)

    def _attend(self, cells: torch.Tensor) -> torch.Tensor:
        """Attention of (V, h, w, C) in windows; a map that they do not fill is padded by zeros."""
        views, height, width, channels = cells.shape
        side = self.window
        padded = F.pad(cells, (0, 0, 0, -width % side, 0, -height % side))
        rows, columns = padded.shape[1] // side, padded.shape[2] // side
        split = padded.view(views, rows, side, columns, side, channels).transpose(2, 3)
        seen = self.attn(split.reshape(-1, side * side, channels))
        joined = seen.view(views, rows, columns, side, side, channels).transpose(2, 3)
        attended: torch.Tensor = joined.reshape(padded.shape)[:, :height, :width]
        return attended


class _WindowAttention(nn.Module):
    """Attention of all cells of a window, with a learned bias for each distance of two cells."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.distances: torch.Tensor
        self.register_buffer("distances", _distances(window), persistent=False)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Attend among (windows, cells, channels)."""
        windows, count, width = cells.shape
        split = self.qkv(self.norm(cells)).view(windows, count, self.heads, -1).transpose(1, 2)
        query, key, value = split.chunk(3, dim=-1)
        bias = self.attention_biases[:, self.distances]
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        projected: torch.Tensor = self.proj(seen.transpose(1, 2).reshape(windows, count, width))
        return projected


def _distances(window: int) -> torch.Tensor:
    """Which bias each pair of cells has, int64 (cells, cells), by rows and columns apart."""
    cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    apart = (cells[:, None] - cells[None]).abs()
    return apart[..., 0] * window + apart[..., 1]


class _Perceptron(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        mapped: torch.Tensor = self.fc2(F.gelu(self.fc1(self.norm(cells))))
        return mapped
