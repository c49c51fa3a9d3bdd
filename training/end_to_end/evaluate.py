# SPDX-License-Identifier: Apache-2.0
"""Dice from question to mask: ``python -m medreasoner_training.end_to_end.evaluate``.

Each question goes through the pipeline as a user's does. A visible target that the reasoner calls
absent scores 0. The ellipse inscribed in the reasoner's own box shows what the segmenter adds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from medreasoner_infer.imaging.write import replacing
from medreasoner_infer.output import write_result
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.types import SlicePrompt
from medreasoner_training.end_to_end.cases import MaskCase, phantom_mask_cases, real_mask_cases
from medreasoner_training.reasoner.scoring import mean_with_interval
from medreasoner_training.segmenter.evaluate import dice, inscribed_ellipse


@dataclass(frozen=True)
class Settings:
    """Command line of the evaluation."""

    out: str = field(metadata={"help": "folder for end_to_end.json and the pictures"})
    data: str = field(default="", metadata={"help": "folder with the public test data"})
    reasoner: str = field(default="embedded", metadata={"help": "registry name or folder"})
    segmenter: str = field(default="embedded", metadata={"help": "registry name or folder"})
    images: int = field(default=200, metadata={"help": "held-out phantoms"})
    pictures: int = field(default=12, metadata={"help": "overlays written of each set"})
    threads: int = 1


@dataclass(frozen=True)
class MaskScore:
    """One answered question; Dice is ``None`` for an absent target."""

    target: str
    present: bool
    says_present: bool
    dice: float | None
    ellipse_dice: float | None


def score_case(case: MaskCase, result: InferenceResult) -> MaskScore:
    """Compare the answered mask on the asked slice with the true one."""
    present = bool(case.truth_hw.any())
    if not present:
        return MaskScore(case.target, False, result.present, None, None)
    ellipse = 0.0
    if result.prompts is not None and result.prompts.bbox_xyxy_slice_px is not None:
        prompt = SlicePrompt(result.prompts.bbox_xyxy_slice_px)
        ellipse = dice(inscribed_ellipse(prompt, case.truth_hw.shape), case.truth_hw)
    answered = result.mask_ijk[:, :, case.index].T > 0
    return MaskScore(case.target, True, result.present, dice(answered, case.truth_hw), ellipse)


def run_cases(
    pipeline: Pipeline, cases: Iterable[MaskCase], pictures: Path, wanted: int
) -> list[MaskScore]:
    """Ask every question; write overlays of the first ``wanted`` ones."""
    scores = []
    for number, case in enumerate(cases):
        request = AskRequest(case.query, SliceSelection(plane="acquired", index=case.index))
        result = pipeline.ask(case.volume, request)
        scores.append(score_case(case, result))
        if number < wanted:
            suffix = f"_{number:02d}_{case.target.replace(' ', '_')}"
            write_result(result.to_dict(), result.mask_ijk, case.volume, pictures, suffix=suffix)
    return scores


def summarise(scores: list[MaskScore]) -> dict:
    """Means with 95 % bootstrap intervals, over all and by target."""
    present = [score for score in scores if score.present]
    absent = [score for score in scores if not score.present]
    by_target: dict[str, list[float]] = defaultdict(list)
    for score in present:
        by_target[score.target].append(score.dice)
    return {
        "dice": mean_with_interval([score.dice for score in present]),
        "ellipse_in_the_same_box": mean_with_interval([score.ellipse_dice for score in present]),
        "present_found": mean_with_interval([score.says_present for score in present]),
        "absent_refused": mean_with_interval([not score.says_present for score in absent]),
        "dice_by_target": {
            name: mean_with_interval(values) for name, values in sorted(by_target.items())
        },
    }


def evaluate(settings: Settings) -> dict:
    """All figures, as written to ``end_to_end.json``."""
    pipeline = Pipeline.from_registry(settings.reasoner, settings.segmenter, device="cpu")
    sets: dict[str, Iterable[MaskCase]] = {"phantoms": phantom_mask_cases(settings.images)}
    if settings.data:
        sets["real_ct"] = real_mask_cases(Path(settings.data))
    report: dict = {}
    for name, cases in sets.items():
        pictures = Path(settings.out) / name
        report[name] = summarise(run_cases(pipeline, cases, pictures, settings.pictures))
    report["reasoner_sha256"] = pipeline.reasoner.identity.weights_sha256
    report["segmenter_sha256"] = pipeline.segmenter.identity.weights_sha256
    return report


def main() -> None:
    """Command line entry point."""
    import torch
    from transformers import HfArgumentParser

    (settings,) = HfArgumentParser(Settings).parse_args_into_dataclasses()
    torch.set_num_threads(settings.threads)
    folder = Path(settings.out)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(evaluate(settings), indent=2) + "\n"
    with replacing(folder / "end_to_end.json", ".json") as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
