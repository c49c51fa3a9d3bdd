# SPDX-License-Identifier: Apache-2.0
"""Dice on cross-sections of real volumes: the model, its baselines, its peers, other prompts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medreasoner_infer.segmenters import Segmenter
from medreasoner_infer.types import SliceImage, SlicePrompt
from medreasoner_training.embedded.reasoner.scoring import mean_with_interval
from medreasoner_training.embedded.segmenter.classical import CLASSICAL
from medreasoner_training.embedded.segmenter.gallery import JudgedSection
from medreasoner_training.embedded.segmenter.measures import (
    filled_box,
    inscribed_ellipse,
    true_prompt,
)
from medreasoner_training.embedded.segmenter.real_data import LabelledVolume
from medreasoner_training.rewards import dice

#: From a displayed slice and a prompt to a mask, bool (H, W).
Method = Callable[[SliceImage, SlicePrompt], np.ndarray]


@dataclass(frozen=True)
class Section:
    """One cross-section of one structure; the mask is read from the volume when needed."""

    volume: LabelledVolume
    index: int
    label: int

    @property
    def title(self) -> str:
        """Set and structure."""
        return f"{self.volume.name}: {self.volume.label_names[self.label]}"

    @property
    def truth(self) -> np.ndarray:
        """The label's mask, bool (H, W)."""
        return self.volume.labels[self.index] == self.label

    @property
    def image(self) -> SliceImage:
        """The slice in the window of the structure."""
        return self.volume.slice_image(self.index, self.label)

    def judge(self, method: Method) -> JudgedSection:
        """Segment from the true prompt and compare."""
        truth, image = self.truth, self.image
        prompt = true_prompt(truth, self.volume.spacing_xy_mm)
        answer = method(image, prompt)
        return JudgedSection(
            f"{self.title}, slice {self.index}", image, prompt, truth, answer, dice(answer, truth)
        )


@dataclass(frozen=True)
class ScoredSection:
    """A cross-section and the model's Dice on it."""

    section: Section
    dice: float

    @property
    def title(self) -> str:
        """Set and structure."""
        return self.section.title


def sections_of(volume: LabelledVolume, limit: int | None, seed: int) -> list[Section]:
    """All cross-sections of a volume, or a random choice of ``limit``, the same for each run."""
    sections = [Section(volume, index, label) for index, label, _ in volume.sections()]
    if limit is None or limit >= len(sections):
        return sections
    order = np.random.default_rng(seed).permutation(len(sections))[:limit]
    return [sections[i] for i in sorted(order)]


def prompted(segmenter: Segmenter) -> Method:
    """Segment from box and points, as the pipeline does."""
    return lambda image, prompt: segmenter.segment_slice(image, prompt).mask


def by_box(segmenter: Segmenter) -> Method:
    """Segment from the box of a prompt only."""
    return lambda image, prompt: prompted(segmenter)(
        image, replace(prompt, points_xy_px=(), point_labels=())
    )


def by_points(segmenter: Segmenter) -> Method:
    """Segment from the two key points of a prompt only."""
    return lambda image, prompt: prompted(segmenter)(image, replace(prompt, bbox_xyxy_px=None))


BASELINES: dict[str, Method] = {
    "ellipse": lambda image, prompt: inscribed_ellipse(prompt, image.pixels.shape[:2]),
    "box": lambda image, prompt: filled_box(prompt, image.pixels.shape[:2]),
}


def evaluate_sections(
    segmenter: Segmenter, volume: LabelledVolume, limit: int | None, seed: int
) -> tuple[dict, list[ScoredSection]]:
    """Dice on the cross-sections of a volume beside what the box alone gives away.

    Returns:
        The figures, with a row (slice index, label, Dice) for each section, and the scores.
    """
    sections = sections_of(volume, limit, seed)
    scores = {
        name: [section.judge(method).dice for section in sections]
        for name, method in {"model": prompted(segmenter), **BASELINES}.items()
    }
    scored = [
        ScoredSection(section, value)
        for section, value in zip(sections, scores["model"], strict=True)
    ]
    gain = np.subtract(scores["model"], scores["ellipse"])
    figures = {
        **{name: mean_with_interval(values, seed=seed) for name, values in scores.items()},
        "model_minus_ellipse": mean_with_interval(gain, seed=seed),
        "structures": by_structure(scored),
        "scores": [[s.section.index, s.section.label, round(s.dice, 4)] for s in scored],
    }
    return figures, scored


def by_structure(scored: Sequence[ScoredSection]) -> dict[str, dict]:
    """Number of sections and mean Dice of each structure."""
    values: dict[str, list[float]] = defaultdict(list)
    for item in scored:
        values[item.section.volume.label_names[item.section.label]].append(item.dice)
    return {
        name: {"n": len(found), "mean": round(float(np.mean(found)), 4)}
        for name, found in sorted(values.items())
    }


def compare_methods(
    segmenter: Segmenter,
    unzoomed: Segmenter | None,
    volume: LabelledVolume,
    count: int,
    seed: int,
) -> dict[str, dict]:
    """Dice and seconds of ways to answer the same prompts, on the same random sections.

    Args:
        segmenter: the model as it is used.
        unzoomed: the model on whole slices, where it would otherwise zoom.
        volume: the images.
        count: number of sections.
        seed: chooses them.
    """
    methods: dict[str, Method] = {
        "model": prompted(segmenter),
        **BASELINES,
        **CLASSICAL,
        "box_only": by_box(segmenter),
        "points_only": by_points(segmenter),
    }
    if unzoomed is not None:
        methods["whole_slice"] = prompted(unzoomed)
    sections = sections_of(volume, count, seed)
    return {name: _timed(method, sections, seed) for name, method in methods.items()}


def _timed(method: Method, sections: Sequence[Section], seed: int) -> dict:
    scores, seconds = [], []
    for section in sections:
        truth, image = section.truth, section.image
        prompt = true_prompt(truth, section.volume.spacing_xy_mm)
        # A key of its own keeps the model from finding an embedding of the run before.
        image = replace(image, key=f"{image.key}/{id(method)}/{section.label}")
        started = time.perf_counter()
        answer = method(image, prompt)
        seconds.append(time.perf_counter() - started)
        scores.append(dice(answer, truth))
    return {
        **mean_with_interval(scores, seed=seed),
        "median_seconds": round(float(np.median(seconds)), 4),
    }
