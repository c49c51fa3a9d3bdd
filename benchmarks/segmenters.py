# SPDX-License-Identifier: Apache-2.0
"""Segmenters on the same real images, from the true box and two points: Dice and seconds.

Run: ``python benchmarks/segmenters.py --data FOLDER --models embedded litemedsam``. FOLDER holds
``manifest.json`` with images, masks, modalities and splits. It prints a table for each modality and
for all: the mean Dice of every segmenter and of the ellipse inscribed in the box, then the seconds
of a first prompt, which encodes the image, and of a further one.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
from PIL import Image

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import Segmenter, load_segmenter
from medreasoner_infer.types import XYXY, SliceImage, SlicePrompt
from medreasoner_training.rewards import dice

ELLIPSE = "ellipse in the box"
ALL = "all"


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options; every field is a command line option."""

    data: str = field(metadata={"help": "folder with manifest.json"})
    models: list[str] = field(default_factory=lambda: ["embedded"])
    per_modality: int = 3
    one_part: bool = field(default=False, metadata={"help": "no targets of several parts"})
    seed: int = 0
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Case:
    """A picture, the true target, bool (H, W), and its modality."""

    modality: str
    image: SliceImage
    truth: np.ndarray


def read_cases(folder: Path, per_modality: int, seed: int, one_part: bool) -> list[Case]:
    """As many test images of each modality, drawn by the seed, maybe of connected targets only."""
    rows = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    test = [row for row in rows if row["split"] == "test"]
    test = [row for row in test if not one_part or row["components"] == 1]
    drawn = defaultdict(list)
    for number in np.random.default_rng(seed).permutation(len(test)):
        drawn[test[number]["modality"]].append(test[number])
    return [_case(folder, row) for name in sorted(drawn) for row in drawn[name][:per_modality]]


def _case(folder: Path, row: dict) -> Case:
    picture = Image.open(folder / row["image"])
    pixels = np.array(picture.convert("L" if picture.mode in ("L", "I;16", "1") else "RGB"))
    truth = np.array(Image.open(folder / row["mask"]).convert("L")) > 0
    return Case(row["modality"], SliceImage(pixels, (1.0, 1.0), row["mask"]), truth)


def inscribed_ellipse(box: XYXY, shape_hw: tuple[int, int]) -> np.ndarray:
    """What a segmenter that never looks would answer."""
    x1, y1, x2, y2 = box
    y, x = np.mgrid[: shape_hw[0], : shape_hw[1]] + 0.5
    across, down = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    return across**2 + down**2 <= 1


def measure(options: BenchmarkOptions) -> None:
    """Segment all cases with all models and print the tables."""
    segmenters: dict[str, Segmenter] = {
        name: load_segmenter(resolve_model("segmenter", name), device=options.device)
        for name in options.models
    }
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    cases = read_cases(Path(options.data), options.per_modality, options.seed, options.one_part)
    for number, case in enumerate(cases):
        box = bbox_from_mask(case.truth)
        prompt = SlicePrompt(box, key_points_from_mask(case.truth), (1, 1))
        masks = {ELLIPSE: inscribed_ellipse(box, case.truth.shape)}
        for name, segmenter in segmenters.items():
            for which in ("first", "further"):
                start = time.perf_counter()
                masks[name] = segmenter.segment_slice(case.image, prompt).mask
                seconds[name][which].append(time.perf_counter() - start)
        for name, mask in masks.items():
            for group in (case.modality, ALL):
                scores[group][name].append(dice(mask, case.truth))
        print(f"{number + 1} of {len(cases)}", file=sys.stderr)
    _print_tables(scores, seconds)


def _print_tables(
    scores: dict[str, dict[str, list[float]]], seconds: dict[str, dict[str, list[float]]]
) -> None:
    names = list(scores[ALL])
    print("| modality | images | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for group, found in scores.items():
        cells = " | ".join(f"{mean(found[name]):.3f}" for name in names)
        print(f"| {group} | {len(found[names[0]])} | {cells} |")
    print("\n| segmenter | s, first prompt | s, further prompt |\n|---|---|---|")
    for name, times in seconds.items():
        print(f"| {name} | {median(times['first']):.3f} | {median(times['further']):.3f} |")


def main() -> None:
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(BenchmarkOptions).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    measure(options)


if __name__ == "__main__":
    main()
