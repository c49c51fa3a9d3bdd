# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.segmenter.evaluate`` judges one on real volumes.

Every cross-section of every labelled structure is prompted with the box and the two key points of
its true mask; on a random choice of them other methods and other prompts are tried as well. Volumes
are segmented from the prompts of a structure's middle slice. Results go to a JSON file and, with
``--card``, into the model card; ``--gallery`` draws the best, middle and worst sections.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import PropagationStrategy, Segmenter, load_sam2
from medreasoner_infer.segmenters.settings import SamSettings
from medreasoner_infer.types import ModelSpec
from medreasoner_training.embedded.required import command_line
from medreasoner_training.embedded.segmenter.card import write_figures
from medreasoner_training.embedded.segmenter.gallery import choose_sections, write_gallery
from medreasoner_training.embedded.segmenter.real_data import LabelledVolume, load_volumes
from medreasoner_training.embedded.segmenter.section_scores import (
    ScoredSection,
    compare_methods,
    evaluate_sections,
    prompted,
)
from medreasoner_training.embedded.segmenter.volume_scores import (
    evaluate_propagation,
    propagated_structures,
)

logger = logging.getLogger(__name__)

_INNERMOST_LIST = re.compile(r"\[[^\[\]{}]*\]")


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of an evaluation; every field is a command line option."""

    data: str = field(metadata={"help": "folder with manifest.json and totalsegmentator/"})
    model: str = field(default="embedded", metadata={"help": "registry name or model folder"})
    out: str = field(default="evaluation.json", metadata={"help": "JSON file to write"})
    card: str | None = field(default=None, metadata={"help": "model card to write figures into"})
    gallery: str | None = field(default=None, metadata={"help": "PNG of sections to write"})
    limit: int | None = field(
        default=None, metadata={"help": "random sections per set, for a look"}
    )
    compared: int = field(
        default=100, metadata={"help": "random sections per set for other methods and prompts"}
    )
    device: str = "cpu"
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Loader:
    """Loads a model with its own settings, or with some of them changed."""

    spec: ModelSpec
    device: str

    def settings(self) -> SamSettings:
        """The settings that the model's configuration asks for."""
        return load_sam2(self.spec, device=self.device).settings

    def __call__(self, **changes: Any) -> Segmenter:
        """Load the model; the changes are fields of :class:`SamSettings`."""
        settings = replace(self.settings(), **changes)
        return load_sam2(self.spec, device=self.device, settings=settings)


def evaluate(load: Loader, options: EvaluationOptions) -> tuple[dict, list[ScoredSection]]:
    """All figures of a model, and its score on each cross-section."""
    started = time.perf_counter()
    volumes = load_volumes(Path(options.data))
    segmenter = load()
    unzoomed = load(zoom=None) if load.settings().zoom is not None else None
    result: dict = {"model": dict(segmenter.identity.__dict__), "sections": {}, "compared": {}}
    result["model"].pop("source")  # a path of the machine that measured
    scored: list[ScoredSection] = []
    for volume in volumes:
        figures, scores = evaluate_sections(segmenter, volume, options.limit, options.seed)
        result["sections"][volume.name] = figures
        scored += scores
        result["compared"][volume.name] = compare_methods(
            segmenter, unzoomed, volume, options.compared, options.seed
        )
        logger.info("%s: Dice %.3f", volume.name, figures["model"]["mean"])
    trackers = {strategy.value: load(strategy=strategy) for strategy in PropagationStrategy}
    result["propagation"] = {volume.name: propagate_all(trackers, volume) for volume in volumes}
    result["seconds"] = round(time.perf_counter() - started)
    return result, scored


def propagate_all(trackers: dict[str, Segmenter], volume: LabelledVolume) -> dict[str, dict]:
    """Propagation of each structure of a volume by each strategy."""
    rows: dict[str, dict] = {}
    for strategy, tracker in trackers.items():
        rows[strategy] = {
            structure.name: evaluate_propagation(tracker, volume, structure)
            for structure in propagated_structures(volume)
        }
        mean = np.mean([row["dice"] for row in rows[strategy].values()])
        logger.info("%s, propagation by %s: volume Dice %.3f", volume.name, strategy, mean)
    return rows


def draw(segmenter: Segmenter, scored: Sequence[ScoredSection], path: Path) -> None:
    """Draw the best, the middle and the worst cross-sections."""
    chosen = [item for row in choose_sections(scored).values() for item in row]
    write_gallery([item.section.judge(prompted(segmenter)) for item in chosen], path)


def write_json(result: dict, path: Path) -> None:
    """Write the figures, rows of numbers on one line each; atomic."""
    text = json.dumps(result, indent=1)
    text = _INNERMOST_LIST.sub(lambda found: " ".join(found[0].split()), text)
    write_durably(path, text + "\n")


def main() -> None:
    """Parse the command line, evaluate, write."""
    import torch

    options = command_line(EvaluationOptions)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    load = Loader(resolve_model("segmenter", options.model), options.device)
    result, scored = evaluate(load, options)
    write_json(result, Path(options.out))
    if options.card:
        write_figures(Path(options.card), result)
    if options.gallery:
        draw(load(), scored, Path(options.gallery))


if __name__ == "__main__":
    main()
