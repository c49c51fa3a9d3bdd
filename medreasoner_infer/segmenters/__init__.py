# SPDX-License-Identifier: Apache-2.0
"""Promptable segmenters: from a box and points to a mask, on a slice and through a volume."""

from __future__ import annotations

from medreasoner_infer.segmenters.base import FrameSource, PropagationStrategy, Segmenter
from medreasoner_infer.segmenters.families import load_segmenter
from medreasoner_infer.segmenters.loading import load_sam2

__all__ = ["FrameSource", "PropagationStrategy", "Segmenter", "load_sam2", "load_segmenter"]
