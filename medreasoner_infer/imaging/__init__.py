# SPDX-License-Identifier: Apache-2.0
"""Images: reading them, showing a slice, going between coordinate frames, writing masks.

Importing this package loads numpy only; nibabel, SimpleITK, pydicom, Pillow and matplotlib are
loaded by the functions that need them.
"""

from __future__ import annotations

from medreasoner_infer.imaging.io import load_volume
from medreasoner_infer.imaging.mapping import (
    DEFAULT_MODEL_SIZE,
    SliceMapping,
    edge_letters,
    slice_count,
    slice_index_at,
    slice_mapping,
)
from medreasoner_infer.imaging.overlay import write_overlay
from medreasoner_infer.imaging.overlay_content import OverlayContent
from medreasoner_infer.imaging.plane import DisplayAxes, Plane, default_plane, display_axes
from medreasoner_infer.imaging.slices import (
    SliceStack,
    letterbox,
    put_mask,
    put_values,
    slice_image,
    slice_of_mask,
    slice_values,
)
from medreasoner_infer.imaging.volume import Volume
from medreasoner_infer.imaging.window import CT_PRESETS, Window, apply_window, parse_window
from medreasoner_infer.imaging.window_choice import choose_window
from medreasoner_infer.imaging.write import write_mask

__all__ = [
    "CT_PRESETS",
    "DEFAULT_MODEL_SIZE",
    "DisplayAxes",
    "OverlayContent",
    "Plane",
    "SliceMapping",
    "SliceStack",
    "Volume",
    "Window",
    "apply_window",
    "choose_window",
    "default_plane",
    "display_axes",
    "edge_letters",
    "letterbox",
    "load_volume",
    "parse_window",
    "put_mask",
    "put_values",
    "slice_count",
    "slice_image",
    "slice_index_at",
    "slice_mapping",
    "slice_of_mask",
    "slice_values",
    "write_mask",
    "write_overlay",
]
