# SPDX-License-Identifier: Apache-2.0
"""Questions about the public real images of many modalities that no training has seen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.language import LANGUAGES, unsided
from medreasoner_infer.types import XYXY

from ..phantom.anatomy import Label
from ..queries import known_targets
from ..questions import QuestionWriter
from .pictures import PHANTOM_KINDS, Picture, boxed, drawn, phantom_picture, pictures
from .samples import SIZE_PX
from .scoring import mean_with_interval, read_strictly
from .targets import GroundTruth
from .understanding import TARGET_KINDS, Answer, name_in

_SEED = 950_000
_PRIOR_DRAWS = 60
_DRAWS = 200
ABSENT_EVERYWHERE_ELSE = {
    "endoscopy": ("optic disc", "liver", "left lung", "cell nuclei"),
    "fundus": ("polyp", "spleen", "skin lesion", "right kidney"),
    "OCTA": ("polyp", "liver", "skin lesion", "heart"),
    "dermoscopy": ("optic disc", "stomach", "polyp", "left kidney"),
    "histology H&E": ("aorta", "polyp", "optic disc", "liver"),
    "fluorescence microscopy": ("aorta", "skin lesion", "optic disc", "spleen"),
    "brightfield microscopy": ("heart", "polyp", "brain lesion", "liver"),
    "ultrasound": ("optic disc", "left ventricle", "polyp", "vertebra"),
    "cardiac MR": ("optic disc", "skin lesion", "urinary bladder", "cell nuclei"),
    "X-ray": ("optic disc", "skin lesion", "urinary bladder", "polyp"),
    "brain MR": ("liver", "polyp", "left kidney", "optic disc"),
    "spine MR": ("optic disc", "skin lesion", "cell nuclei", "polyp"),
    "breast DCE-MR": ("optic disc", "polyp", "cell nuclei", "vertebra"),
    "CT": ("optic disc", "skin lesion", "polyp", "foveal avascular zone"),
}
"""Targets that an image of the modality cannot show, whatever its labels leave out."""


@dataclass(frozen=True)
class PictureCase:
    """A question about a real image; ``truth`` is ``None`` where the image cannot show it."""

    modality: str
    target: str
    grey: np.ndarray
    query: str
    truth: GroundTruth | None


def picture_cases(real_data: Path, writer: QuestionWriter, absent: int = 2) -> list[PictureCase]:
    """A question of the test split for each label of the test rows, and ``absent`` per image.

    A mask of both kidneys becomes two cases.

    Raises:
        FileNotFoundError: the folder holds no manifest.
    """
    rows = json.loads((real_data / "manifest.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(_SEED)
    cases = []
    for picture in pictures(real_data, [row for row in rows if row["split"] == "test"]):
        grey, truths = boxed(picture.grey, _sided(picture.masks), SIZE_PX)
        for name, truth in truths.items():
            query = _query(writer, name, rng)
            cases.append(PictureCase(picture.modality, name, grey, query, truth))
        for name in rng.choice(ABSENT_EVERYWHERE_ELSE[picture.modality], absent, replace=False):
            query = _query(writer, str(name), rng)
            cases.append(PictureCase(picture.modality, str(name), grey, query, None))
    return cases


def _sided(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kidneys, which the data set labels together, by the half of the axial image they lie in."""
    found = {name: mask for name, mask in masks.items() if name != "kidney"}
    kidneys = masks.get("kidney")
    if kidneys is not None:
        parts, count = ndimage.label(kidneys)
        for part in range(1, count + 1):
            column = np.nonzero(parts == part)[1].mean()
            name = "right kidney" if column < kidneys.shape[1] / 2 else "left kidney"
            found[name] = found.get(name, np.zeros_like(kidneys)) | (parts == part)
    return found


def _query(writer: QuestionWriter, name: str, rng: np.random.Generator) -> str:
    for _ in range(_DRAWS):
        kind = TARGET_KINDS[int(rng.integers(len(TARGET_KINDS)))]
        language = LANGUAGES[int(rng.integers(len(LANGUAGES)))]
        question = writer.write(kind, language, "test", rng, about=unsided(name))
        if question is not None and question.target == name:
            return question.text
    raise ValueError(f"No test question asks for {name!r}.")


def mean_boxes_of_training(
    training: Sequence[Picture], torso_boxes: dict[Label, XYXY]
) -> dict[tuple[str, str], XYXY]:
    """Mean box of each target in each modality over what was trained on, (modality, target)."""
    boxes: dict[tuple[str, str], list[XYXY]] = defaultdict(list)
    for picture in training:
        for name, truth in boxed(picture.grey, picture.masks, SIZE_PX)[1].items():
            boxes[picture.modality, name].append(truth.bbox_xyxy_px)
    for modality in PHANTOM_KINDS:
        for number in range(_PRIOR_DRAWS):
            rng = np.random.default_rng([_SEED, number])
            for name, truth in drawn(phantom_picture(modality, rng), SIZE_PX, rng)[1].items():
                boxes[modality, name].append(truth.bbox_xyxy_px)
    means = {key: _mean(found) for key, found in boxes.items()}
    return means | {("CT", known_targets()[label].name): box for label, box in torso_boxes.items()}


def _mean(boxes: Sequence[XYXY]) -> XYXY:
    x1, y1, x2, y2 = np.mean(boxes, 0).tolist()
    return x1, y1, x2, y2


def judged(
    cases: Sequence[PictureCase], answer: Answer, prior: dict[tuple[str, str], XYXY]
) -> dict:
    """Box IoU beside that of the mean box, names and absences, by modality."""
    completions = answer([case.grey for case in cases], [case.query for case in cases])
    columns: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case, completion in zip(cases, completions, strict=True):
        read = read_strictly(completion)
        for column in (columns[case.modality], columns["all"]):
            if case.truth is None:
                column["absent"].append(read is not None and read.outcome == "absent")
                continue
            box = None if read is None else read.bbox_xyxy_px
            column["box_iou"].append(0.0 if box is None else box_iou(box, case.truth.bbox_xyxy_px))
            column["named"].append(name_in(completion) == case.target)
            mean = prior.get((case.modality, case.target))
            if mean is not None:
                column["mean_box_iou"].append(box_iou(mean, case.truth.bbox_xyxy_px))
    return {
        modality: {name: mean_with_interval(values) for name, values in found.items()}
        for modality, found in columns.items()
    }
