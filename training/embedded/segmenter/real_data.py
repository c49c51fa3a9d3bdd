# SPDX-License-Identifier: Apache-2.0
"""Real labelled volumes that the segmenter is judged on, and never trained on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medreasoner_infer.imaging.window import (
    CT_PRESETS,
    Window,
    apply_window,
    percentile_window,
)
from medreasoner_infer.types import XY, SliceImage
from medreasoner_training.embedded.labelled_images import read_labelled

_LUNG = re.compile(r"lung|trachea")
_BONE = re.compile(r"vertebra|rib_|hip_|sacrum|femur|humerus|scapula|clavicula|sternum|skull")


@dataclass(frozen=True)
class LabelledVolume:
    """A volume and its labels on one grid, both (slices, H, W).

    ``label_names`` maps label values to structures; ``min_area_px`` is the smallest cross-section
    that is judged, ``slice_spacing_mm`` the distance of two slices.
    """

    name: str
    values: np.ndarray
    labels: np.ndarray
    spacing_xy_mm: XY
    label_names: dict[int, str]
    is_ct: bool
    min_area_px: int
    slice_spacing_mm: float = 1.0

    def window(self, label: int) -> Window:
        """The window that a reader would use for this structure; MR by percentiles."""
        if not self.is_ct:
            return percentile_window(self.values)
        structure = self.label_names[label]
        if _LUNG.match(structure):
            return CT_PRESETS["lung"]
        return CT_PRESETS["bone" if _BONE.match(structure) else "soft_tissue"]

    def slice_image(self, index: int, label: int) -> SliceImage:
        """One slice in the window of a structure."""
        window = self.window(label)
        pixels = apply_window(self.values[index], window)
        return SliceImage(pixels, self.spacing_xy_mm, f"{self.name}/{index}/{window.name}")

    def sections(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Slice index, label and mask of each cross-section that is large enough."""
        for index, plane in enumerate(self.labels):
            values, counts = np.unique(plane, return_counts=True)
            for label, count in zip(values, counts, strict=True):
                if label and count >= self.min_area_px:
                    yield index, int(label), plane == label


@dataclass(frozen=True)
class FrameStack:
    """The slices of a volume in the window of one structure, made when asked for."""

    volume: LabelledVolume
    label: int

    def __len__(self) -> int:
        return len(self.volume.values)

    def __getitem__(self, index: int, /) -> SliceImage:
        """The slice at ``index``."""
        return self.volume.slice_image(index, self.label)


def load_volumes(data: Path) -> list[LabelledVolume]:
    """Load the three labelled sets (CT, MR, CT as DICOM) of TotalSegmentator's test files.

    Args:
        data: folder with ``manifest.json`` and ``totalsegmentator/``.

    Raises:
        FileNotFoundError: if it is not such a folder.
    """
    folder = data / "totalsegmentator"
    if not folder.is_dir():
        raise FileNotFoundError(f"{data} holds no folder 'totalsegmentator'.")
    names = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["label_names"]
    total, mr = (
        {int(k): v for k, v in table.items()}
        for table in (_starting(names, "total ("), _starting(names, "total_mr ("))
    )
    return [
        _load(name, folder / image, folder / labels, label_names, is_ct, min_px)
        for name, image, labels, label_names, is_ct, min_px in (
            ("CT", "example_ct.nii.gz", "example_seg_fast_force_split.nii.gz", total, True, 50),
            ("MR", "example_mr_sm.nii.gz", "example_seg_mr.nii.gz", mr, False, 50),
            ("CT (DICOM)", "example_ct_dicom", "example_seg_dicom.nii.gz", total, True, 200),
        )
    ]


def _starting(tables: dict, prefix: str) -> dict:
    return next(table for name, table in tables.items() if name.startswith(prefix))


def _load(
    name: str, image_path: Path, label_path: Path, names: dict[int, str], is_ct: bool, min_px: int
) -> LabelledVolume:
    import SimpleITK as sitk

    image, labels = read_labelled(image_path, label_path)
    return LabelledVolume(
        name,
        sitk.GetArrayFromImage(image).astype(np.float32),
        sitk.GetArrayFromImage(labels),
        image.GetSpacing()[:2],
        names,
        is_ct,
        min_px,
        image.GetSpacing()[2],
    )
