# SPDX-License-Identifier: Apache-2.0
"""Write an answered question as files: answer.json, the mask and a picture to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.imaging import (
    OverlayContent,
    Plane,
    Volume,
    Window,
    edge_letters,
    slice_image,
    slice_mapping,
    slice_values,
    write_mask,
    write_overlay,
)
from medreasoner_infer.imaging.write import replacing


def write_result(
    record: Mapping[str, Any],
    mask_ijk: np.ndarray,
    volume: Volume,
    folder: Path,
    *,
    suffix: str = "",
) -> tuple[Path, Path, Path]:
    """Write one result into ``folder`` (made if absent), each file atomically.

    Args:
        record: :meth:`medreasoner_infer.result.InferenceResult.to_dict`, here or from a server.
        mask_ijk: uint8 (I, J, K) on the grid of ``volume``.
        volume: the image that the question was about.
        folder: where to write.
        suffix: put behind each file's stem, e.g. ``_1``.

    Returns:
        The paths of the answer, the mask and the overlay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answer = folder / f"answer{suffix}.json"
    with replacing(answer, ".json") as unfinished:
        text = json.dumps(record, indent=2, ensure_ascii=False)
        unfinished.write_text(text + "\n", encoding="utf-8")
    is_one_picture = volume.is_picture and volume.shape_ijk[2] == 1
    mask = folder / f"mask{suffix}{'.png' if is_one_picture else '.nii.gz'}"
    write_mask(mask_ijk, volume, mask)
    overlay = folder / f"overlay{suffix}.png"
    write_overlay(overlay_content(record, mask_ijk, volume), overlay)
    return answer, mask, overlay


def overlay_content(
    record: Mapping[str, Any], mask_ijk: np.ndarray, volume: Volume
) -> OverlayContent:
    """What the picture of a result shows; the record alone says which slice and window."""
    shown = record["slice"]
    mapping = slice_mapping(volume, Plane(shown["plane"]), shown["index"])
    window = None
    if shown["window_center"] is not None:
        window = Window(shown["window_center"], shown["window_width"], shown["window_name"])
    prompts = record["prompts"] or {}
    box = prompts.get("bbox_xyxy_slice_px")
    mask_volume = Volume(mask_ijk, volume.ijk_to_lps, "OT", "mask", volume.source)
    models = {role: record[role] for role in ("reasoner", "segmenter") if record[role] is not None}
    notices = dict.fromkeys(m["notice"] for m in models.values() if m["notice"])
    return OverlayContent(
        image=slice_image(volume, mapping, window),
        mask=slice_values(mask_volume, mapping) > 0,
        bbox_xyxy_px=None if box is None else tuple(box),
        points_xy_px=tuple((x, y) for x, y in prompts.get("points_xy_slice_px", ())),
        point_labels=tuple(prompts.get("point_labels", ())),
        edge_letters=edge_letters(volume, mapping),
        scale_known=volume.spacing_known,
        caption=_caption(shown, window),
        question=record["query"] or "",
        reasoning=record["reasoning"] or "",
        outcome=_outcome(record),
        present=record["present"],
        models=tuple(f"{role}: {m['name']}" for role, m in models.items()),
        notice=" ".join(notices) or None,
        warnings=tuple(record["warnings"]),
    )


def _caption(shown: Mapping[str, Any], window: Window | None) -> str:
    text = f"{shown['plane']} slice {shown['index']} of 0 to {shown['count'] - 1}"
    return text if window is None else f"{text}, {window}"


def _outcome(record: Mapping[str, Any]) -> str:
    if not record["present"]:
        return "Target not present on this slice."
    mask = record["mask"]
    text = f"Target found: {mask['slice_area_mm2'] / 100:.1f} cm² on this slice"
    if record["propagated"] and mask["slice_range"] is not None:
        first, last = mask["slice_range"]
        text += f", {mask['volume_mm3'] / 1000:.1f} cm³ on slices {first} to {last}"
    if record["confidence"] is not None:
        text += f"; confidence {record['confidence']:.2f}"
    if record["agreement"] is not None:
        text += f", agreement of samples {record['agreement']:.2f}"
    return text + "."
