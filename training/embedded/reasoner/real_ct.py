# SPDX-License-Identifier: Apache-2.0
"""Questions about real CT slices with public TotalSegmentator labels, for evaluation only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medreasoner_infer.imaging.window import CT_PRESETS

from ..labelled_images import read_labelled
from ..phantom.anatomy import Label
from ..phantom.scanner import apply_window, letterbox
from ..queries import known_targets
from .samples import SIZE_PX
from .targets import ground_truth

TOTALSEGMENTATOR: dict[Label, tuple[int, ...]] = {
    Label.SPLEEN: (1,),
    Label.RIGHT_KIDNEY: (2,),
    Label.LEFT_KIDNEY: (3,),
    Label.GALLBLADDER: (4,),
    Label.LIVER: (5,),
    Label.STOMACH: (6,),
    Label.PANCREAS: (7,),
    Label.LEFT_LUNG: (10, 11),
    Label.RIGHT_LUNG: (12, 13, 14),
    Label.TRACHEA: (16,),
    Label.BLADDER: (21,),
    Label.SPINE: tuple(range(26, 51)),
    Label.HEART: (51,),
    Label.AORTA: (52,),
    Label.VENA_CAVA: (63,),
}
"""Label values of the ``total`` task of TotalSegmentator v2 that make up each target."""

VOLUMES = (
    ("example_ct.nii.gz", "example_seg_fast_force_split.nii.gz"),
    ("example_ct_dicom", "example_seg_dicom.nii.gz"),
)


@dataclass(frozen=True)
class RealSlice:
    """A letterboxed real slice in the soft-tissue window; both uint8 of shape (S, S)."""

    grey: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class LabelledCt:
    """A CT volume turned to LPS, with the targets' labels.

    ``hu`` and ``labels`` are of shape (K, rows, columns), each slice as displayed; ``ijk_to_lps``
    (4, 4) maps (column, row, K) to millimetres.
    """

    hu: np.ndarray
    labels: np.ndarray
    ijk_to_lps: np.ndarray


def labelled_volumes(folder: Path) -> Iterator[LabelledCt]:
    """Each volume of ``VOLUMES``, read from the folder of TotalSegmentator's test files."""
    import SimpleITK as sitk

    for image_name, label_name in VOLUMES:
        image, labels = read_labelled(folder / image_name, folder / label_name)
        table = np.zeros(256, np.uint8)
        for label, sources in TOTALSEGMENTATOR.items():
            table[list(sources)] = label
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        values = sitk.GetArrayFromImage(labels).astype(np.uint8)
        yield LabelledCt(sitk.GetArrayFromImage(image), table[values], affine)


def real_slices(shared_data: Path) -> list[RealSlice]:
    """All slices of both volumes, prepared as the inference library prepares them."""
    window = CT_PRESETS["soft_tissue"]
    slices = []
    for volume in labelled_volumes(shared_data / "totalsegmentator"):
        for section, section_labels in zip(volume.hu, volume.labels, strict=True):
            grey = apply_window(section, window.center, window.width)
            slices.append(RealSlice(*letterbox(grey, section_labels, SIZE_PX)))
    return slices


def present_cases(slices: list[RealSlice], per_target: int = 8) -> list[tuple[int, Label]]:
    """Slices on which a target is large: at least half of its largest section."""
    cases = []
    for label in TOTALSEGMENTATOR:
        areas = np.array([(s.labels == label).sum() for s in slices])
        largest = np.nonzero(areas >= 0.5 * max(1, areas.max()))[0]
        large = [int(i) for i in largest if ground_truth(slices[i].labels, label) is not None]
        picks = np.unique(np.linspace(0, len(large) - 1, min(per_target, len(large))).astype(int))
        cases += [(large[i], label) for i in picks if large]
    return cases


def absent_cases(slices: list[RealSlice], every: int = 6) -> list[tuple[int, Label]]:
    """Targets with labels in the data set that do not appear on every ``every``-th slice."""
    cases = []
    for number, index in enumerate(range(0, len(slices), every)):
        missing = [t for t in TOTALSEGMENTATOR if not (slices[index].labels == t).any()]
        cases += [
            (index, missing[(number + k) % len(missing)]) for k in range(min(2, len(missing)))
        ]
    return cases


def phrasing(label: Label, number: int, held_out: bool) -> str:
    """The ``number``-th question about a target, beginning anew behind the last."""
    target = known_targets()[label]
    choices = target.held_out if held_out else target.trained
    return choices[number % len(choices)]
