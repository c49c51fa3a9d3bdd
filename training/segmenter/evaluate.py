# SPDX-License-Identifier: Apache-2.0
"""Judge a segmenter on real volumes: ``python -m medreasoner_training.segmenter.evaluate``.

Every cross-section of every labelled structure is prompted with the box and the two key points of
its true mask. Volumes are segmented from the prompts of an organ's middle slice. Results go to a
JSON file and, with ``--card``, into the model card.
"""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.models.registry import ModelSpec, resolve_model
from medreasoner_infer.segmenters import PropagationStrategy, Segmenter, load_sam2
from medreasoner_infer.types import XY, SlicePrompt
from medreasoner_training.segmenter.card import write_figures
from medreasoner_training.segmenter.real_data import FrameStack, LabelledVolume, load_volumes

logger = logging.getLogger(__name__)

PROPAGATED = ("liver", "spleen", "kidney_right", "kidney_left", "aorta")


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation; every field is a command line option."""

    data: str = field(metadata={"help": "folder with manifest.json and totalsegmentator/"})
    model: str = field(default="embedded", metadata={"help": "registry name or model folder"})
    out: str = field(default="evaluation.json", metadata={"help": "JSON file to write"})
    card: str | None = field(default=None, metadata={"help": "model card to write figures into"})
    limit: int | None = field(
        default=None, metadata={"help": "random sections per set, for a look"}
    )
    threads: int = 1
    seed: int = 0


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two masks; NaN where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else float("nan")


def true_prompt(mask: np.ndarray, spacing_xy_mm: XY) -> SlicePrompt:
    """Box and two key points of a true, non-empty mask."""
    box, points = bbox_from_mask(mask), key_points_from_mask(mask, spacing_xy_mm)
    if box is None or points is None:
        raise ValueError("An empty mask has no prompt.")
    return SlicePrompt(box, points, (1, 1))


def inscribed_ellipse(prompt: SlicePrompt, shape_hw: tuple[int, int]) -> np.ndarray:
    """The ellipse that touches the prompt's box on all sides: what a box alone gives away."""
    x1, y1, x2, y2 = prompt.bbox_xyxy_px
    y, x = np.mgrid[: shape_hw[0], : shape_hw[1]] + 0.5
    u, v = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
    return u**2 + v**2 <= 1


def filled_box(prompt: SlicePrompt, shape_hw: tuple[int, int]) -> np.ndarray:
    """All pixels of the prompt's box."""
    x1, y1, x2, y2 = (int(edge) for edge in prompt.bbox_xyxy_px)
    mask = np.zeros(shape_hw, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def evaluate_sections(
    segmenter: Segmenter, volume: LabelledVolume, limit: int | None, seed: int
) -> dict:
    """Dice on the cross-sections of a volume, beside the two baselines."""
    sections = list(volume.sections())
    if limit is not None:
        order = np.random.default_rng(seed).permutation(len(sections))[:limit]
        sections = [sections[i] for i in order]
    scores: dict[str, list[float]] = defaultdict(list)
    by_structure: dict[str, list[float]] = defaultdict(list)
    for index, label, mask in sections:
        prompt = true_prompt(mask, volume.spacing_xy_mm)
        answer = segmenter.segment_slice(volume.slice_image(index, label), prompt)
        scores["model"].append(dice(answer.mask, mask))
        scores["ellipse"].append(dice(inscribed_ellipse(prompt, mask.shape), mask))
        scores["box"].append(dice(filled_box(prompt, mask.shape), mask))
        by_structure[volume.label_names[label]].append(scores["model"][-1])
    return {
        "sections": len(sections),
        **{name: summary(values, seed) for name, values in scores.items()},
        "model_minus_ellipse": summary(
            np.subtract(scores["model"], scores["ellipse"]).tolist(), seed
        ),
        "structures": {
            name: {"sections": len(values), "mean": float(np.mean(values))}
            for name, values in sorted(by_structure.items())
        },
    }


def summary(values: Sequence[float], seed: int) -> dict:
    """Mean and percentile bootstrap 95 % confidence interval (1,000 resamples)."""
    from scipy.stats import bootstrap

    interval = bootstrap(
        (np.asarray(values),),
        np.mean,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {
        "mean": float(np.mean(values)),
        "ci95": [float(interval.low), float(interval.high)],
    }


def evaluate_propagation(segmenter: Segmenter, volume: LabelledVolume, structure: str) -> dict:
    """Volume Dice from the prompts of the middle slice, and what leaks past the organ's ends."""
    label = next(value for value, name in volume.label_names.items() if name == structure)
    truth = volume.labels == label
    present = np.flatnonzero(truth.any((1, 2)))
    start = int(present[len(present) // 2])
    prompt = true_prompt(truth[start], volume.spacing_xy_mm)
    predicted = np.zeros_like(truth)
    for index, answer in segmenter.propagate(FrameStack(volume, label), start, prompt):
        predicted[index] = answer.mask
    found = predicted.any((1, 2))
    return {
        "dice": dice(predicted, truth),
        "prompted_slice_dice": dice(predicted[start], truth[start]),
        "slices": len(present),
        "slices_missed": int((truth.any((1, 2)) & ~found).sum()),
        "slices_leaked": int((found & ~truth.any((1, 2))).sum()),
        "leaked_volume_ratio": float(predicted[~truth.any((1, 2))].sum() / truth.sum()),
    }


def evaluate(
    load: Callable[[PropagationStrategy | None], Segmenter], options: EvaluationOptions
) -> dict:
    """All figures of a model.

    Args:
        load: makes the segmenter, with its own or the given propagation strategy.
        options: where the data are.
    """
    volumes = load_volumes(Path(options.data))
    segmenter = load(None)
    result: dict = {"model": segmenter.identity.__dict__, "sections": {}, "propagation": {}}
    for volume in volumes:
        scores = evaluate_sections(segmenter, volume, options.limit, options.seed)
        result["sections"][volume.name] = scores
        logger.info("%s: Dice %.3f", volume.name, scores["model"]["mean"])
    for strategy in PropagationStrategy:
        tracker = load(strategy)
        rows = {name: evaluate_propagation(tracker, volumes[0], name) for name in PROPAGATED}
        result["propagation"][strategy.value] = rows
        mean = np.mean([row["dice"] for row in rows.values()])
        logger.info("propagation by %s: volume Dice %.3f", strategy.value, mean)
    return result


def _loader(spec: ModelSpec) -> Callable[[PropagationStrategy | None], Segmenter]:
    def load(strategy: PropagationStrategy | None) -> Segmenter:
        segmenter = load_sam2(spec, device="cpu")
        if strategy is None:
            return segmenter
        settings = replace(segmenter.settings, strategy=strategy)
        return load_sam2(spec, device="cpu", settings=settings)

    return load


def main() -> None:
    """Parse the command line, evaluate, write."""
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(EvaluationOptions).parse_args_into_dataclasses()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    result = evaluate(_loader(resolve_model("segmenter", options.model)), options)
    result["model"].pop("source")  # a path of the machine that measured
    partial = Path(options.out).with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, options.out)
    if options.card:
        write_figures(Path(options.card), result)


if __name__ == "__main__":
    main()
