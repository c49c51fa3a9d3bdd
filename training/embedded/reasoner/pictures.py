# SPDX-License-Identifier: Apache-2.0
"""Pictures that are no sections of a torso: real ones that may be trained on, simple phantoms of
other kinds, and pictures of no kind that is known."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from ..phantom.anatomy import Label
from ..phantom.eye_pictures import angiography_picture, fundus_picture
from ..phantom.lesion_pictures import brain_picture, skin_picture
from ..phantom.projections import Radiograph, chest_radiograph
from ..phantom.scanner import letterbox
from ..questions.known import REAL_LABELS
from .targets import GroundTruth, truth_of_mask

SINGLE_OF_MANY = frozenset({"nucleus", "nucleus 2"})
"""Labels of one among many alike, which no question can tell apart from the others."""
PHANTOM_KINDS = ("X-ray", "dermoscopy", "brain MR")
"""No real picture of these may be trained on."""
STAND_IN_KINDS = ("fundus", "OCTA")
"""Of these phantoms are shown where no real pictures are at hand."""
_ONE_TARGET = {
    "dermoscopy": ("skin lesion", skin_picture),
    "brain MR": ("brain lesion", brain_picture),
    "fundus": ("optic disc", fundus_picture),
    "OCTA": ("foveal avascular zone", angiography_picture),
}
RADIOGRAPHS, RADIOGRAPH_SEED = 200, 77
"""A projection takes a second, so that each is shown many times, in other crops."""
SIDED = {"left lung": "left lung", "right lung": "right lung"}


@dataclass(frozen=True)
class Picture:
    """A real image: grey uint8 (H, W), its modality, and the mask of each target, bool (H, W)."""

    grey: np.ndarray
    modality: str
    masks: dict[str, np.ndarray]


def training_pictures(real_data: Path) -> tuple[Picture, ...]:
    """The images of ``real_data/manifest.json`` that may be trained on.

    Raises:
        FileNotFoundError: the folder holds no manifest.
    """
    rows = json.loads((real_data / "manifest.json").read_text(encoding="utf-8"))
    return pictures(real_data, [row for row in rows if row["may_train"]])


def pictures(real_data: Path, rows: list[dict]) -> tuple[Picture, ...]:
    """The images of some rows of the manifest, with the masks of these rows."""
    by_image: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for row in rows:
        if row["label"] not in SINGLE_OF_MANY:
            by_image[row["image"], row["modality"]].append(row)
    return tuple(
        Picture(
            _read(real_data / image),
            modality,
            {target_of(row["label"]): _read(real_data / row["mask"]) > 127 for row in found},
        )
        for (image, modality), found in by_image.items()
    )


def target_of(label: str) -> str:
    """Target of the vocabulary for a label of the manifest, with its side."""
    return SIDED.get(label, REAL_LABELS[label])


def phantom_kinds(real: Collection[str]) -> tuple[str, ...]:
    """The kinds that phantoms are shown of beside real pictures of the kinds ``real``."""
    return tuple(kind for kind in (*PHANTOM_KINDS, *STAND_IN_KINDS) if kind not in real)


def phantom_picture(modality: str, rng: np.random.Generator) -> Picture:
    """A phantom of one of ``PHANTOM_KINDS`` or ``STAND_IN_KINDS``."""
    if modality == "X-ray":
        radiograph = _radiograph(int(rng.integers(RADIOGRAPHS)))
        return Picture(radiograph.grey, modality, dict(radiograph.masks))
    target, draw = _ONE_TARGET[modality]
    grey, mask = draw(rng)
    return Picture(grey, modality, {target: mask})


@lru_cache(maxsize=RADIOGRAPHS)
def _radiograph(number: int) -> Radiograph:
    return chest_radiograph(np.random.default_rng([RADIOGRAPH_SEED, number]))


@lru_cache(maxsize=2048)
def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def drawn(
    picture: Picture, size_px: int, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, GroundTruth]]:
    """A picture as it might have been taken as well: cropped, flipped, brighter, letterboxed.

    Chest and heart keep their sides. Targets that the crop nearly loses are left out.

    Returns:
        grey uint8 (S, S), and the truth of each visible target.
    """
    names = list(picture.masks)
    layers = np.stack([picture.grey, *(picture.masks[n].astype(np.uint8) for n in names)])
    layers = _cropped(layers, rng)
    if picture.modality not in ("X-ray", "cardiac MR", "spine MR"):
        if rng.random() < 0.5:
            layers = layers[:, :, ::-1]
        if picture.modality not in ("ultrasound", "brain MR") and rng.random() < 0.5:
            layers = layers[:, ::-1]
    grey = 255 * (layers[0] / 255.0) ** rng.uniform(0.75, 1.35) * rng.uniform(0.85, 1.1)
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    return boxed(grey, {n: layers[1 + i] > 0 for i, n in enumerate(names)}, size_px)


def boxed(
    grey: np.ndarray, masks: dict[str, np.ndarray], size_px: int
) -> tuple[np.ndarray, dict[str, GroundTruth]]:
    """A picture in the reasoner's square, and the truth of each target that is large enough."""
    square = grey
    truths = {}
    for name, mask in masks.items():
        square, label = letterbox(np.ascontiguousarray(grey), mask.astype(np.uint8), size_px)
        truth = truth_of_mask(label > 0, Label.BACKGROUND)
        if truth is not None:
            truths[name] = truth
    return square, truths


def _cropped(layers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    _, rows, columns = layers.shape
    height, width = (int(n * rng.uniform(0.78, 1.0)) for n in (rows, columns))
    top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
    crop = layers[:, top : top + height, left : left + width]
    kept = crop[1:].sum((1, 2)) >= 0.8 * layers[1:].sum((1, 2))
    return crop if kept.all() else layers


def unknown_picture(size_px: int, rng: np.random.Generator) -> np.ndarray:
    """Noise, clouds, stripes, shapes or nothing: uint8 (S, S)."""
    draw = rng.integers(5)
    noise = rng.standard_normal((size_px, size_px))
    if draw == 0:
        return np.full((size_px, size_px), int(rng.integers(256)), np.uint8)
    if draw == 1:
        grey = noise
    elif draw == 2:
        grey = ndimage.gaussian_filter(noise, rng.uniform(1.0, 16.0))
    elif draw == 3:
        y, x = np.mgrid[:size_px, :size_px] / size_px
        grey = np.sin((x * rng.normal() + y * rng.normal()) * rng.uniform(5, 60))
    else:
        grey = _shapes(size_px, rng)
    low, high = grey.min(), grey.max()
    return ((grey - low) / max(1e-6, high - low) * 255).astype(np.uint8)


def _shapes(size_px: int, rng: np.random.Generator) -> np.ndarray:
    grey = np.zeros((size_px, size_px))
    for _ in range(int(rng.integers(2, 12))):
        top, left = rng.integers(0, size_px - 8, 2)
        height, width = rng.integers(4, size_px // 2, 2)
        grey[top : top + height, left : left + width] = rng.random()
    return grey
