# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.reasoner.evaluate --model DIR`` measures a reasoner.

Writes ``evaluation.json`` and the figures of the model card ``README.md`` into the model folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Qwen2_5_VLForConditionalGeneration,
)

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.atomic import write_durably
from medreasoner_infer.language.recollection import FactIndex
from medreasoner_infer.reasoners.known_targets import KnownTargets
from medreasoner_infer.reasoners.prompts import load_prompt_file
from medreasoner_infer.types import XYXY

from ..phantom.anatomy import Label
from ..queries import known_targets
from ..questions import QuestionWriter
from ..required import command_line
from .generation import answer_all
from .model_card import model_card
from .packing import Packer
from .pictures import training_pictures
from .real_ct import absent_cases, phrasing, present_cases, real_slices
from .real_kinds import judged, mean_boxes_of_training, picture_cases
from .reasonings import FINDINGS
from .samples import Question, Sample, absent_labels, ask, choose_query, sample_questions
from .scoring import Score, mean_with_interval, score, summarise
from .targets import ground_truth
from .understanding import askings, understanding

TEST_SEED = 910_000
PRIOR_SEED = 920_000
FINDING_SEED = 930_000
BEGINNING_TOKENS = 28


@dataclass(frozen=True)
class Settings:
    """Command line of the evaluation."""

    model: str = field(metadata={"help": "model folder"})
    data: str = field(default="", metadata={"help": "folder with the public test data"})
    real_data: str = field(
        default="", metadata={"help": "folder with public images of many modalities"}
    )
    images: int = field(default=300, metadata={"help": "held-out phantoms"})
    prior_images: int = field(default=1500, metadata={"help": "phantoms for the mean boxes"})
    write: bool = field(default=True, metadata={"help": "write JSON and model card"})


@dataclass(frozen=True)
class Case:
    """An image and the same question in a trained and in a held-out phrasing."""

    grey: np.ndarray
    trained: Question
    held_out: Question


def phantom_cases(count: int) -> list[Case]:
    """Held-out phantoms: a question about a visible target each, every third an absent one too."""
    cases = []
    for index in range(count):
        rng = np.random.default_rng([TEST_SEED, index])
        sample = sample_questions(rng, 0)
        visible, absent = list(sample.truths), absent_labels(sample.image.labels)
        asked = [visible[int(rng.integers(len(visible)))]]
        if index % 3 == 0 and absent:
            asked.append(absent[int(rng.integers(len(absent)))])
        cases += [_case(sample, label, rng) for label in asked]
    return cases


def _case(sample: Sample, label: Label, rng: np.random.Generator) -> Case:
    trained, held_out = (
        ask(sample.image, sample.truths, label, choose_query(label, rng, unseen))
        for unseen in (False, True)
    )
    return Case(sample.image.grey, trained, held_out)


def finding_cases(per_finding: int) -> list[Case]:
    """Held-out phantoms that show a finding, which :func:`phantom_cases` rarely meets."""
    cases: dict[Label, list[Case]] = {label: [] for label in sorted(FINDINGS)}
    index = 0
    while min(map(len, cases.values())) < per_finding:
        rng = np.random.default_rng([FINDING_SEED, index])
        sample = sample_questions(rng, 0)
        for label in sorted(FINDINGS & sample.truths.keys()):
            if len(cases[label]) < per_finding:
                cases[label].append(_case(sample, label, rng))
        index += 1
    return [case for found in cases.values() for case in found]


def real_cases(shared_data: Path) -> list[Case]:
    """Questions about real CT slices, on slices where the target is large or absent."""
    slices = real_slices(shared_data)
    cases = []
    for number, (index, label) in enumerate(present_cases(slices) + absent_cases(slices)):
        truth = ground_truth(slices[index].labels, label)
        trained, held_out = (
            Question(label, phrasing(label, number, unseen), "", truth) for unseen in (False, True)
        )
        cases.append(Case(slices[index].grey, trained, held_out))
    return cases


def mean_boxes(count: int) -> dict[Label, XYXY]:
    """Mean box of each target over ``count`` phantoms: what can be known without the image."""
    boxes: dict[Label, list[XYXY]] = {label: [] for label in known_targets()}
    for index in range(count):
        sample = sample_questions(np.random.default_rng([PRIOR_SEED, index]), 0)
        for label, truth in sample.truths.items():
            boxes[label].append(truth.bbox_xyxy_px)
    return {label: _mean_box(found) for label, found in boxes.items() if found}


def _mean_box(boxes: list[XYXY]) -> XYXY:
    x1, y1, x2, y2 = np.mean(boxes, 0).tolist()
    return x1, y1, x2, y2


def _prior_iou(questions: Sequence[Question], prior: dict[Label, XYXY]) -> dict:
    pairs = [
        (q.label, box_iou(prior[q.label], q.truth.bbox_xyxy_px))
        for q in questions
        if q.truth is not None
    ]
    return {
        "box_iou": mean_with_interval([iou for _, iou in pairs]),
        "by_target": {
            known_targets()[label].name: mean_with_interval(
                [iou for other, iou in pairs if other == label]
            )
            for label in sorted({label for label, _ in pairs})
        },
    }


class Evaluator:
    """Scores one model on lists of cases.

    Args:
        folder: of the model.
        targets: recognised by the vocabulary before it is asked; by default each question is put
            to it as it stands.
    """

    def __init__(self, folder: str, targets: KnownTargets | None = None) -> None:
        loaded = AutoModelForImageTextToText.from_pretrained(  # nosec B615 # a folder
            folder, dtype=torch.float32
        )
        self.model = cast("Qwen2_5_VLForConditionalGeneration", loaded)
        processor = AutoProcessor.from_pretrained(folder)  # nosec B615 # a folder
        self.packer = Packer(self.model, processor)
        self.targets = targets

    def scores(self, greys: Sequence[np.ndarray], questions: Sequence[Question]) -> list[Score]:
        """Ask each question about its image and score the answers."""
        completions = self.answers(greys, [question.query for question in questions])
        return [score(q, text) for q, text in zip(questions, completions, strict=True)]

    def answers(self, greys: Sequence[np.ndarray], queries: Sequence[str]) -> list[str]:
        """Greedy completions."""
        return self._answers(greys, queries)

    def beginnings(self, greys: Sequence[np.ndarray], queries: Sequence[str]) -> list[str]:
        """As much of the completions as names a target or refuses the question."""
        return self._answers(greys, queries, max_new_tokens=BEGINNING_TOKENS)

    def _answers(
        self, greys: Sequence[np.ndarray], queries: Sequence[str], **limits: int
    ) -> list[str]:
        if self.targets is None:
            return answer_all(self.model, self.packer, greys, queries, **limits)
        refused = [self.targets.refusal(query) for query in queries]
        open_cases = [at for at, refusal in enumerate(refused) if refusal is None]
        generated = iter(
            answer_all(
                self.model,
                self.packer,
                [greys[at] for at in open_cases],
                [self.targets.asked(queries[at]) for at in open_cases],
                **limits,
            )
        )
        return [refusal or next(generated) for refusal in refused]

    def report(self, cases: Sequence[Case], prior: dict[Label, XYXY]) -> dict:
        """Trained and held-out phrasings, the mean-box prior, shuffled and blank images."""
        greys = [case.grey for case in cases]
        trained, held_out = [c.trained for c in cases], [c.held_out for c in cases]
        blank = [np.zeros_like(grey) for grey in greys]
        half = len(greys) // 2
        columns = {
            "trained_phrasings": self.scores(greys, trained),
            "held_out_phrasings": self.scores(greys, held_out),
        }
        return {
            **{name: summarise(scores) for name, scores in columns.items()},
            "cases": {name: case_rows(scores) for name, scores in columns.items()},
            "mean_box_prior": _prior_iou(trained, prior),
            "shuffled_images": summarise(self.scores(greys[half:] + greys[:half], trained)),
            "blank_images": summarise(self.scores(blank, trained)),
        }


def case_rows(scores: Sequence[Score]) -> list[list]:
    """Each case as target, whether it is there, was said to be there, box IoU, points inside."""
    return [
        [
            known_targets()[score.label].name,
            score.present,
            score.says_present,
            None if score.iou is None else round(score.iou, 4),
            score.points_inside,
        ]
        for score in scores
    ]


def evaluate(settings: Settings) -> dict:
    """All figures of a model, as written to ``evaluation.json``."""
    torch.set_num_threads(1)
    evaluator = Evaluator(settings.model)
    prior = mean_boxes(settings.prior_images)
    report = {
        "phantoms": evaluator.report(phantom_cases(settings.images), prior),
        "findings": evaluator.report(finding_cases(settings.images // 10), prior),
    }
    if settings.data:
        report["real_ct"] = evaluator.report(real_cases(Path(settings.data)), prior)
        report["understanding"] = _understanding(settings)
    if settings.real_data:
        reading = Evaluator(settings.model, _taught_targets(Path(settings.model)))
        report["pictures"] = _pictures(Path(settings.real_data), reading, prior)
    return report


def _taught_targets(folder: Path) -> KnownTargets | None:
    file = load_prompt_file(folder)
    return file.template.targets if file else None


def _understanding(settings: Settings) -> dict:
    """Held-out questions; facts and places that they tell are kept from the reading, too.

    As a user meets it, the reading knows all facts: ``implicit`` and ``outside, told facts``.
    """
    writer, targets = _writer(), _taught_targets(Path(settings.model))
    asked = askings(real_slices(Path(settings.data)), writer)
    if targets is None:
        return understanding(asked, Evaluator(settings.model).beginnings)
    told = writer.material.facts["train"]
    facts = FactIndex((each.target, each.fact) for each in told)
    withheld = Evaluator(settings.model, replace(targets, facts=facts))
    report = understanding(asked, withheld.beginnings)
    by_facts = [each for each in asked if each.question.kind in ("implicit", "outside")]
    whole = understanding(by_facts, Evaluator(settings.model, targets).beginnings)
    for share, kind in (("named", "implicit"), ("refused", "outside")):
        report[share][f"{kind}, told facts"] = whole[share][kind]
    return report


def _writer() -> QuestionWriter:
    return QuestionWriter(held_out_languages=())


def _pictures(real_data: Path, evaluator: Evaluator, prior: dict[Label, XYXY]) -> dict:
    mean_boxes = mean_boxes_of_training(training_pictures(real_data), prior)
    return judged(picture_cases(real_data, _writer()), evaluator.answers, mean_boxes)


def main() -> None:
    """Command line entry point."""
    settings = command_line(Settings)
    report = evaluate(settings)
    text = json.dumps(report) + "\n"
    print(text)
    if settings.write:
        folder = Path(settings.model)
        write_durably(folder / "evaluation.json", text)
        settings_file = folder / "training.json"
        training = json.loads(settings_file.read_text("utf-8")) if settings_file.is_file() else {}
        write_durably(folder / "README.md", model_card(report, training))


if __name__ == "__main__":
    main()
