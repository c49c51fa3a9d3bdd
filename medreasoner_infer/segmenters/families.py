# SPDX-License-Identifier: Apache-2.0
"""The families of segmenters that the registry names, and who loads them."""

from __future__ import annotations

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.segmenters.base import Segmenter
from medreasoner_infer.segmenters.loading import load_sam2
from medreasoner_infer.segmenters.sam_loading import load_litemedsam, load_medsam, load_sam_med2d
from medreasoner_infer.types import ModelSpec

_LOADERS = {
    "sam2": load_sam2,
    "medsam": load_medsam,
    "litemedsam": load_litemedsam,
    "sam-med2d": load_sam_med2d,
}


def load_segmenter(spec: ModelSpec, *, device: str = "auto") -> Segmenter:
    """Load a segmenter of any family.

    Args:
        spec: where the weights are and how the network is built.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``...

    Raises:
        ModelUnavailableError: if the weights cannot be loaded.
        MissingExtraError: if the package that holds them is not installed.
    """
    load = _LOADERS.get(spec.family)
    if load is None:
        raise ModelUnavailableError(
            f"{spec.name} is of the family {spec.family!r}; expected one of {', '.join(_LOADERS)}."
        )
    return load(spec, device=device)
