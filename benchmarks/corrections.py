# SPDX-License-Identifier: Apache-2.0
"""A simulated reader corrects masks by clicks into the largest mistake, or by scribbles through it.

Run: ``python benchmarks/corrections.py --data FOLDER_OF_PUBLIC_IMAGES``. It prints one JSON line.
The first mask comes from a shaken box and shaken key points of the true target, as a reasoner gives
them; ``--semantics replacing`` is how clicks worked before they joined the last mask, ``--marks
scribble`` draws along the core of each mistake.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from medreasoner_infer.corrections import Correction
from medreasoner_infer.keypoints import bbox_from_mask, key_points_from_mask
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import Segmenter, load_sam2
from medreasoner_infer.types import XY, SliceImage, SlicePrompt
from medreasoner_training.embedded.segmenter.real_data import load_volumes
from medreasoner_training.embedded.segmenter.section_scores import sections_of
from medreasoner_training.rewards import dice

SHAKE_OF_BOX, SHAKE_OF_POINTS = 0.07, 0.03
REPORTED_CLICKS = (0, 1, 3, 5)
REPORTED_DICE = (0.85, 0.90)
MOST_LOST = 0.01
# As many as the tab sends of a stroke through a common mistake.
PLACES_OF_STROKE = 8
TOUCHING = np.ones((3, 3), int)


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options; every field is a command line option."""

    data: str = field(metadata={"help": "folder of the public images, with manifest.json"})
    cases: int = field(default=200, metadata={"help": "half of CT and MR, half of data/real"})
    clicks: int = 5
    seed: int = 0
    model: str = "embedded"
    semantics: str = field(default="joining", metadata={"help": "joining or replacing"})
    marks: str = field(default="click", metadata={"help": "click or scribble"})
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Case:
    """A displayed slice, the true target, bool (H, W), and where it comes from."""

    group: str
    image: SliceImage
    truth: np.ndarray


@dataclass(frozen=True)
class Reading:
    """Dice before the first and after each click."""

    group: str
    scores: tuple[float, ...]

    def after(self, clicks: int) -> float:
        """Dice after so many clicks; a reader who sees no mistake clicks no more."""
        return self.scores[min(clicks, len(self.scores) - 1)]

    def clicks_to(self, wanted: float) -> float:
        """Clicks until this Dice, one more than there were if it was never reached."""
        reached = [n for n, score in enumerate(self.scores) if score >= wanted]
        return float(reached[0]) if reached else float(len(self.scores))


#: From a displayed slice, the prompt with all points so far, how many of them are the reader's, how
#: many are new, and the last mask to the next mask.
Correct = Callable[[SliceImage, SlicePrompt, int, int, np.ndarray], np.ndarray]


def joining(segmenter: Segmenter) -> Correct:
    """The reader's points join the model's and the last mask, as the pipeline does it."""
    return lambda image, prompt, own, new, mask: (
        Correction(prompt, new, mask).apply(segmenter.segment_slice, image).mask
    )


def replacing(segmenter: Segmenter) -> Correct:
    """The reader's points take the place of the model's; nothing is known of the last mask."""

    def correct(
        image: SliceImage, prompt: SlicePrompt, own: int, new: int, _: np.ndarray
    ) -> np.ndarray:
        points, labels = prompt.points_xy_px[-own:], prompt.point_labels[-own:]
        alone = SlicePrompt(prompt.bbox_xyxy_px, points, labels)
        return segmenter.segment_slice(image, alone).mask

    return correct


SEMANTICS = {"joining": joining, "replacing": replacing}


def volume_cases(data: Path, count: int, seed: int) -> list[Case]:
    """Cross-sections of structures of the labelled CT and MR, as many of each set."""
    volumes = load_volumes(data)
    cases = []
    for number, volume in enumerate(volumes):
        share = count // len(volumes) + (number < count % len(volumes))
        cases += [
            Case(volume.name, section.image, section.truth)
            for section in sections_of(volume, share, seed)
        ]
    return cases


def picture_cases(folder: Path, count: int, seed: int) -> list[Case]:
    """Test images of the further public sets, in turn one of each set."""
    rows = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    by_source = defaultdict(list)
    for row in np.random.default_rng(seed).permutation([r for r in rows if r["split"] == "test"]):
        by_source[row["source"]].append(row)
    turns = max(len(found) for found in by_source.values())
    chosen = [found[n] for n in range(turns) for found in by_source.values() if n < len(found)]
    return [_picture_case(folder, row) for row in chosen[:count]]


def _picture_case(folder: Path, row: dict) -> Case:
    picture = Image.open(folder / row["image"])
    pixels = np.array(picture.convert("L" if picture.mode in ("L", "I;16", "1") else "RGB"))
    truth = np.array(Image.open(folder / row["mask"]).convert("L")) > 0
    return Case(row["source"], SliceImage(pixels, (1.0, 1.0), row["mask"]), truth)


def first_prompt(truth: np.ndarray, spacing_xy_mm: XY, rng: np.random.Generator) -> SlicePrompt:
    """Box and key points of the true target, shaken by a share of the box's longer side."""
    height, width = truth.shape
    box = np.array(bbox_from_mask(truth)).reshape(2, 2)
    points = np.array(key_points_from_mask(truth, spacing_xy_mm))
    side = float((box[1] - box[0]).max())
    box = box + rng.normal(0, SHAKE_OF_BOX * side, (2, 2))
    box = np.clip(np.sort(box, axis=0), 0, (width, height))
    points = np.clip(points + rng.normal(0, SHAKE_OF_POINTS * side, (2, 2)), 0, (width, height))
    (x1, y1), (x2, y2) = box.tolist()
    return SlicePrompt((x1, y1, x2, y2), tuple(map(tuple, points.tolist())), (1, 1))


def largest_mistake(mask: np.ndarray, truth: np.ndarray) -> np.ndarray | None:
    """How deep each pixel lies in the largest wrong part, 0 elsewhere; ``None`` without mistake."""
    parts, count = ndimage.label(mask != truth, TOUCHING)
    if count == 0:
        return None
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]


def middle_of(depth: np.ndarray) -> tuple[XY, ...]:
    """The centre of the deepest pixel."""
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return ((float(column) + 0.5, float(row) + 0.5),)


def stroke_through(depth: np.ndarray) -> tuple[XY, ...]:
    """Places along the core, at least half as deep as the deepest pixel, from end to end."""
    core = np.argwhere(depth >= depth.max() / 2)
    centred = core - core.mean(axis=0)
    along = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    pieces = np.digitize(along, np.linspace(along.min(), along.max(), PLACES_OF_STROKE + 1)[1:-1])
    deepest = [
        max(core[pieces == piece].tolist(), key=lambda at: depth[tuple(at)])
        for piece in np.unique(pieces)
    ]
    return tuple((column + 0.5, row + 0.5) for row, column in deepest)


MARKS = {"click": middle_of, "scribble": stroke_through}


def read_case(
    case: Case,
    segmenter: Segmenter,
    correct: Correct,
    clicks: int,
    seed: int,
    marks: str = "click",
) -> Reading:
    """Segment once, then correct by as many marks."""
    rng = np.random.default_rng(seed)
    prompt = first_prompt(case.truth, case.image.spacing_xy_mm, rng)
    mask = segmenter.segment_slice(case.image, prompt).mask
    scores, own = [dice(mask, case.truth)], 0
    for _ in range(clicks):
        depth = largest_mistake(mask, case.truth)
        if depth is None:
            break
        points = MARKS[marks](depth)
        own += len(points)
        labels = tuple(int(case.truth[int(y), int(x)]) for x, y in points)
        prompt = SlicePrompt(
            prompt.bbox_xyxy_px, (*prompt.points_xy_px, *points), (*prompt.point_labels, *labels)
        )
        mask = correct(case.image, prompt, own, len(points), mask)
        scores.append(dice(mask, case.truth))
    return Reading(case.group, tuple(scores))


def figures(readings: Sequence[Reading]) -> dict[str, float | int | dict[str, float]]:
    """What is reported of some readings."""
    changes = np.concatenate([np.diff(reading.scores) for reading in readings])
    return {
        "cases": len(readings),
        "dice_after": {
            str(n): round(float(np.mean([reading.after(n) for reading in readings])), 4)
            for n in REPORTED_CLICKS
        },
        "mean_clicks_to": {
            f"{wanted:.2f}": round(float(np.mean([r.clicks_to(wanted) for r in readings])), 2)
            for wanted in REPORTED_DICE
        },
        "reached": {
            f"{wanted:.2f}": round(float(np.mean([max(r.scores) >= wanted for r in readings])), 3)
            for wanted in REPORTED_DICE
        },
        "clicks": len(changes),
        "share_of_clicks_that_lower": round(float(np.mean(changes < -MOST_LOST)), 4),
        "largest_loss": round(float(max(0.0, -changes.min())), 4) if len(changes) else 0.0,
    }


def measure(options: BenchmarkOptions) -> dict:
    """Correct all cases; the figures of all, of CT and MR, and of the further images."""
    segmenter = load_sam2(resolve_model("segmenter", options.model), device="cpu")
    correct = SEMANTICS[options.semantics](segmenter)
    data, half = Path(options.data), options.cases // 2
    kinds = {
        "ct_and_mr": volume_cases(data, options.cases - half, options.seed),
        "further": picture_cases(data / "real", half, options.seed),
    }
    read: dict[str, list[Reading]] = {}
    for kind, cases in kinds.items():
        read[kind] = list(_readings(cases, segmenter, correct, options))
    everything = [reading for readings in read.values() for reading in readings]
    return {
        "semantics": options.semantics,
        "marks": options.marks,
        "model": options.model,
        "all": figures(everything),
        **{kind: figures(readings) for kind, readings in read.items()},
    }


def _readings(
    cases: Sequence[Case], segmenter: Segmenter, correct: Correct, options: BenchmarkOptions
) -> Iterator[Reading]:
    for number, case in enumerate(cases):
        seed = options.seed + number
        yield read_case(case, segmenter, correct, options.clicks, seed, options.marks)
        print(f"{case.group}: {number + 1} of {len(cases)}", file=sys.stderr)


def main() -> None:
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(BenchmarkOptions).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
