# SPDX-License-Identifier: Apache-2.0
"""Checks of a reasoning, judged by the truth of phantoms: ``python benchmarks/faithfulness.py``.

A reasoner is asked for what the slices of generated CT examinations show. Each statement of its
reasonings is tested by the product and, by code of its own here, from the phantom's label map and
affine. Right answers are then asked for again without their region, without another one, and on
another phantom.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from medreasoner_infer.agreement import box_iou
from medreasoner_infer.checks_record import StatementCheck
from medreasoner_infer.imaging import Volume, choose_window
from medreasoner_infer.imaging.plane import Plane
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import InferenceResult
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import EarlierTarget, Grounding
from medreasoner_training.embedded.phantom.anatomy import PARTS, Label
from medreasoner_training.embedded.phantom.study import PhantomStudy, torso_ct
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.evaluation.faithfulness import CheckedAnswer, Share, faithfulness_of

MIN_PX = 80
SPACING_MM = (1.6, 1.6, 10.0)
TRACE = re.compile(
    r"points to the (?P<name>[a-z ]+), a (?P<brightness>bright|dark|grey) "
    r"(?P<shape>round|oval|elongated|irregular) region "
    r"(?:at the patient's (?P<place>[a-z ]+?)|in the patient's (?P<middle>middle))"
    r"(?:, (?P<where>left of|right of|behind|in front of) the (?P<other>[a-z ]+))?\."
)


@dataclass(frozen=True)
class Asked:
    """A question about a slice of a phantom."""

    study: PhantomStudy
    volume: Volume
    index: int
    label: Label
    number: int

    @property
    def query(self) -> str:
        return f"Where is the {name_of(self.label)}?"

    @property
    def truth(self) -> np.ndarray:
        return mask_of(self.study, self.label, self.index)


def name_of(label: Label) -> str:
    return known_targets()[label].name


def mask_of(study: PhantomStudy, label: Label, index: int) -> np.ndarray:
    """Bool (J, I): rows to the back, columns to the patient's left, as displayed."""
    return np.isin(study.labels[index], [label, *PARTS.get(label, ())])


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(mask)
    return (
        float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
    )  # fmt: skip


def cases(phantoms: int, per_phantom: int, first_seed: int) -> Iterator[Asked]:
    """Every phantom's visible targets, each on a slice that shows much of it."""
    for number in range(phantoms):
        study = torso_ct(first_seed + number, SPACING_MM)
        volume = Volume(
            study.hu.transpose(2, 1, 0),
            study.ijk_to_lps,
            "CT",
            f"phantom-{number}",
            Path("phantom"),
        )
        rng = np.random.default_rng(number)
        labels = [label for label in known_targets() if (study.labels == label).any()]
        for label in rng.permutation(labels)[:per_phantom]:
            areas = np.array([mask_of(study, label, k).sum() for k in range(len(study.labels))])
            large = np.flatnonzero(areas >= max(MIN_PX, areas.max() / 2))
            if large.size:
                yield Asked(study, volume, int(rng.choice(large)), Label(label), number)


def neighbours(asked: Asked) -> tuple[EarlierTarget, ...]:
    """The other organs of the slice, as if they had been asked for and answered truly."""
    masks = {label: mask_of(asked.study, label, asked.index) for label in known_targets()}
    return tuple(
        EarlierTarget(name_of(label), "axial", asked.index, box_of(mask))
        for label, mask in masks.items()
        if label != asked.label and mask.sum() >= MIN_PX
    )


class Truth:
    """What the label map says of the statements, in words of docs/checked_reasoning.md."""

    def __init__(self, asked: Asked, result: InferenceResult) -> None:
        self.asked, self.mask = asked, asked.truth
        low = result.slice.window_center - result.slice.window_width / 2
        self.grey = np.clip(
            (asked.study.hu[asked.index] - low) / result.slice.window_width * 255, 0, 255
        )
        rows, columns = np.nonzero(self.mask)
        self.x_mm = asked.study.origin_lps_mm[0] + columns.mean() * SPACING_MM[0]
        self.y_px = rows.mean() + 0.5

    def says(self, kind: str, claim: str, parts: dict[str, str | None]) -> bool | None:
        """Whether a statement is true; ``None`` where the label map cannot tell."""
        if kind == "side" and not claim.endswith("middle"):
            return bool((self.x_mm > 0) == claim.endswith("left"))
        if kind in ("side", "position"):
            return self._place((parts["place"] or parts["middle"]).split())
        if kind == "brightness":
            return self._brightness(claim)
        if kind == "shape":
            return self._shape(claim)
        return self._relation(parts["where"], parts["other"])

    def _place(self, words: list[str]) -> bool:
        # The phantom's midline is x = 0 by its construction; the scanner centres its depth.
        body = self.asked.study.hu[self.asked.index] > -300
        across = np.flatnonzero(body[len(body) // 2])
        quarter_mm = (across[-1] - across[0]) * SPACING_MM[0] / 4
        depth = self.y_px - len(self.mask) / 2
        true = {
            "left": self.x_mm > 0, "right": self.x_mm < 0, "middle": abs(self.x_mm) <= quarter_mm,
            "front": depth < 0, "back": depth > 0,
        }  # fmt: skip
        return all(true[word] for word in words)

    def _brightness(self, claim: str) -> bool:
        reach = round(0.03 * len(self.mask))
        rows, columns = np.nonzero(self.mask)
        near = np.zeros_like(self.mask)
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                if down**2 + right**2 <= reach**2:
                    near[rows + down, columns + right] = True
        difference = self.grey[self.mask].mean() - self.grey[near & ~self.mask].mean()
        return bool(
            {"bright": difference > 5, "dark": difference < -5, "grey": abs(difference) <= 20}[
                claim
            ]
        )

    def _shape(self, claim: str) -> bool:
        x1, y1, x2, y2 = box_of(self.mask)
        filled = self.mask.sum() / ((x2 - x1) * (y2 - y1))
        aspect = max(x2 - x1, y2 - y1) / min(x2 - x1, y2 - y1)
        long, short = np.linalg.svd(
            np.argwhere(self.mask) - np.argwhere(self.mask).mean(0), compute_uv=False
        )
        return bool(
            {
                "round": filled >= 0.4 and aspect <= 1.5,
                "oval": filled >= 0.4 and 1.1 <= aspect <= 2.2,
                "elongated": max(aspect, long / short) >= 1.6,
                "irregular": filled <= 0.65,
            }[claim]
        )

    def _relation(self, where: str, other: str) -> bool | None:
        label = next((known for known in known_targets() if name_of(known) == other), None)
        if label is None:
            return None
        found = mask_of(self.asked.study, label, self.asked.index)
        if found.sum() < MIN_PX:
            return None
        (x1, y1, x2, y2), (u1, v1, u2, v2) = box_of(self.mask), box_of(found)
        right, down = (x1 + x2 - u1 - u2) / 2, (y1 + y2 - v1 - v2) / 2
        # On the display the patient's left is on the right, and the back below.
        along = {"left of": right, "right of": -right, "behind": down, "in front of": -down}[where]
        return bool(along > 0 and along >= np.hypot(right, down) / 3)


def judged(asked: Asked, result: InferenceResult) -> Iterator[tuple[StatementCheck, bool]]:
    """Each statement that both can judge, and what the truth says."""
    found = TRACE.search(result.reasoning)
    if found is None:
        return
    truth = Truth(asked, result)
    for check in result.checks.statements:
        said = truth.says(check.kind, check.claim, found.groupdict())
        if check.verdict != "cannot be checked" and said is not None:
            yield check, said


def ask(pipeline: Pipeline, asked: Asked) -> InferenceResult:
    """The answer about the slice, with the boxes of its other organs known."""
    request = AskRequest(
        asked.query, SliceSelection(plane="axial", index=asked.index), known=neighbours(asked)
    )
    return pipeline.ask(asked.volume, request)


def checked(asked: Asked, result: InferenceResult, model_size: int) -> CheckedAnswer:
    """The answer with its slice, mask and truth, as the evaluation takes it."""
    shown = DisplayedSlice.of(
        asked.volume, Plane.AXIAL, asked.index, choose_window(asked.volume), model_size=model_size
    )
    prompts = result.prompts
    box = shown.mapping.slice_box_to_reasoner_px(prompts.bbox_xyxy_slice_px)
    points = [shown.mapping.slice_px_to_reasoner_px(point) for point in prompts.points_xy_slice_px]
    grounding = Grounding(result.reasoning, box, tuple((float(x), float(y)) for x, y in points[:2]))
    return CheckedAnswer(
        shown, asked.query, grounding, result.mask_ijk[:, :, asked.index].T > 0, result.checks,
        box_iou(prompts.bbox_xyxy_slice_px, box_of(asked.truth)) >= 0.5,
        f"phantom-{asked.number}", "CT",
    )  # fmt: skip


def agreement_table(pairs: list[tuple[StatementCheck, bool]]) -> dict[str, Share]:
    """By kind and over all: how often program and truth say the same."""
    same: dict[str, list[bool]] = {"all": []}
    for check, truth in pairs:
        agrees = (check.verdict == "holds") == truth
        same.setdefault(check.kind, []).append(agrees)
        same["all"].append(agrees)
    return {kind: Share.of(found) for kind, found in same.items()}


def main() -> None:
    """Measure and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reasoner", default="embedded")
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=740_000)
    parser.add_argument("--per-phantom", type=int, default=8)
    parser.add_argument(
        "--asked-again", type=int, default=60, help="right answers that are asked for again"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write")
    settings = parser.parse_args()
    begun = time.monotonic()
    pipeline = Pipeline.from_registry(settings.reasoner, device="cpu")
    pairs, of_right, answers, wrong, outcomes = [], [], [], [], Counter()
    for asked in cases(settings.phantoms, settings.per_phantom, settings.first_seed):
        result = ask(pipeline, asked)
        outcomes[result.outcome] += 1
        if not result.present:
            continue
        found = list(judged(asked, result))
        pairs += found
        wrong += [
            f"{asked.number}/{asked.index} {result.reasoning} | {check.kind} {check.claim}: "
            f"program {check.verdict} ({check.measured}), truth {truth}"
            for check, truth in found
            if (check.verdict == "holds") != truth
        ]
        answers.append(checked(asked, result, pipeline.reasoner.input_size))
        of_right += found if answers[-1].right else []
    print("\n".join(wrong))
    right = sum(answer.right for answer in answers)
    figures = {
        "outcomes": dict(outcomes), "answers": len(answers), "right": right,
        "agreement": {kind: asdict(share) for kind, share in agreement_table(pairs).items()},
        "agreement_right_answers": {
            kind: asdict(share) for kind, share in agreement_table(of_right).items()
        },
        "truth_holds": asdict(Share.of(truth for _, truth in pairs)),
        "reasoner_sha256": pipeline.reasoner.identity.weights_sha256,
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    asked_again = [answer for answer in answers if answer.right][: settings.asked_again]
    others = [answer for answer in answers if not answer.right]
    found = faithfulness_of(pipeline.reasoner, [*asked_again, *others])
    figures |= {"faithfulness": found.to_dict(), "seconds": round(time.monotonic() - begun)}
    print(json.dumps(figures["faithfulness"]))
    if settings.out:
        settings.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
