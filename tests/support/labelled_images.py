# SPDX-License-Identifier: Apache-2.0
"""A folder of small images with masks and a manifest, as a site would have it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE_HW = (60, 80)


def ellipse(centre_xy: tuple[int, int], radii_xy: tuple[int, int]) -> np.ndarray:
    """Bool of SIZE_HW."""
    rows, columns = np.ogrid[: SIZE_HW[0], : SIZE_HW[1]]
    (x, y), (rx, ry) = centre_xy, radii_xy
    return ((columns - x) / rx) ** 2 + ((rows - y) / ry) ** 2 <= 1


LIVER = ellipse((22, 26), (16, 12))
KIDNEY = ellipse((60, 40), (7, 9))
LEFT_LUNG = ellipse((58, 28), (12, 20))
RIGHT_LUNG = ellipse((22, 28), (12, 20))


def labelled_folder(folder: Path, images: int = 6) -> Path:
    """CT slices with liver and kidney, radiographs with both lungs, in turn; half of them train."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    listed = []
    for number in range(images):
        torso = number % 2 == 0
        masks = (
            {"liver": LIVER, "kidney": KIDNEY}
            if torso
            else {"left lung": LEFT_LUNG, "right lung": RIGHT_LUNG}
        )
        pixels = np.full(SIZE_HW, 40 + number, np.uint8)
        for label, mask in masks.items():
            pixels[mask] = 120 + 10 * len(label)
        name = f"images/{number}.png"
        Image.fromarray(pixels).save(folder / name)
        for label, mask in masks.items():
            path = f"masks/{number}__{label.replace(' ', '_')}.png"
            Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(folder / path)
            listed.append(
                {
                    "image": name,
                    "mask": path,
                    "label": label,
                    "modality": "CT" if torso else "X-ray",
                    "super_category": "abdomen" if torso else "lung",
                    "patient": f"p{number}",
                    "split": "train" if number < images // 2 else "test",
                    "licence": "CC0-1.0" if number < images // 2 else "CC-BY-NC-4.0",
                    "may_train": number < images // 2,
                }
            )
    (folder / "manifest.json").write_text(json.dumps(listed))
    return folder
