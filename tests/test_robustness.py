# SPDX-License-Identifier: Apache-2.0
"""Answers are compared with that to the plain question, box by box in the image as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Plane, Volume, Window
from medreasoner_infer.language import unsided
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import XYXY, Grounding, ReasonerAnswer, ReasonerRequest
from medreasoner_training.robustness import summary, variations, varied_answers
from monailabel_app.cli.app import app

SIZE = 64


class BrightSpot:
    """Finds the bright spot of the image, unless ``deaf`` to the question."""

    image_encoding = "rgb"
    input_size = SIZE

    def __init__(self, deaf: Callable[[str], bool] = lambda _: False) -> None:
        self._deaf = deaf

    def answer_batch(self, requests: list[ReasonerRequest]) -> tuple[ReasonerAnswer, ...]:
        return tuple(self._answer(request) for request in requests)

    def _answer(self, request: ReasonerRequest) -> ReasonerAnswer:
        if self._deaf(request.query):
            found = Grounding("Who?", None, None, outcome="not_understood")
        else:
            rows, columns = np.nonzero(request.image[..., 0] > 200)
            box: XYXY = (
                float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0,
            )  # fmt: skip
            found = Grounding("There.", box, ((box[0], box[1]), (box[0], box[1])))
        return ReasonerAnswer("", found, None, 1)


@pytest.fixture
def shown() -> DisplayedSlice:
    values = np.full((SIZE, SIZE, 1), -50, np.int16)
    values[10:20, 30:44] = 300
    volume = Volume(values, np.eye(4), "CT", "spot", Path("spot.nii"))
    return DisplayedSlice.of(volume, Plane.AXIAL, 0, Window(40, 400), model_size=SIZE)


def _kinds(answers) -> dict[str, object]:
    return {each.kind: each for each in summary(answers)}


def test_a_reasoner_that_sees_agrees_with_itself_however_it_is_asked(shown) -> None:
    asked = list(variations(shown, "liver"))
    kinds = _kinds(varied_answers(BrightSpot(), asked, "liver"))
    assert {"other words", "description", "typing error", "other language"} <= set(kinds)
    assert {"window", "shift", "mirror"} <= set(kinds)
    assert all(kind.mean_iou == 1.0 and kind.same_outcome == 1.0 for kind in kinds.values())


def test_what_is_not_understood_is_told_by_kind(shown) -> None:
    reasoner = BrightSpot(deaf=lambda query: not query.isascii())
    asked = list(variations(shown, "liver"))
    kinds = _kinds(varied_answers(reasoner, asked, "liver"))
    deaf = [not each.query.isascii() for each in asked if each.kind == "other language"]
    assert kinds["other language"].not_understood == pytest.approx(np.mean(deaf))
    assert kinds["other language"].not_understood > 0
    assert kinds["capitals"].not_understood == 0.0


def test_a_box_in_the_other_half_is_the_other_side(shown) -> None:
    class Confused(BrightSpot):
        def _answer(self, request: ReasonerRequest) -> ReasonerAnswer:
            left = request.query.isupper()
            box = (2.0, 2.0, 12.0, 12.0) if left else (50.0, 2.0, 60.0, 12.0)
            grounding = Grounding("There.", box, ((3.0, 3.0), (4.0, 4.0)))
            return ReasonerAnswer("", grounding, None, 1)

    asked = list(variations(shown, "left kidney"))
    kinds = _kinds(varied_answers(Confused(), asked, "left kidney"))
    assert kinds["capitals"].other_side == 1.0
    assert kinds["same question"].other_side == 0.0
    assert "mirror" not in kinds  # the mirrored left kidney lies where a right one does


def test_all_questions_ask_for_the_target(shown) -> None:
    asked = list(variations(shown, "left kidney", per_kind=3))
    others = {each.query for each in asked if each.kind == "other words"}
    assert len(others) == 3
    assert all("left" in q.lower() or "sinist" in q.lower() for q in others)


def test_a_target_is_one_of_the_vocabulary() -> None:
    assert unsided("left kidney") == "kidney"
    assert unsided("liver") == "liver"
    for name in ("left liver", "kidney stone operation"):
        with pytest.raises(InputError, match="not in the clinical vocabulary"):
            unsided(name)


def test_the_command_shows_a_row_for_each_kind_and_writes_every_answer(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(40, 30, (40, 40, 3)).astype(np.int16)
    image, out = tmp_path / "image.nii.gz", tmp_path / "report.json"
    nib.save(nib.Nifti1Image(values, np.eye(4)), image)
    options = ["--slice", "1", "--modality", "CT", "--per-kind", "1", "--out", str(out)]
    done = CliRunner().invoke(app, ["robustness", str(image), "liver", *options])
    assert done.exit_code == 0, done.output
    assert all(kind in done.output for kind in ("capitals", "other language", "mirror"))
    report = json.loads(out.read_text(encoding="utf-8"))
    assert report["slice_index"] == 1
    assert report["reasoner"]["weights_sha256"]
    assert {answer["kind"] for answer in report["answers"]} >= {"window", "shift", "mirror"}


def test_a_target_that_nobody_knows_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["robustness", str(tmp_path / "none.nii"), "left liver"])
    assert done.exit_code != 0
    assert "not in the clinical vocabulary" in str(done.exception or done.output)
