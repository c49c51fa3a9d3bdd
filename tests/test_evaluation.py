# SPDX-License-Identifier: Apache-2.0
"""Runs of an evaluation: literal figures, outcomes, kills, and what programs read of them."""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import re
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")
pytest.importorskip("monai")

from PIL import Image
from pyarrow.parquet import read_table
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from support import umrg
from support.evaluated import BoxFiller, Scripted, answer_text, predict_until_killed
from typer.testing import CliRunner

from medreasoner_infer.models.loading import load_segmenter
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.pipeline import Pipeline
from medreasoner_training.evaluation import (
    EvaluationRunError,
    Measuring,
    Run,
    RunSettings,
    compare_reports,
    evaluate,
    open_rows,
    read_predictions,
)
from medreasoner_training.evaluation.metrics import mask_dice, mask_scores, prompt_scores
from medreasoner_training.evaluation.picked import picked
from medreasoner_training.evaluation.predictions import (
    JOURNAL_NAME,
    PREDICTIONS_NAME,
    Journal,
    Prediction,
    write_predictions,
)
from medreasoner_training.evaluation.report import make_report
from medreasoner_training.evaluation.running import predict
from medreasoner_training.evaluation.summary import summarise
from medreasoner_training.gate import GateConfig
from medreasoner_training.rewards import dice, read_completion, read_ground_truth
from monailabel_app.cli.app import app

CONFIG = GateConfig(resamples=100)
TRUE_BOX, TRUE_POINTS = (10, 20, 50, 40), ((20, 30), (40, 30))
TEXTS = {
    "perfect": answer_text(TRUE_BOX, *TRUE_POINTS),
    "left half": answer_text((10, 20, 30, 40), *TRUE_POINTS),
    "shifted points": answer_text(TRUE_BOX, (30, 30), (50, 30)),
    "absent": "<think>Nothing.</think><answer>null</answer>",
    "puzzled": '<think>What?</think><answer>"not understood"</answer>',
    "declined": "I'm sorry, I cannot identify structures on medical images.",
    "lost": "The bright area is at [10, 20, 50, 40].",
}
# Two discs of radius 10 whose centres are 10 apart share 200 acos(1/2) - 5 sqrt(300).
LENS, DISC = 200 * np.arccos(0.5) - 5 * np.sqrt(300), np.pi * 100


def source_of(folder: Path, questions=tuple(TEXTS)):
    rows = [
        umrg.row(number, TRUE_BOX, question, "liver") for number, question in enumerate(questions)
    ]
    return open_rows(str(umrg.write(folder / "data" / "test.parquet", rows)))


def run_in(folder: Path, segmenter=None, questions=tuple(TEXTS), out="out", **settings) -> Run:
    source = source_of(folder, questions)
    return Run(
        source, Scripted(TEXTS), segmenter or BoxFiller(), RunSettings(**settings), folder / out
    )


@pytest.fixture
def by_question(tmp_path):
    return {each.question: each for each in predict(run_in(tmp_path))}


def test_figures_are_the_literal_ones(by_question) -> None:
    perfect, half = by_question["perfect"], by_question["left half"]
    assert perfect.bbox == TRUE_BOX
    assert (perfect.point_1, perfect.point_2) == TRUE_POINTS
    assert (perfect.box_iou, perfect.pdice, perfect.dice) == (1.0, pytest.approx(1.0), 1.0)
    assert perfect.pdice_as_released == pytest.approx(2.0, abs=1e-6)
    assert (perfect.surface_dice, perfect.hausdorff95_px) == (1.0, 0.0)
    assert half.box_iou == 0.5
    assert half.dice == half.dice_box == pytest.approx(2 * 400 / (400 + 800), abs=1e-6)
    assert half.dice_points == pytest.approx(2 * 32 / (32 + 800), abs=1e-6)
    assert half.dice_true_prompts == half.dice_true_box == 1.0
    assert half.dice_true_points == half.dice_points
    assert 0.8 < half.dice_jittered_box < 1.0


def test_the_published_pdice_has_a_name_of_its_own(by_question) -> None:
    shifted = by_question["shifted points"]
    assert shifted.pdice == pytest.approx(LENS / DISC, abs=1e-4)
    assert shifted.pdice_as_released == pytest.approx(2 * LENS / (2 * DISC - LENS), abs=1e-4)


def test_outcomes_are_told_apart_and_without_a_box_count_0(by_question) -> None:
    assert {question: each.outcome for question, each in by_question.items()} == {
        "perfect": "present", "left half": "present", "shifted points": "present",
        "absent": "absent", "puzzled": "not_understood", "declined": "refused", "lost": "failed",
    }  # fmt: skip
    for question in ("absent", "puzzled", "declined", "lost"):
        each = by_question[question]
        assert (each.box_iou, each.pdice, each.pdice_as_released, each.dice) == (0, 0, 0, 0)
        assert (each.bbox, each.hausdorff95_px, each.dice_true_prompts) == (None, None, 1.0)
        assert each.completion == TEXTS[question]
    assert by_question["lost"].fault == "MissingAnswerError"


def test_the_parts_of_what_is_lost_add_up(tmp_path) -> None:
    found = summarise(predict(run_in(tmp_path)), CONFIG)
    mean = found.overall.values["dice"].mean
    parts = found.errors
    assert mean == pytest.approx((1 + 2 / 3 + 1) / 7, abs=1e-6)
    assert parts.segmenter.mean == 0.0
    assert parts.without_box.mean == pytest.approx(4 / 7)
    assert parts.wrong_prompts.mean == pytest.approx(1 / 3 / 7, abs=1e-6)
    total = mean + parts.segmenter.mean + parts.without_box.mean + parts.wrong_prompts.mean
    assert total == pytest.approx(1.0)
    assert parts.reasoner.mean == pytest.approx(parts.without_box.mean + parts.wrong_prompts.mean)


def test_overlaps_agree_with_the_released_evaluation(reward_cases) -> None:
    sound = 0
    for case in reward_cases:
        reading = read_completion(case["completion"])
        if case["eval"] and reading.bbox_xyxy_px and reading.points_xy_px:
            truth = read_ground_truth(case["ground_truth"])
            found = prompt_scores(reading.bbox_xyxy_px, reading.points_xy_px, truth)
            assert found.box_iou == pytest.approx(case["eval"]["iou"], abs=1e-4)
            assert found.pdice_as_released == pytest.approx(case["eval"]["pdice"], abs=1e-4)
            sound += 1
    assert sound > len(reward_cases) / 3


def test_masks_are_measured_as_by_hand() -> None:
    """Against our own Dice, and against distances between all pixels of both outlines."""
    rng = np.random.default_rng(5)
    for _ in range(5):
        x1, y1, width, height = rng.integers(4, 30, 4)
        mask, true = np.zeros((2, 90, 100), bool)
        mask[y1 : y1 + height, x1 : x1 + width] = True
        true[10:40, 15:45] = True
        found = mask_scores(mask, true)
        assert found.dice == pytest.approx(dice(mask, true), abs=1e-6)
        outlines = [np.argwhere(each & ~binary_erosion(each)) for each in (mask, true)]
        apart = cdist(*outlines)
        near, far = apart.min(1), apart.min(0)
        within = (near <= 1).sum() + (far <= 1).sum()
        assert found.surface_dice == pytest.approx(within / sum(map(len, outlines)), abs=1e-6)
        percentiles = [np.percentile(each, 95) for each in (near, far)]
        assert found.hausdorff95_px == pytest.approx(max(percentiles), abs=1e-4)
    assert mask_dice(np.zeros((9, 9), bool), np.ones((9, 9), bool)) == 0.0


def test_a_segmenter_of_boxes_only_has_no_figure_for_points(tmp_path) -> None:
    predictions = predict(run_in(tmp_path, BoxFiller(takes_points=False)))
    half = predictions[1]
    assert (half.dice_points, half.dice_true_points) == (None, None)
    assert half.dice == half.dice_box == pytest.approx(2 / 3, abs=1e-6)
    found = summarise(predictions, CONFIG).overall.values
    assert not {"dice_points", "dice_true_points"} & set(found)
    assert found["dice"].n == 7


def test_boxes_beyond_the_image_are_cut_for_the_segmenter_and_told_as_they_are(tmp_path) -> None:
    texts = {"perfect": answer_text((10, 20, 84, 84), (20, 30), (83, 83))}
    run = run_in(tmp_path, questions=("perfect",))
    run.reasoner.texts = texts
    (found,) = predict(run)
    assert found.bbox == (10, 20, 84, 84)
    assert found.box_iou == pytest.approx(800 / (74 * 64))


def test_absent_targets_are_counted_apart_and_in_no_mean(tmp_path) -> None:
    row = umrg.row(0, TRUE_BOX, "perfect", "liver")
    nothing = umrg.row(1, TRUE_BOX, "absent", "liver")
    wrong = umrg.row(2, TRUE_BOX, "left half", "liver")
    for absent in (nothing, wrong):
        absent["reward_model"]["ground_truth"] = "null"
    source = open_rows(str(umrg.write(tmp_path / "test.parquet", [row, nothing, wrong])))
    run = Run(source, Scripted(TEXTS), BoxFiller(), RunSettings(), tmp_path / "out")
    predictions = predict(run)
    report = make_report(run.record(), predictions, CONFIG).to_dict()
    assert [each.dice for each in predictions] == [1.0, None, None]
    assert (report["n"], report["questions"], report["dice"]) == (1, 3, 1.0)
    assert report["outcomes"]["absent"] == {
        "present": 1, "absent": 1, "not_understood": 0, "refused": 0, "failed": 0,
    }  # fmt: skip


def test_a_data_set_without_any_target_has_counts_and_no_means(tmp_path) -> None:
    row = umrg.row(0, TRUE_BOX, "absent", "liver")
    row["reward_model"]["ground_truth"] = "null"
    source = open_rows(str(umrg.write(tmp_path / "test.parquet", [row])))
    run = Run(source, Scripted(TEXTS), BoxFiller(), RunSettings(), tmp_path / "out")
    report = evaluate(run, CONFIG).to_dict()
    assert (report["n"], report["dice"], report["errors"]) == (0, None, None)
    assert report["outcomes"]["absent"]["absent"] == 1


def test_reports_have_what_other_programs_read(tmp_path) -> None:
    run = run_in(tmp_path)
    evaluate(run, CONFIG)
    report = json.loads((run.folder / "report.json").read_text())
    assert list(report)[:4] == ["box_iou", "pdice_as_released", "dice", "n"]
    rows = read_table(run.folder / "predictions.parquet").to_pylist()
    fixed = {
        "id", "bbox", "point_1", "point_2", "outcome", "box_iou", "pdice_as_released", "dice",
        "completion",
    }  # fmt: skip
    assert fixed <= set(rows[0])
    assert report["n"] == len(rows) == 7
    for name in ("box_iou", "pdice_as_released", "dice"):
        assert report[name] == pytest.approx(np.mean([row[name] for row in rows]), abs=1e-12)
    assert rows[0]["bbox"] == [10.0, 20.0, 50.0, 40.0]
    page = (run.folder / "report.html").read_text()
    assert page.count("data:image/png") == 2 + 9
    assert "MedReasoner-7B" in page
    assert "I&#39;m sorry" in page  # what a model says is text, never markup


def test_a_page_shows_no_markup_of_questions_or_answers(tmp_path) -> None:
    texts = {"<b>perfect</b>": TEXTS["perfect"].replace("There.", "<script>x</script>")}
    run = run_in(tmp_path, questions=tuple(texts))
    run.reasoner.texts = texts
    evaluate(run, CONFIG)
    page = (run.folder / "report.html").read_text()
    assert "<b>perfect" not in page
    assert "<script>" not in page


def test_best_median_and_worst_are_those_and_wrong_boxes_come_before_none(tmp_path) -> None:
    found = picked(predict(run_in(tmp_path)))
    shown = {(each.rank, each.prediction.question) for each in found}
    assert ("best", "perfect") in shown
    assert ("best", "shifted points") in shown
    worst = [each.prediction.outcome for each in found if each.rank == "worst"]
    assert worst == ["absent", "not_understood", "refused"]


QUESTIONS = tuple(TEXTS) * 2


def _table(folder: Path) -> list[dict]:
    rows = read_table(folder / "predictions.parquet").to_pylist()
    return [{k: v for k, v in row.items() if not k.endswith("_s")} for row in rows]


@pytest.mark.slow
def test_five_kills_and_a_resume_give_the_same_table(tmp_path) -> None:
    quiet = run_in(tmp_path, questions=QUESTIONS, out="quiet", batch=2)
    expected = evaluate(quiet, CONFIG).to_dict()
    lengths, data = [], str(tmp_path / "data" / "test.parquet")
    # Forked from a process that has imported, and run, nothing but these: threads are not forked.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "monai.metrics", "pyarrow.parquet", "scipy.ndimage"])
    for call in (3, 9, 0, 13, 25):
        child = context.Process(
            target=predict_until_killed, args=(call, data, str(tmp_path / "out"), TEXTS)
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        lengths.append(len(Journal(tmp_path / "out" / JOURNAL_NAME).values))
    assert lengths[0] < lengths[-1] < len(QUESTIONS) / 2
    resumed = run_in(tmp_path, questions=QUESTIONS, batch=2)
    found = evaluate(resumed, CONFIG).to_dict()
    assert resumed.reasoner.batches.count(2) == len(QUESTIONS) / 2 - lengths[-1]
    assert _table(resumed.folder) == _table(quiet.folder)
    assert {**found, "seconds": 0} == {**expected, "seconds": 0}
    assert not (resumed.folder / JOURNAL_NAME).exists()


def test_of_a_line_cut_short_nothing_counts(tmp_path) -> None:
    run = run_in(tmp_path, questions=QUESTIONS, batch=2)
    predict(run)
    expected, path = _table(run.folder), run.folder / JOURNAL_NAME
    whole = Journal(path)
    predictions = read_predictions(run.folder / "predictions.parquet")
    whole.append(predictions[:2])
    whole.append(predictions[2:4])
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        (run.folder / "predictions.parquet").unlink()
        path.write_bytes(content[:length])
        predict(run_in(tmp_path, questions=QUESTIONS, batch=2))
        assert _table(run.folder) == expected


def test_held_out_super_categories_are_told_apart(tmp_path) -> None:
    """Rows are of the abdomen and of the lung by turns; "perfect" is the first one."""
    run = run_in(tmp_path)
    report = evaluate(run, CONFIG, held_out_super_categories=("lung",)).to_dict()
    told, rows = report["protocol"], _table(run.folder)
    assert (told["name"], told["super_categories"]) == ("ood", ("lung",))
    assert (told["others"]["n"], told["held_out"]["n"]) == (4, 3)
    for part, places in (("others", (0, 2, 4, 6)), ("held_out", (1, 3, 5))):
        expected = np.mean([rows[place]["dice"] for place in places])
        assert told[part]["values"]["dice"]["mean"] == pytest.approx(expected)
    assert "Out of distribution" in (run.folder / "report.html").read_text()
    with pytest.raises(EvaluationRunError, match="'brain'; it has: abdomen, lung"):
        evaluate(run_in(tmp_path), CONFIG, held_out_super_categories=("brain",))


@pytest.mark.parametrize("given", [["--protocol", "ood"], ["--protocol", "iid"]])
def test_a_protocol_needs_what_is_held_out(tmp_path, given) -> None:
    data = str(umrg.write(tmp_path / "test.parquet", [umrg.row(0, TRUE_BOX, "perfect", "liver")]))
    result = CliRunner().invoke(app, ["evaluate", data, "--out", str(tmp_path / "out"), *given])
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_super_category_that_is_not_asked_about_is_told_before_models_load(
    tmp_path, monkeypatch
) -> None:
    """Of the three rows the heart's has no target, and the eye's is not among the two asked."""
    rows = [umrg.row(number, TRUE_BOX, f"Which {number}?", "liver") for number in range(3)]
    for row, name in zip(rows, ("abdomen", "eye", "heart"), strict=True):
        row["extra_info"]["supercategory"] = name
    rows[2]["reward_model"]["ground_truth"] = "null"
    data = str(umrg.write(tmp_path / "test.parquet", rows))
    monkeypatch.setattr(Pipeline, "from_registry", lambda *_, **__: pytest.fail("loaded"))
    for name in ("brain", "heart", "eye"):
        given = ("--protocol", "ood", "--held-out-supercategory", name, "--limit", "2")
        result = CliRunner().invoke(app, ["evaluate", data, "--out", str(tmp_path / "out"), *given])
        assert f"'{name}'; it has: abdomen." in str(result.exception)


def test_what_is_finished_is_not_asked_again(tmp_path) -> None:
    predict(run_in(tmp_path))
    again = run_in(tmp_path)
    assert len(predict(again)) == 7
    assert again.reasoner.batches == []


def test_another_run_does_not_go_on_in_the_folder(tmp_path) -> None:
    predict(run_in(tmp_path))
    with pytest.raises(EvaluationRunError, match="an evaluation with other settings"):
        predict(run_in(tmp_path, limit=3))
    with pytest.raises(EvaluationRunError, match="other data"):
        predict(run_in(tmp_path, questions=("perfect",)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    with pytest.raises(EvaluationRunError, match="no evaluation"):
        predict(run_in(tmp_path, out="full"))


def test_a_limit_spreads_the_questions_over_the_data(tmp_path) -> None:
    found = predict(run_in(tmp_path, limit=3, measuring=Measuring(False, False)))
    assert [each.id for each in found] == ["umrg_00001", "umrg_00003", "umrg_00005"]
    assert found[0].dice_box is None
    assert found[0].dice_true_prompts is None


def test_patients_are_drawn_whole(tmp_path) -> None:
    """Without patients each image is its own; all questions of one image have no interval."""
    rows = [umrg.row(0, TRUE_BOX, question, "liver") for question in TEXTS]
    source = open_rows(str(umrg.write(tmp_path / "one.parquet", rows)))
    run = Run(source, Scripted(TEXTS), BoxFiller(), RunSettings(), tmp_path / "one")
    one = summarise(predict(run), CONFIG).overall
    many = summarise(predict(run_in(tmp_path)), CONFIG).overall
    assert (one.patients, one.values["dice"].low) == (1, None)
    assert many.patients == 7
    assert many.values["dice"].low < many.values["dice"].mean < many.values["dice"].high
    assert many.values["dice"].mean == one.values["dice"].mean


def test_two_runs_are_compared_pair_by_pair(tmp_path) -> None:
    predict(run_in(tmp_path, out="a"))
    better = run_in(tmp_path, out="b")
    better.reasoner.texts = TEXTS | {
        "left half": TEXTS["perfect"], "perfect": TEXTS["absent"], "lost": TEXTS["perfect"],
    }  # fmt: skip
    predict(better)
    found = compare_reports(tmp_path / "a", tmp_path / "b" / "report.json", CONFIG)
    lines = {line.metric: line for line in found.overall}
    assert found.questions == 7
    assert lines["dice"].difference == pytest.approx((1 / 3 - 1 + 1) / 7, abs=1e-6)
    assert lines["box_iou"].difference == pytest.approx(0.5 / 7)
    assert [each.question for each in found.lost] == ["perfect"]
    assert [each.question for each in found.gained] == ["lost", "left half"]
    with pytest.raises(EvaluationRunError, match=r"holds no predictions\.parquet"):
        compare_reports(tmp_path / "a", tmp_path, CONFIG)


def test_a_comparison_is_valid_json_where_no_interval_is_found(tmp_path) -> None:
    """All differences are one number but for its rounding, in which scipy finds no bounds."""
    patients = ["a"] * 10 + ["b"] * 11 + ["c"]
    for name, distance_px in (("one", 0.0), ("two", 7480.772251704464)):
        answers = [
            Prediction(
                f"{place}", "Where?", "liver", "abdomen", "CT", patient, "CC0-1.0", True, "present",
                dice=0.5, hausdorff95_px=distance_px,
            )
            for place, patient in enumerate(patients)
        ]  # fmt: skip
        (tmp_path / name).mkdir()
        write_predictions(answers, tmp_path / name / PREDICTIONS_NAME)
    runs, out = [str(tmp_path / name) for name in ("one", "two")], tmp_path / "compared.json"
    command = ["compare", *runs, "--resamples", "100", "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text(), parse_constant=pytest.fail)
    lines = {line["metric"]: line for line in found["overall"]}
    assert lines["hausdorff95_px"]["difference"] == pytest.approx(7480.772251704464)
    assert (lines["hausdorff95_px"]["low"], lines["hausdorff95_px"]["high"]) == (None, None)
    assert (lines["dice"]["low"], lines["dice"]["high"]) == (0, 0)
    assert "nan" not in result.output


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_comparison_replaces_an_earlier_one_and_nobody_else_s_file(tmp_path, option) -> None:
    predict(run_in(tmp_path, out="a"))
    file, report = tmp_path / "file", str(tmp_path / "a")
    command = ["compare", report, report, "--resamples", "100", option, str(file)]
    assert CliRunner().invoke(app, command).exit_code == 0
    content = file.read_bytes()
    assert CliRunner().invoke(app, command).exit_code == 0
    for other in (b"", b"notes", b"[1]", b'{"patients": {}}', b"<html>\xff</html>"):
        file.write_bytes(other)
        refused = CliRunner().invoke(app, command)
        assert (refused.exit_code, file.read_bytes()) == (2, other)
        assert "--overwrite" in refused.output
    assert CliRunner().invoke(app, [*command, "--overwrite"]).exit_code == 0
    assert file.read_bytes() == content


def test_where_two_runs_differ_is_shown_side_by_side(tmp_path) -> None:
    """By the embedded segmenter, which a comparison finds by the name in the run's record."""
    segmenter = load_segmenter(resolve_model("segmenter", "embedded"), device="cpu")
    for name, texts in (("a", TEXTS), ("b", TEXTS | {"perfect": TEXTS["declined"]})):
        run = run_in(tmp_path, segmenter, ("left half", "perfect"), name)
        run.reasoner.texts = texts
        predict(run)
    data, page = str(tmp_path / "data" / "test.parquet"), tmp_path / "compare.html"
    command = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "100"]
    result = CliRunner().invoke(app, [*command, "--html", str(page), "--data", data])
    assert result.exit_code == 0, result.output
    text = page.read_text()
    (png,) = re.findall("data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    width, height = Image.open(io.BytesIO(base64.b64decode(png))).size
    assert width == 3 * height
    assert "The second loses" in text
    assert "“perfect”" in text
    lines = [line.split() for line in result.output.splitlines()]
    assert ["first", "2", "0", "0", "0", "0"] in lines
    assert ["second", "1", "0", "0", "1", "0"] in lines
    umrg.write(tmp_path / "data" / "test.parquet", [umrg.row(0, TRUE_BOX, "perfect", "liver")])
    other = CliRunner().invoke(app, [*command, "--html", str(page), "--data", data])
    assert "have changed since" in str(other.exception)


def test_the_command_writes_the_reports_and_shows_the_table(tmp_path, monkeypatch) -> None:
    source_of(tmp_path)
    models = Pipeline(lambda: Scripted(TEXTS), BoxFiller)
    monkeypatch.setattr(Pipeline, "from_registry", lambda *args, **kwargs: models)
    data, out = str(tmp_path / "data" / "test.parquet"), str(tmp_path / "out")
    result = CliRunner().invoke(app, ["evaluate", data, "--out", out, "--resamples", "100"])
    assert result.exit_code == 0, result.output
    for said in ("MedReasoner-7B", "32.42", "abdomen", "not understood", "decoding constrained"):
        assert said in result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["present", "3", "1", "1", "1", "1"] in lines
    assert ["absent", "0", "0", "0", "0", "0"] in lines
    compared = CliRunner().invoke(app, ["compare", out, out, "--resamples", "100"])
    assert compared.exit_code == 0, compared.output
    assert "7 questions with a target; 0 of one run only." in compared.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        "not pinned" not in page + result.output
    )  # what is embedded is exchanged with the package


@pytest.mark.slow
def test_the_embedded_models_are_measured_on_real_images(shared_data: Path, tmp_path) -> None:
    out = tmp_path / "out"
    command = ["evaluate", str(shared_data / "real"), "--out", str(out), "--limit", "6"]
    result = CliRunner().invoke(app, [*command, "--resamples", "100"])
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["n"] == 6
    assert report["overall"]["values"]["dice_true_prompts"]["mean"] > 0.6
    assert 0 <= report["dice"] <= report["overall"]["values"]["dice_true_prompts"]["mean"]
