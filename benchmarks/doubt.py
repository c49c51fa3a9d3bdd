# SPDX-License-Identifier: Apache-2.0
"""What the agreement of readings tells of a mask, and doubtful slices of a propagated one.

Run: ``python benchmarks/doubt.py --data FOLDER_OF_PUBLIC_IMAGES --rows DATA_SET``. It prints one
JSON line: for each figure of agreement the area under the ROC curve for "Dice below 0.7", and which
share of the wrong voxels lies on the slices that are marked. ``--dump`` keeps what was measured of
each question and slice as JSON lines; the parts may be measured one after the other into one file.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medreasoner_infer.agreement import agreement
from medreasoner_infer.doubt import Asked, Look, looks_at
from medreasoner_infer.doubt.measuring import measure_doubt, px_per_slice
from medreasoner_infer.doubt.overlap import mean_with_answer, pairwise_dice, support_of
from medreasoner_infer.doubt.volume import MOST_DIFFERING, MOST_EXPECTED_WRONG, slice_figures
from medreasoner_infer.doubt_record import GOOD_DICE
from medreasoner_infer.hooks import NO_HOOKS
from medreasoner_infer.imaging import (
    Volume,
    choose_window,
    default_plane,
    put_mask,
    slice_mapping,
)
from medreasoner_infer.masks import Target, masks_in_turns
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.prompting import prompt_from_grounding
from medreasoner_infer.request import SAMPLING_TEMPERATURE, AskRequest
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_training.calibrating import LEAST_ANSWERS
from medreasoner_training.calibrating_doubt import JudgedMask, doubt_figures, unseen_chances
from medreasoner_training.embedded.required import command_line
from medreasoner_training.embedded.segmenter.real_data import LabelledVolume, load_volumes
from medreasoner_training.evaluation.pictures import load_case
from medreasoner_training.evaluation.readers.opening import open_rows
from medreasoner_training.rewards import dice
from medreasoner_training.samples.slices import spread

MIN_SECTION_PX = 50
ORGANS: dict[str, tuple[str, ...]] = {
    "spleen": ("spleen",),
    "right kidney": ("kidney_right",),
    "left kidney": ("kidney_left",),
    "gallbladder": ("gallbladder",),
    "liver": ("liver",),
    "stomach": ("stomach",),
    "pancreas": ("pancreas",),
    "right lung": (
        "lung_right", "lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"
    ),
    "left lung": ("lung_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    "urinary bladder": ("urinary_bladder",),
    "heart": ("heart",),
    "aorta": ("aorta",),
    "inferior vena cava": ("inferior_vena_cava",),
}  # fmt: skip
"""What is asked for, and the names of TotalSegmentator's labels that make it up."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options; every field is a command line option."""

    data: str = field(metadata={"help": "folder of the public images, with manifest.json"})
    rows: str = field(default="", metadata={"help": "data set of questions, as for evaluate"})
    questions: int = field(default=150, metadata={"help": "of the data set's test rows"})
    per_organ: int = field(default=4, metadata={"help": "slices of each organ of CT and MR"})
    samples: int = field(default=4, metadata={"help": "answers of a question, 2 or more"})
    parts: str = field(default="organs,rows,slices", metadata={"help": "what is measured"})
    reasoner: str = "embedded"
    segmenter: str = "embedded"
    dump: str | None = field(default=None, metadata={"help": "JSON lines; those in it count"})
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Question:
    """A question about one slice and its true mask, bool (H, W), all false where it is absent."""

    group: str
    patient: str
    volume: Volume
    index: int
    query: str
    truth_hw: np.ndarray


@dataclass(frozen=True, eq=False)
class Organ:
    """An organ of a volume; ``truth_khw`` is bool, each slice as displayed."""

    group: str
    name: str
    volume: Volume
    truth_khw: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """Px of each slice."""
        return self.truth_khw.sum(axis=(1, 2))


def organs_of(labelled: LabelledVolume) -> Iterator[Organ]:
    """The organs whose largest section is large enough."""
    values = {name: value for value, name in labelled.label_names.items()}
    affine = np.diag([*labelled.spacing_xy_mm, labelled.slice_spacing_mm, 1.0])
    modality = "CT" if labelled.is_ct else "MR"
    array = labelled.values.transpose(2, 1, 0)
    volume = Volume(array, affine, modality, labelled.name, Path(labelled.name))
    for name, parts in ORGANS.items():
        truth = np.isin(labelled.labels, [values[part] for part in parts if part in values])
        if truth.sum(axis=(1, 2)).max() >= MIN_SECTION_PX:
            yield Organ(modality, name, volume, truth)


def organ_questions(organ: Organ, count: int) -> Iterator[Question]:
    """Evenly spaced slices among those with at least half of the organ's largest section."""
    areas = organ.areas
    large = np.flatnonzero(areas >= max(MIN_SECTION_PX, areas.max() / 2))
    for index in spread(large.tolist(), count):
        truth = organ.truth_khw[index]
        query = f"Where is the {organ.name}?"
        yield Question(organ.group, organ.volume.key, organ.volume, int(index), query, truth)


def row_questions(data: str, count: int, model_size: int) -> Iterator[Question]:
    """Evenly spaced test rows of a data set."""
    source = open_rows(data, split="test")
    for row in source.read(spread(list(range(source.count)), count)):
        case = load_case(row, model_size)
        truth = np.zeros(case.shown.mapping.shape_hw, bool) if case.mask is None else case.mask
        patient = row.patient or row.id
        yield Question("further", patient, case.shown.volume, 0, row.question, truth)


def asked_of(pipeline: Pipeline, question: Question, samples: int) -> Asked:
    """The answer and the samples, as the pipeline draws them."""
    volume, reasoner = question.volume, pipeline.reasoner
    window, size = choose_window(volume), reasoner.input_size
    shown = DisplayedSlice.of(
        volume, default_plane(volume), question.index, window, model_size=size
    )
    encoding = reasoner.image_encoding
    (answer,) = reasoner.answer(shown.request(question.query, encoding))
    further = shown.request(
        question.query, encoding, samples=samples - 1, temperature=SAMPLING_TEMPERATURE
    )
    answers = (answer, *reasoner.answer(further))
    request = AskRequest(question.query, samples=samples)
    return Asked(reasoner, pipeline.segmenter, shown, request, answers)


def judge(pipeline: Pipeline, question: Question, samples: int) -> dict[str, Any]:
    """What is measured of one question."""
    asked = asked_of(pipeline, question, samples)
    answer, *further = asked.answers
    sourced = prompt_from_grounding(answer.grounding, (), asked.shown.mapping)
    mask, predicted_iou = np.zeros(asked.shown.mapping.shape_hw, bool), 1.0
    if sourced is not None:
        made = asked.segmenter.segment_slice(asked.shown.image, sourced.prompt)
        mask, predicted_iou = made.mask, made.predicted_iou
    looks = looks_at(asked, mask, NO_HOOKS)
    truth = question.truth_hw
    overlaps = pairwise_dice(looks)
    support = support_of(
        mean_with_answer(overlaps),
        predicted_iou if mask.any() else None,
        understood=answer.grounding.outcome != "not_understood",
    )
    return {
        "group": question.group,
        "patient": question.patient,
        "query": question.query,
        "has_mask": bool(mask.any()),
        "has_target": bool(truth.any()),
        "outcome": answer.grounding.outcome,
        "dice": dice(mask, truth) if truth.any() else float(not mask.any()),
        "overlaps": np.round(overlaps, 3).tolist(),
        "figures": {
            "support": support,
            **figures_of(looks, overlaps, samples),
            "boxes_of_samples": agreement(answer, further),
            "predicted_iou": predicted_iou,
            "confidence": answer.confidence or 0.0,
        },
    }


def figures_of(looks: Sequence[Look], overlaps: np.ndarray, samples: int) -> dict[str, float]:
    """Figures of agreement that could be told; the first is the one that is."""
    same = [look.outcome == looks[0].outcome for look in looks[1:]]
    views = [0, *range(samples, len(looks))]
    return {
        "with_answer": mean_with_answer(overlaps),
        "least_with_answer": float(overlaps[0, 1:].min()),
        "pairs": mean_of_pairs(overlaps),
        "pairs_of_samples": mean_of_pairs(overlaps[:samples, :samples]),
        "pairs_of_views": mean_of_pairs(overlaps[np.ix_(views, views)]),
        "same_outcome": float(np.mean(same)),
    }


def mean_of_pairs(overlaps: np.ndarray) -> float:
    """Mean over all pairs of different readings."""
    return float(overlaps[np.triu_indices(len(overlaps), 1)].mean())


def judge_volume(pipeline: Pipeline, organ: Organ, samples: int) -> list[dict[str, Any]]:
    """What is measured of each slice of an organ that is asked for on its largest section."""
    index = int(organ.areas.argmax())
    query = f"Where is the {organ.name}?"
    question = Question(organ.group, organ.volume.key, organ.volume, index, query, np.empty(0))
    asked = asked_of(pipeline, question, samples)
    mapping = asked.shown.mapping
    sourced = prompt_from_grounding(asked.answers[0].grounding, (), mapping)
    if sourced is None:
        return []
    mask_ijk = np.zeros(organ.volume.shape_ijk, np.uint8, order="F")
    ious: dict[int, float] = {}
    target = Target(asked.shown, sourced.prompt, None, propagated=True)
    for at, made in masks_in_turns(asked.segmenter, target, NO_HOOKS):
        put_mask(made.mask, slice_mapping(organ.volume, mapping.plane, at), mask_ijk)
        ious[at] = made.predicted_iou
    doubt, readings_ijk = measure_doubt(asked, mask_ijk, ious, True, NO_HOOKS)
    marked = {each.index: each.reason for each in doubt.doubtful_slices}
    wrong = (mask_ijk.transpose(2, 1, 0) > 0) != organ.truth_khw
    axes = (mapping.slice_axis, 0)
    mask, counts = (np.moveaxis(array, *axes) for array in (mask_ijk, readings_ijk))
    distance = px_per_slice(mapping)
    told = {f.index: f for f in slice_figures(mask, counts, doubt.readings, distance, ious)}
    return [
        {
            "group": organ.group,
            "volume": organ.volume.key,
            "organ": organ.name,
            "slice": at,
            "wrong": int(wrong[at].sum()),
            "true": int(organ.areas[at]),
            "area": int(mask[at].sum()),
            "reason": marked.get(at),
            "followed": doubt.followed,
            "start": index,
            "figures": asdict(told[at]) if at in told else None,
        }
        for at in range(len(mask))
        if wrong[at].any() or mask[at].any() or at in told
    ]


def discrimination(judged: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """AUROC of each figure for "Dice below 0.7"."""
    from sklearn.metrics import roc_auc_score

    bad = [each["dice"] < GOOD_DICE for each in judged]
    found: dict[str, Any] = {"n": len(judged), "bad": sum(bad)}
    if 0 < sum(bad) < len(bad):
        for name in judged[0]["figures"]:
            doubts = [-each["figures"][name] for each in judged]
            found[name] = round(float(roc_auc_score(bad, doubts)), 3)
    return found


def captured(slices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the slices with a mask or a mistake: how many are marked, and what lies on these."""
    marked = [each for each in slices if each["reason"] is not None]
    wrong = sum(each["wrong"] for each in slices)
    worst = sorted((each["wrong"] for each in slices), reverse=True)[: len(marked)]
    reasons: dict[str, int] = defaultdict(int)
    for each in marked:
        reasons[each["reason"]] += 1
    return {
        "slices": len(slices),
        "marked": round(len(marked) / max(len(slices), 1), 3),
        "wrong_voxels_on_marked": round(sum(e["wrong"] for e in marked) / max(wrong, 1), 3),
        "on_as_many_worst_slices": round(sum(worst) / max(wrong, 1), 3),
        "by_reason": dict(reasons),
    }


def by_limits(slices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What limits near the product's would mark: of the first CT, over organs, and of all."""
    expected = (MOST_EXPECTED_WRONG - 0.02, MOST_EXPECTED_WRONG, MOST_EXPECTED_WRONG + 0.02)
    differing = (MOST_DIFFERING - 0.1, MOST_DIFFERING, MOST_DIFFERING + 0.15)
    limits = ((each, other) for each in expected for other in differing)
    return {f"{e:.2f}, {d:.2f}": _told(_marked_by(slices, e, d)) for e, d in limits}


def _marked_by(
    slices: Sequence[dict[str, Any]], expected_wrong: float, differing: float
) -> list[dict[str, Any]]:
    def reason(figures: dict[str, Any] | None) -> str | None:
        if figures is None:
            return None
        if figures["expected_wrong"] > expected_wrong:
            return "segmenter"
        if figures["differing"] > differing:
            return "readings"
        return "end" if figures["is_end"] else None

    return [{**each, "reason": reason(each["figures"])} for each in slices]


def _told(slices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("marked", "wrong_voxels_on_marked")
    found = captured_by_organ(slices)
    return {group: [each[name] for name in names] for group, each in found.items()}


def captured_by_organ(slices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same of each volume, and as the mean over organs, so that none counts by its size."""
    volumes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    organs: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for each in slices:
        volumes[each["volume"]].append(each)
        organs[each["volume"], each["organ"]].append(each)
    found = [captured(of_organ) for of_organ in organs.values()]
    mean = {
        name: round(float(np.mean([each[name] for each in found])), 3)
        for name in ("marked", "wrong_voxels_on_marked")
        if found
    }
    return {
        "slices": captured(slices),
        "mean_over_organs": {"organs": len(found), **mean},
        **{f"slices_{volume}": captured(of_volume) for volume, of_volume in volumes.items()},
    }


def measure(pipeline: Pipeline, options: BenchmarkOptions) -> Iterator[dict[str, Any]]:
    """What is measured of each question, then of each slice of a propagated mask."""
    organs = [
        organ for labelled in load_volumes(Path(options.data)) for organ in organs_of(labelled)
    ]
    parts = options.parts.split(",")
    for organ in organs if "organs" in parts else ():
        for question in organ_questions(organ, options.per_organ):
            yield judge(pipeline, question, options.samples)
    if "rows" in parts:
        size = pipeline.reasoner.input_size
        for question in row_questions(options.rows, options.questions, size):
            yield judge(pipeline, question, options.samples)
    for organ in organs if "slices" in parts else ():
        yield from judge_volume(pipeline, organ, options.samples)


def report(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all, and of each kind of image."""
    judged = [each for each in measured if "query" in each]
    slices = [each for each in measured if "slice" in each]
    masks = [
        JudgedMask(
            each["figures"]["with_answer"],
            each["dice"],
            each["figures"]["predicted_iou"] if each["has_mask"] else None,
            each["patient"],
            each["outcome"] != "not_understood",
        )
        for each in judged
    ]
    kinds = sorted({each["group"] for each in judged})
    enough = len(masks) >= LEAST_ANSWERS
    return {
        "all": discrimination(judged),
        "answers_with_a_mask": discrimination([each for each in judged if each["has_mask"]]),
        **{kind: discrimination([e for e in judged if e["group"] == kind]) for kind in kinds},
        "calibrated": doubt_figures(masks, unseen_chances(masks)) if enough else None,
        **captured_by_organ(slices),
        "by_limits": by_limits(slices) if slices else None,
    }


def main() -> None:
    """Command line entry point."""
    import torch

    options = command_line(BenchmarkOptions)
    if options.samples < 2:
        raise SystemExit(f"--samples is {options.samples}; expected 2 or more answers to compare.")
    torch.set_num_threads(options.threads)
    pipeline = Pipeline.from_registry(options.reasoner, options.segmenter, device="cpu")
    kept = Path(options.dump or os.devnull)
    known = kept.read_text("utf-8") if kept.exists() else ""
    measured = [json.loads(line) for line in known.splitlines()]
    with kept.open("a", encoding="utf-8") as dump:
        for line in measure(pipeline, options):
            measured.append(line)
            dump.write(json.dumps(line) + "\n")
            dump.flush()
    print(json.dumps(report(measured)))


if __name__ == "__main__":
    main()
