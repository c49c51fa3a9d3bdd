# SPDX-License-Identifier: Apache-2.0
"""Dice from question to mask: ``python -m medreasoner_training.embedded.end_to_end.evaluate``.

Each question goes through the pipeline as a user's does. A visible target that the reasoner calls
absent scores 0. The ellipse inscribed in the reasoner's own box shows what the segmenter adds.
The figures go into ``end_to_end.json`` and, with ``--card``, between the markers of a document;
``--gallery`` draws the best, the middle and the worst answers on the real images.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.imaging import Plane, choose_window
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import SliceImage, SlicePrompt
from medreasoner_training.embedded.end_to_end.cases import (
    MaskCase,
    phantom_mask_cases,
    real_mask_cases,
    real_organs,
)
from medreasoner_training.embedded.end_to_end.figures import MODULE, figures
from medreasoner_training.embedded.end_to_end.search import search_scores, summarise_search
from medreasoner_training.embedded.marked_text import write_marked
from medreasoner_training.embedded.reasoner.scoring import mean_with_interval
from medreasoner_training.embedded.required import command_line
from medreasoner_training.embedded.segmenter.gallery import JudgedSection, write_gallery
from medreasoner_training.embedded.segmenter.measures import inscribed_ellipse
from medreasoner_training.rewards import dice


@dataclass(frozen=True)
class Settings:
    """Command line of the evaluation."""

    out: str = field(metadata={"help": "JSON file to write"})
    data: str = field(default="", metadata={"help": "folder with the public test data"})
    reasoner: str = field(default="embedded", metadata={"help": "registry name or folder"})
    segmenter: str = field(default="embedded", metadata={"help": "registry name or folder"})
    images: int = field(default=200, metadata={"help": "held-out phantoms"})
    card: str | None = field(default=None, metadata={"help": "document to write figures into"})
    gallery: str | None = field(default=None, metadata={"help": "picture of real CT answers"})
    threads: int = 1


@dataclass(frozen=True)
class MaskScore:
    """One answered question; Dice is ``None`` for an absent target."""

    target: str
    present: bool
    says_present: bool
    dice: float | None
    ellipse_dice: float | None


def judge(case: MaskCase, result: InferenceResult, section: SliceImage) -> JudgedSection:
    """One answered question beside the truth, on the slice as displayed."""
    prompts = result.prompts
    prompt = SlicePrompt(
        None if prompts is None else prompts.bbox_xyxy_slice_px,
        () if prompts is None else prompts.points_xy_slice_px,
        () if prompts is None else (1,) * len(prompts.points_xy_slice_px),
    )
    answered = result.mask_ijk[:, :, case.index].T > 0
    overlap = dice(answered, case.truth_hw) if case.truth_hw.any() else float(not answered.any())
    return JudgedSection(case.target, section, prompt, case.truth_hw, answered, overlap)


def score_section(judged: JudgedSection, says_present: bool) -> MaskScore:
    """Dice of an answered question, and of the ellipse in the reasoner's own box."""
    if not judged.truth.any():
        return MaskScore(judged.title, False, says_present, None, None)
    ellipse = 0.0
    if judged.prompt.bbox_xyxy_px is not None:
        ellipse = dice(inscribed_ellipse(judged.prompt, judged.truth.shape), judged.truth)
    return MaskScore(judged.title, True, says_present, judged.dice, ellipse)


def run_cases(
    pipeline: Pipeline, cases: Iterable[MaskCase]
) -> tuple[list[MaskScore], list[JudgedSection]]:
    """Put every question to the pipeline: its score, and the section to draw."""
    scores, judged = [], []
    for case in cases:
        request = AskRequest(case.query, SliceSelection(plane=Plane.ACQUIRED, index=case.index))
        result = pipeline.ask(case.volume, request)
        window = choose_window(case.volume)
        shown = DisplayedSlice.of(case.volume, Plane.ACQUIRED, case.index, window)
        judged.append(judge(case, result, shown.image))
        scores.append(score_section(judged[-1], result.present))
    return scores, judged


def summarise(scores: list[MaskScore]) -> dict:
    """Means with 95 % bootstrap intervals, over all and by target."""
    present = [score for score in scores if score.present]
    absent = [score for score in scores if not score.present]
    by_target: dict[str, list[float]] = defaultdict(list)
    for score in present:
        if score.dice is not None:
            by_target[score.target].append(score.dice)
    return {
        "dice": mean_with_interval([s.dice for s in present if s.dice is not None]),
        "ellipse_in_the_same_box": mean_with_interval(
            [s.ellipse_dice for s in present if s.ellipse_dice is not None]
        ),
        "present_found": mean_with_interval([score.says_present for score in present]),
        "absent_refused": mean_with_interval([not score.says_present for score in absent]),
        "dice_by_target": {
            name: mean_with_interval(values) for name, values in sorted(by_target.items())
        },
    }


def evaluate(settings: Settings) -> dict:
    """All figures, as written to the JSON file."""
    pipeline = Pipeline.from_registry(settings.reasoner, settings.segmenter, device="cpu")
    report: dict = {}
    scores, _ = run_cases(pipeline, phantom_mask_cases(settings.images))
    report["phantoms"] = _part(scores)
    if settings.data:
        scores, judged = run_cases(pipeline, real_mask_cases(Path(settings.data)))
        report["real_ct"] = _part(scores)
        report["real_ct_search"] = summarise_search(
            search_scores(pipeline, real_organs(Path(settings.data)))
        )
        if settings.gallery:
            answered = [section for section in judged if section.prompt.bbox_xyxy_px is not None]
            write_gallery(answered, Path(settings.gallery))
    report["reasoner_sha256"] = pipeline.reasoner.identity.weights_sha256
    report["segmenter_sha256"] = pipeline.segmenter.identity.weights_sha256
    return report


def _part(scores: list[MaskScore]) -> dict:
    cases = [None if score.dice is None else round(score.dice, 4) for score in scores]
    return {**summarise(scores), "dice_by_case": cases}


def main() -> None:
    """Command line entry point."""
    import torch

    settings = command_line(Settings)
    torch.set_num_threads(settings.threads)
    report = evaluate(settings)
    write_durably(Path(settings.out), json.dumps(report) + "\n")
    if settings.card:
        write_marked(Path(settings.card), MODULE, figures(report))
    print(figures(report))


if __name__ == "__main__":
    main()
