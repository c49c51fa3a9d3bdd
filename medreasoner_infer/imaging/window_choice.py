# SPDX-License-Identifier: Apache-2.0
"""Which window a volume is displayed with: the one asked for, or the one its modality calls for."""

from __future__ import annotations

import numpy as np

from medreasoner_infer.errors import ImageKindError, InputError
from medreasoner_infer.imaging.volume import Volume
from medreasoner_infer.imaging.window import CT_PRESETS, Window, parse_window, percentile_window


def choose_window(volume: Volume, spec: str | Window | None = None) -> Window | None:
    """The window to display a volume with; ``None`` shows 8-bit and colour images as they are.

    An explicit ``spec`` wins; ``"stored"`` asks for the one in the DICOM file. Otherwise CT gets
    the soft-tissue window, and everything else that is not 8-bit the 0.5th to 99.5th percentile of
    the voxels that show tissue, because MR and radiograph intensities have no absolute scale.

    Raises:
        InputError: the text is not a window, or "stored" is asked for and none is stored.
        ImageKindError: a CT preset for an image of another modality, or any window for colour.
    """
    if isinstance(spec, str) and spec.strip().lower() == "stored":
        return _stored_window(volume)
    window = spec if isinstance(spec, Window) else parse_window(spec)
    if window is not None:
        _require_fit(window, volume)
        return window
    if volume.is_colour or volume.array.dtype == np.uint8:
        return None
    if volume.modality == "CT":
        return CT_PRESETS["soft_tissue"]
    return percentile_window(volume.array, volume.padding)


def _stored_window(volume: Volume) -> Window:
    if volume.stored_window is None:
        raise InputError(
            "The image file stores no window. Leave the window empty, or give one such as '40/400'."
        )
    return volume.stored_window


def _require_fit(window: Window, volume: Volume) -> None:
    if volume.is_colour:
        raise ImageKindError(
            f"The window {window} was asked for, but this is a colour image, which is shown as it "
            "is. Leave the window empty."
        )
    if CT_PRESETS.get(window.name) == window and volume.modality not in ("CT", "OT"):
        raise ImageKindError(
            f"The window {window} is in Hounsfield units, but this image is {volume.modality}. "
            "Leave the window empty, or give centre and width in the image's own values."
        )
