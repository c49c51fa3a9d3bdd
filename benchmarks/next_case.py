# SPDX-License-Identifier: Apache-2.0
"""How many approved masks a site needs by which order: the curve over masks for each strategy.

A site's images wait, the shipped reasoner has read each of them once, and a reader approves the
masks of one image after the other in the order of a strategy. After so and so many images somebody
learns from what is approved and answers questions about held-out patients: the shipped reasoner by
supervised steps, always from the same start, or, which costs little, an atlas with the box of
the approved image that is most alike. Every point is a folder; the same command goes on::

    python benchmarks/next_case.py --data benchmark --out DIR
    python benchmarks/next_case.py --data phantoms --out DIR --learner atlas
    python benchmarks/next_case.py --out DIR --summarise       # writes the tables of the document
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from next_case_sites import Image, Size, open_site

if TYPE_CHECKING:
    from medreasoner_infer.reasoners.base import Reasoner
    from medreasoner_infer.segmenters.base import Segmenter
    from medreasoner_infer.types import Grounding
    from medreasoner_training.next_case import Reading
    from medreasoner_training.samples import Sample

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "next_case.md"
MODULE = "benchmarks/next_case.py"
RANDOM = "random"
SFT, ATLAS = "sft", "atlas"
LEARNERS = {SFT: "supervised steps", ATLAS: "nearest approved image"}


@dataclass(frozen=True)
class Options:
    """Options; every field is a command line option."""

    out: str = field(default="", metadata={"help": "folder of all points"})
    data: str = field(default="benchmark", metadata={"help": "a benchmark data set, or phantoms"})
    strategies: list[str] = field(
        default_factory=lambda: [
            RANDOM, "combined", "coverage", "novelty", "uncertainty", "disagreement",
        ],
        metadata={"help": "random, or strategies of medreasoner_training.next_case"},
    )  # fmt: skip
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    budgets: list[int] = field(
        default_factory=lambda: [6, 12, 24, 36], metadata={"help": "approved images, rising"}
    )
    pool: int = field(default=0, metadata={"help": "images that wait; 0 for all"})
    held_out: int = field(default=200, metadata={"help": "questions about held-out patients"})
    samples: int = field(default=4, metadata={"help": "answers drawn of a question to read it"})
    learner: str = field(
        default=SFT, metadata={"help": "sft: supervised steps; atlas: no model, the nearest mask"}
    )
    steps: int = field(default=40, metadata={"help": "supervised steps of a point"})
    batch: int = 8
    learning_rate: float = 3e-4
    threads: int = 1
    summarise: bool = field(default=False, metadata={"help": "the points that are in the folder"})


def run(options: Options) -> None:
    """All points that are not there yet, the cheapest first."""
    folder = Path(options.out).absolute() / Path(options.data).name
    _keep_settings(folder, options, ("pool", "held_out", "samples"))
    learner = () if options.learner == ATLAS else ("steps", "batch", "learning_rate")
    _keep_settings(folder / options.learner, options, learner)
    os.environ["MEDREASONER_HOME"] = str(folder / "home")
    reasoner = _shipped()
    size = Size(options.pool, options.held_out, reasoner.input_size)
    pool, held_out = open_site(options.data, size)
    pool = _read(pool, reasoner, options, folder / "readings.json")
    start = _point(folder / "start", [], lambda: _scores(_shipped(), _rows(held_out)))
    for seed in options.seeds:
        for budget in options.budgets:
            for strategy in options.strategies:
                approved = order(pool, strategy, budget, seed)
                name = folder / options.learner / f"seed-{seed}" / f"{strategy}-{budget}"
                task = Task(name, approved, held_out, seed)
                learn = (
                    partial(_atlas, task, start)
                    if options.learner == ATLAS
                    else partial(_trained, task, options)
                )
                _point(name, approved, learn)


def order(pool: Sequence[Image], strategy: str, budget: int, seed: int) -> list[Image]:
    """The images that are approved first; equals, and what is random, go by the seed."""
    from medreasoner_training.next_case import Strategy, pick, ranked

    places = np.random.default_rng(seed).permutation(len(pool))
    waiting = {pool[place].case.image_id: pool[place] for place in places}
    approved: list[Image] = []
    while waiting and len(approved) < budget:
        cases = [image.case for image in waiting.values()]
        if strategy == RANDOM:
            name = cases[0].image_id
        else:
            ranks = ranked(Strategy(strategy), cases, [image.case for image in approved])
            chosen = pick(ranks, {image.case.patient for image in approved[-1:]})
            assert chosen is not None
            name = chosen.case.image_id
        approved.append(waiting.pop(name))
    return approved


# --- one point ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Task:
    """What a point learns from, and what it is asked."""

    folder: Path
    approved: Sequence[Image]
    held_out: Sequence[Sample]
    seed: int


def _point(
    folder: Path, approved: Sequence[Image], scores: Callable[[], list[float]]
) -> list[float]:
    """Box IoU of each held-out question, measured now unless that was done before."""
    from medreasoner_infer.atomic import write_durably

    kept = folder / "point.json"
    if kept.is_file():
        return list(json.loads(kept.read_text())["by_question"])
    started = time.monotonic()
    found = scores()
    point = {
        "images": len(approved),
        "masks": sum(image.masks for image in approved),
        "box_iou": float(np.mean(found)),
        "by_question": [round(score, 4) for score in found],
        "seconds": round(time.monotonic() - started, 1),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(kept, json.dumps(point))
    print(f"{folder.name}: {point['box_iou']:.3f} in {point['seconds']} s", flush=True)
    return found


def _atlas(task: Task, start: Sequence[float]) -> list[float]:
    """No model learns: the box of the approved image of the same target that is most alike.

    Where no mask of the target is approved, the shipped reasoner's answer counts.
    """
    from medreasoner_infer.agreement import box_iou
    from medreasoner_training.samples.fingerprints import fingerprint

    by_target: dict[str, list[Sample]] = defaultdict(list)
    for image in task.approved:
        for sample in image.samples:
            by_target[sample.label_name].append(sample)
    coarse = {
        id(sample): fingerprint(sample.image, has_colours=True).coarse
        for sample in (*task.held_out, *(s for found in by_target.values() for s in found))
    }
    scores = []
    for asked, own in zip(task.held_out, start, strict=True):
        known = by_target.get(asked.label_name)
        if not known:
            scores.append(own)
            continue
        nearest = max(known, key=lambda sample: float(coarse[id(sample)] @ coarse[id(asked)]))
        scores.append(float(box_iou(nearest.bbox_xyxy_px, asked.bbox_xyxy_px)))
    return scores


def _trained(task: Task, options: Options) -> list[float]:
    """The shipped reasoner after supervised steps on what is approved."""
    from medreasoner_training.finetune.comparison import load_trained
    from medreasoner_training.finetune.preparation import plan, prepare
    from medreasoner_training.finetune.progress_writer import ProgressWriter
    from medreasoner_training.finetune.run import free_memory
    from medreasoner_training.finetune.stage import trained_reasoner
    from medreasoner_training.finetune.training import train_stage

    task.folder.mkdir(parents=True, exist_ok=True)
    _write_run(task, options)
    prepared = prepare(task.folder)
    ((stage,),) = plan(prepared)
    if not stage.model_folder.is_dir():
        train_stage(prepared, stage, prepared.start, ProgressWriter(task.folder))
        free_memory()
    reasoner = load_trained(prepared, trained_reasoner(prepared.start, stage))
    return _scores(reasoner, prepared.validation)


def _write_run(task: Task, options: Options) -> None:
    """Data set and settings of a training, as the server writes them."""
    from medreasoner_training.finetune.config import CONFIG_FILE, config_from_dict
    from medreasoner_training.samples import TRAIN, VALIDATION, LeftOut, writing_dataset

    if not (task.folder / "dataset").is_dir():
        with writing_dataset(task.folder / "dataset", (TRAIN, VALIDATION), {}, LeftOut()) as writer:
            for image in task.approved:
                for sample in image.samples:
                    writer.add(sample, TRAIN)
            for sample in task.held_out:
                writer.add(sample, VALIDATION)
    config = config_from_dict({
        "method": "sft",
        "tuning": "full",
        "model": {"name": "embedded"},
        "data": {"image_sizes": "scale"},
        "sft": {
            "steps": options.steps, "batch": options.batch, "micro_batch": options.batch,
            "learning_rate": options.learning_rate,
        },
        "run": {
            "device": "cpu", "bf16": False, "seed": task.seed, "eval_steps": 0, "report_to": "none",
            "save_steps": options.steps,
        },
        "promotion": {"promote": False, "store": "store", "name": "point"},
        "gate": {"min_patients": 4},
    })  # fmt: skip
    (task.folder / CONFIG_FILE).write_text(config.to_yaml(), encoding="utf-8")


def _rows(samples: Sequence[Sample]) -> Any:
    from datasets import Dataset

    from medreasoner_training.samples.schema import features, to_row

    rows = [to_row(sample, place) for place, sample in enumerate(samples)]
    return Dataset.from_list(rows, features=features())


def _scores(reasoner: Reasoner, rows: Any) -> list[float]:
    from medreasoner_training.finetune.scoring import answer_rows

    found = [outcome.box_iou for outcome in answer_rows(reasoner, rows)]
    gc.collect()
    return found


def _shipped() -> Reasoner:
    from medreasoner_infer.models.loading import load_reasoner
    from medreasoner_infer.models.registry import resolve_model

    return load_reasoner(resolve_model("reasoner", "embedded"), device="cpu")


# --- what the shipped reasoner reads --------------------------------------------------------------


def _read(pool: Sequence[Image], reasoner: Reasoner, options: Options, kept: Path) -> list[Image]:
    """What the shipped models answer to the first question about each image, as in a batch."""
    from medreasoner_infer.atomic import write_durably
    from medreasoner_infer.models.loading import load_segmenter
    from medreasoner_infer.models.registry import resolve_model
    from medreasoner_training.next_case import Reading

    if not kept.is_file():
        told = {}
        segmenter = load_segmenter(resolve_model("segmenter", "embedded"), device="cpu")
        for done, image in enumerate(pool, start=1):
            reading = _reading(image.samples[0], reasoner, segmenter, options)
            told[image.case.image_id] = asdict(reading)
            if done % 20 == 0:
                print(f"{done} of {len(pool)} images are read", flush=True)
        write_durably(kept, json.dumps(told))
    found = {name: Reading(**values) for name, values in json.loads(kept.read_text()).items()}
    return [
        replace(image, case=replace(image.case, readings=(found[image.case.image_id],)))
        for image in pool
    ]


def _reading(sample: Sample, reasoner: Reasoner, segmenter: Segmenter, options: Options) -> Reading:
    """The support is that of the samples' boxes; the product's is that of more readings' masks."""
    from medreasoner_infer.agreement import agreement
    from medreasoner_infer.doubt.overlap import support_of
    from medreasoner_infer.reasoners.image_encoding import prepare_image
    from medreasoner_infer.request import SAMPLING_TEMPERATURE
    from medreasoner_infer.types import ReasonerRequest
    from medreasoner_training.next_case import Reading

    square = prepare_image(sample.image, reasoner.image_encoding)
    request = ReasonerRequest(square, sample.question.text, "")
    (answer,) = reasoner.answer(request)
    drawn = replace(request, samples=options.samples, temperature=SAMPLING_TEMPERATURE)
    agreed = agreement(answer, reasoner.answer(drawn))
    understood = answer.grounding.outcome != "not_understood"
    estimate = _estimate(segmenter, sample, answer.grounding)
    return Reading(
        understood=understood,
        probability=answer.confidence if answer.calibrated else None,
        agreement=agreed,
        support=None if agreed is None else support_of(agreed, estimate, understood=understood),
    )


def _estimate(segmenter: Segmenter, sample: Sample, grounding: Grounding) -> float | None:
    """The segmenter's own of its mask of an answer; ``None`` where it marks nothing."""
    from medreasoner_infer.types import SliceImage, SlicePrompt

    if not grounding.present:
        return None
    points = grounding.points_xy_px or ()
    prompt = SlicePrompt(grounding.bbox_xyxy_px, points, (1,) * len(points))
    made = segmenter.segment_slice(SliceImage(sample.image, (1.0, 1.0), ""), prompt)
    return made.predicted_iou if made.mask.any() else None


# --- the document ---------------------------------------------------------------------------------


def summarise(options: Options) -> None:
    """Write the tables of all sites in the folder into the document."""
    from medreasoner_training.embedded.marked_text import write_marked

    parts = [
        table
        for folder in sorted(Path(options.out).iterdir())
        if (folder / "start" / "point.json").is_file()
        for table in _tables(folder)
    ]
    write_marked(DOCUMENT, MODULE, "\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


def _tables(folder: Path) -> Iterator[str]:
    for learner in (SFT, ATLAS):
        if any((folder / learner).glob("seed-*/*/point.json")):
            yield "\n".join(_table(folder, learner))


def _table(folder: Path, learner: str) -> Iterator[str]:
    from medreasoner_training.markdown import table_lines

    start = json.loads((folder / "start" / "point.json").read_text())
    points: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((folder / learner).glob("seed-*/*/point.json")):
        strategy, _, budget = path.parent.name.rpartition("-")
        points[strategy, int(budget)].append(json.loads(path.read_text()))
    strategies = sorted({s for s, _ in points}, key=lambda s: (s != RANDOM, s))
    budgets = sorted({b for _, b in points})
    seeds = max(map(len, points.values()), default=0)
    yield (
        f"**{folder.name}, {LEARNERS[learner]}**: mean box IoU of {len(start['by_question'])} "
        f"held-out questions, over {seeds} seed(s) with the range; before any mask "
        f"{start['box_iou']:.3f}."
    )
    yield ""
    rows = [[s, *(_cell(points.get((s, b), [])) for b in budgets)] for s in strategies]
    yield from table_lines(["order", *(f"{b} images" for b in budgets)], rows)


def _cell(points: Sequence[dict[str, Any]]) -> str:
    if not points:
        return "not measured"
    ious = [point["box_iou"] for point in points]
    masks = sorted({point["masks"] for point in points})
    spread = "" if len(ious) == 1 else f" ({min(ious):.3f} to {max(ious):.3f})"
    counted = f"{masks[0]}" if len(masks) == 1 else f"{masks[0]} to {masks[-1]}"
    return f"{np.mean(ious):.3f}{spread}, {counted} masks"


def _keep_settings(folder: Path, options: Options, names: Sequence[str]) -> None:
    """A folder holds points of one kind; strategies, seeds and budgets may be added to it.

    Raises:
        SystemExit: ``folder`` holds points with other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in names}
    path = folder / "options.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{folder} holds points with other settings: {path.read_text()}")
    path.write_text(json.dumps(settings))


def main() -> None:
    """Parse the command line and run."""
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(Options).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    if not options.out:
        sys.exit("Give --out DIR.")
    summarise(options) if options.summarise else run(options)


if __name__ == "__main__":
    main()
