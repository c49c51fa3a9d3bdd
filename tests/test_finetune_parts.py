# SPDX-License-Identifier: Apache-2.0
"""Checkpoints, faults and callbacks of fine-tuning, each on its own."""

from __future__ import annotations

import errno
import json
import shutil
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest

from medreasoner_infer.answer.errors import AnswerError
from medreasoner_infer.errors import OutOfMemoryError
from medreasoner_infer.reasoners.coordinates import THOUSANDTHS, AnswerFrame
from medreasoner_infer.types import Grounding, ReasonerAnswer, SlicePrompt
from medreasoner_training.finetune import Progress, State, config_from_dict, read_progress
from medreasoner_training.finetune.checkpoints import (
    is_complete,
    mark_complete,
    newest_complete,
    remove_unfinished,
    require_space,
)
from medreasoner_training.finetune.errors import (
    DiskFullError,
    FineTuneConfigError,
    FrozenWeightsChangedError,
    NoChatTemplateError,
    NonFiniteLossError,
    NothingLearntError,
    RunChangedError,
    TooFewSamplesError,
)
from medreasoner_training.finetune.failures import typed_faults
from medreasoner_training.finetune.progress_writer import ProgressWriter
from medreasoner_training.finetune.record import (
    RunRecord,
    read_record,
    require_same,
    write_record,
)
from medreasoner_training.finetune.settings import GrpoSettings, RunSettings

torch = pytest.importorskip("torch")


def make_checkpoint(folder, step, complete=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "trainer_state.json").write_text("{}")
    if complete:
        mark_complete(path)
    return path


def test_the_newest_complete_checkpoint_is_taken(tmp_path):
    assert newest_complete(tmp_path) is None
    for step in (2, 10, 9):
        make_checkpoint(tmp_path, step)
    assert newest_complete(tmp_path).name == "checkpoint-10"


@pytest.mark.parametrize("damage", ["unmarked", "truncated", "missing", "bad mark"])
def test_a_half_written_checkpoint_is_skipped_and_removed(tmp_path, damage):
    good = make_checkpoint(tmp_path, 2)
    bad = make_checkpoint(tmp_path, 4, complete=damage != "unmarked")
    if damage == "truncated":
        (bad / "model.safetensors").write_bytes(b"wei")
    elif damage == "missing":
        (bad / "model.safetensors").unlink()
    elif damage == "bad mark":
        (bad / "complete.json").write_text("{")
    assert not is_complete(bad)
    assert newest_complete(tmp_path) == good
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_too_little_space_is_told_before_the_start(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2**30))
    weights = 10**9  # (2 + 1) x 12 + 12 bytes a weight: 48 GB
    with pytest.raises(DiskFullError, match=r"has 1\.0 GiB free.*about 44\.7 GiB"):
        require_space(tmp_path, weights, RunSettings())
    require_space(tmp_path, 10**7, RunSettings())


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            OutOfMemoryError,
            r"Lower grpo\.micro_batch",
        ),
        (MemoryError(), OutOfMemoryError, "The machine ran out of memory"),
        (
            RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"),
            NonFiniteLossError,
            "lower the learning rate",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, "ran full"),
        (RuntimeError("PytorchStreamWriter failed writing file"), DiskFullError, "ran full"),
    ],
)
def test_faults_of_the_machine_become_sentences(tmp_path, fault, error, says):
    with pytest.raises(error, match=says), typed_faults(tmp_path):
        raise fault


@pytest.mark.parametrize("fault", [OSError(errno.EACCES, "denied"), RuntimeError("bug")])
def test_other_faults_stay_what_they_are(tmp_path, fault):
    with pytest.raises(type(fault)) as caught, typed_faults(tmp_path):
        raise fault
    assert caught.value is fault


def test_frozen_weights_have_a_hash_that_tells_one_changed_bit():
    from medreasoner_training.finetune.frozen import frozen_sha256, require_unchanged

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2, dtype=torch.bfloat16))
    assert frozen_sha256(model) is None
    model[1].requires_grad_(False)
    before = frozen_sha256(model)
    with torch.no_grad():
        model[0].weight += 1.0
        require_unchanged(before, frozen_sha256(model))
        model[1].weight.view(torch.int16)[0, 0] ^= 1
    with pytest.raises(FrozenWeightsChangedError, match=before):
        require_unchanged(before, frozen_sha256(model))


def test_a_training_that_changed_no_weight_is_told_from_one_that_did():
    from medreasoner_training.finetune.frozen import learning_sha256, require_learnt

    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    model[1].requires_grad_(False)
    before = learning_sha256(model)
    with torch.no_grad():
        model[1].weight += 1.0  # frozen: another check's business
    log = [{"frac_reward_zero_std": 1.0}, {"frac_reward_zero_std": 0.5, "loss": 0.0}, {"loss": 0.0}]
    with pytest.raises(NothingLearntError, match="75% groups of rollouts whose rewards were all"):
        require_learnt(before, learning_sha256(model), log)
    with torch.no_grad():
        model[0].bias.view(torch.int32)[0] ^= 1
    require_learnt(before, learning_sha256(model), log)
    require_learnt(None, None, log)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_or_loss_that_is_not_finite_ends_the_training(value):
    from medreasoner_training.finetune.callbacks import FiniteGuard

    guard, state = FiniteGuard(), SimpleNamespace(global_step=6)
    model = torch.nn.Linear(2, 1)
    guard.on_pre_optimizer_step(None, state, None, model=model)
    model.weight.grad = torch.tensor([[0.0, value]])
    with pytest.raises(NonFiniteLossError, match="gradient's norm of step 7"):
        guard.on_pre_optimizer_step(None, state, None, model=model)
    guard.on_log(None, state, None, logs={"loss": 1.0})
    with pytest.raises(NonFiniteLossError, match="loss of step 6"):
        guard.on_log(None, state, None, logs={"loss": value})
    guard.on_step_end(None, state, None, model=model)
    with torch.no_grad():
        model.weight[0, 0] = value
    with pytest.raises(NonFiniteLossError, match="weights' norm of step 6"):
        guard.on_step_end(None, state, None, model=model)


def test_progress_tells_the_pace_and_keeps_the_best(tmp_path):
    seconds = iter(range(0, 1000, 10))
    progress = ProgressWriter(tmp_path, clock=lambda: next(seconds))
    progress.report(State.PREPARING, "Loading.", total_steps=8)
    progress.begin_training(2)
    progress.step_done(4, 1.5)
    now = read_progress(tmp_path)
    assert (now.step, now.total_steps, now.reward) == (4, 8, 1.5)
    assert now.seconds_left == 40.0  # 20 s for 2 steps, 4 to go
    progress.step_done(5, float("nan"))
    assert read_progress(tmp_path).reward == 1.5
    for iou in (0.4, 0.6, 0.5, None):
        progress.evaluated(iou)
    assert (read_progress(tmp_path).held_out_iou, progress.latest.best_iou) == (None, 0.6)


def test_only_the_main_process_writes_progress(tmp_path):
    ProgressWriter(tmp_path, is_main=False).report(State.TRAINING, "Training.")
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_resumed_with_other_settings_or_data(tmp_path):
    config = config_from_dict({}).to_dict()
    assert read_record(tmp_path) is None
    write_record(tmp_path, RunRecord("c", "embedded", None, config, "abc"))
    record = read_record(tmp_path)
    require_same(record, config, "abc")
    with pytest.raises(RunChangedError, match="the data set"):
        require_same(record, config, "abd")
    with pytest.raises(RunChangedError, match=r"tuning.*was lora, is full"):
        require_same(record, {**config, "tuning": "full"}, "abc")
    leaner = {**config, "grpo": {**config["grpo"], "micro_batch": 4}}
    require_same(record, leaner, "abc")  # a run that ran out of memory goes on with less
    with pytest.raises(RunChangedError, match="grpo"):
        require_same(record, {**config, "grpo": {**config["grpo"], "beta": 0.5}}, "abc")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunChangedError, match="damaged"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "expected"),
    [(64, None, 1, (64, 1)), (64, 4, 2, (4, 8)), (64, None, 4, (16, 1)), (2048, 8, 64, (8, 4))],
)
def test_a_step_is_shared_by_processes_and_passes(batch, micro, processes, expected):
    from medreasoner_training.finetune.arguments import split_batch

    assert split_batch(batch, micro, processes) == expected


def test_a_step_that_cannot_be_shared_evenly_is_refused():
    from medreasoner_training.finetune.arguments import split_batch

    with pytest.raises(FineTuneConfigError, match="64 samples cannot be shared by 3 processes"):
        split_batch(64, 4, 3)


def test_too_few_samples_are_refused():
    from medreasoner_training.finetune.grpo import require_samples

    require_samples(8, GrpoSettings())
    with pytest.raises(TooFewSamplesError, match="has 7 training samples; a step takes 8"):
        require_samples(7, GrpoSettings())


def test_a_model_without_a_chat_template_is_refused():
    from medreasoner_training.finetune.tunable import require_chat_template

    tokenizer = SimpleNamespace(chat_template=None)
    processor = SimpleNamespace(chat_template=None, tokenizer=tokenizer)
    with pytest.raises(NoChatTemplateError, match="m has no chat template"):
        require_chat_template(SimpleNamespace(processor=processor), "m")
    tokenizer.chat_template = "{{ messages }}"
    require_chat_template(SimpleNamespace(processor=processor), "m")


def test_a_published_prompt_is_read_back_alike(tmp_path):
    from medreasoner_infer.reasoners.prompts import REASONING_PROMPT, PromptFile, load_prompt_file
    from medreasoner_training.finetune.stage import prompt_json

    settings = PromptFile(REASONING_PROMPT, "rgb", 840, 900)
    (tmp_path / "prompt.json").write_text(prompt_json(settings))
    assert load_prompt_file(tmp_path) == settings
    assert "asks_reasoning" in json.loads(prompt_json(settings))


class Answering:
    """A reasoner that answers from a list; ``None`` cannot be read."""

    input_size, image_encoding = 64, "rgb"

    def __init__(self, groundings):
        self.by_query = groundings

    def answer_batch(self, requests):
        found = [self.by_query[request.query] for request in requests]
        if None in found:
            raise AnswerError("malformed")
        return tuple(ReasonerAnswer("", grounding, None, 1) for grounding in found)


class BoxSegmenter:
    """Fills the prompted box."""

    def segment_slice(self, image, prompt: SlicePrompt):
        x1, y1, x2, y2 = map(int, prompt.bbox_xyxy_px)
        mask = np.zeros(image.pixels.shape[:2], bool)
        mask[y1:y2, x1:x2] = True
        return SimpleNamespace(mask=mask)


def held_out_rows():
    """Five questions on squares of 128 px; the last target is absent."""
    from datasets import Dataset

    from medreasoner_infer.imaging import Plane
    from medreasoner_training.samples import QuerySource, Question, Sample
    from medreasoner_training.samples.schema import features, to_row

    def sample(query, patient, present):
        mask = np.zeros((128, 128), bool)
        mask[40:80, 20:60] = present
        return Sample(
            np.zeros((128, 128, 3), np.uint8), mask, Question(query, QuerySource.READER),
            "liver", (20, 40, 60, 80) if present else None,
            ((30, 50), (50, 60)) if present else None, Plane.AXIAL, 0, "CT", "w", "c", patient,
        )  # fmt: skip

    asked = [("right", "p"), ("half", "p"), ("denied", "q"), ("unreadable", "q")]
    samples = [sample(query, patient, True) for query, patient in asked]
    samples.append(sample("rightly denied", "r", False))
    rows = [to_row(each, index) for index, each in enumerate(samples)]
    return Dataset.from_list(rows, features=features())


def test_scores_are_those_of_the_answers():
    pytest.importorskip("datasets")
    from medreasoner_training.finetune.scoring import held_out_of, mean_iou, score_reasoner

    points = ((15.0, 25.0), (25.0, 30.0))
    denied = Grounding("", None, None)
    reasoner = Answering(
        {
            "right": Grounding("", (10.0, 20.0, 30.0, 40.0), points),  # 64 px: half of 128
            "half": Grounding("", (10.0, 20.0, 20.0, 40.0), points),
            "denied": denied,
            "unreadable": None,
            "rightly denied": denied,
        }
    )
    rows, seen = held_out_rows(), []
    scores = score_reasoner(
        reasoner, rows, name="n", segmenter=BoxSegmenter(), on_scored=lambda *n: seen.append(n)
    )
    held_out = held_out_of(rows)
    assert held_out.present.tolist() == [True] * 4 + [False]
    assert held_out.patients.tolist() == ["p", "p", "q", "q", "r"]
    assert scores.failed.tolist() == [False, False, False, True, False]
    assert scores.said_absent.tolist() == [False, False, True, False, True]
    np.testing.assert_allclose(scores.box_iou, [1.0, 0.5, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(scores.mask_dice, [1.0, 2 / 3, 0.0, 0.0, 0.0])
    assert mean_iou(scores, held_out) == pytest.approx(1.5 / 4)
    assert seen == [(5, 5)]


def test_a_question_not_understood_is_neither_found_nor_rightly_denied_nor_a_failure():
    pytest.importorskip("datasets")
    from medreasoner_training.finetune.scoring import held_out_of, score_reasoner
    from medreasoner_training.gate.scores import metric_values

    rows = held_out_rows().select([0, 4])  # one target is present, one absent
    puzzled = Grounding("", None, None, outcome="not_understood")
    reasoner = Answering({"right": puzzled, "rightly denied": puzzled})
    scores = score_reasoner(reasoner, rows, name="n", segmenter=BoxSegmenter())
    assert (scores.failed.tolist(), scores.said_absent.tolist()) == ([False] * 2, [False] * 2)
    values = {
        metric: metric_values(held_out_of(rows), scores, metric).tolist()
        for metric in ("box_iou", "mask_dice", "absence", "failures")
    }
    np.testing.assert_equal(
        values,
        {
            "box_iou": [0.0, np.nan], "mask_dice": [0.0, np.nan],
            "absence": [np.nan, 0.0], "failures": [0.0, 0.0],
        },
    )  # fmt: skip


def test_a_target_that_vanishes_on_the_model_s_square_scores_0_and_not_nan():
    pytest.importorskip("datasets")
    from PIL import Image

    from medreasoner_training.finetune.scoring import answer_rows

    mask = np.zeros((128, 128), np.uint8)
    mask[:, 0] = 255  # none of the 64 columns is read from the first of 128
    truth = {"bbox_2d": [0, 0, 1, 128], "point_2d": [[0, 20], [0, 90]]}
    info = {"category": "rim", "patient_key": "p", "present": True, "reasoning": None}
    row = {
        "images": [Image.new("RGB", (128, 128))], "masks": [Image.fromarray(mask)],
        "reward_model": {"ground_truth": json.dumps(truth)}, "extra_info": info,
        "prompt": [{"role": "user", "content": "rim"}],
    }  # fmt: skip
    flat = Grounding("", (3.0, 3.0, 3.9, 9.0), ((3.0, 4.0), (3.5, 8.0)))  # holds no whole pixel
    (outcome,) = answer_rows(Answering({"rim": flat}), [row], segmenter=BoxSegmenter())
    assert (outcome.failed, outcome.mask_dice) == (False, 0.0)


def test_key_points_are_scored_by_their_discs_and_by_the_target():
    pytest.importorskip("datasets")
    from medreasoner_training.finetune.scoring import answer_rows

    box, true_points = (10.0, 20.0, 30.0, 40.0), ((15.0, 25.0), (25.0, 30.0))  # 64 px: half of 128
    twice_as_far = ((10.0, 22.5), (30.0, 32.5))  # same centre; the second is beside the target
    answers = {"right": Grounding("", box, true_points), "half": Grounding("", box, twice_as_far)}
    rows = held_out_rows().select([0, 1])
    outcomes = answer_rows(Answering(answers), rows)
    assert [outcome.points_dice for outcome in outcomes] == pytest.approx([1.0, 0.4], abs=1e-5)
    assert [outcome.points_inside for outcome in outcomes] == [1.0, 0.5]


def test_the_mask_reward_sees_the_answer_on_the_segmenter_s_square():
    pytest.importorskip("datasets")
    from PIL import Image

    from medreasoner_training.finetune.grpo import reward_functions

    config = config_from_dict(
        {"rewards": {"mask_weight": 0.5}, "promotion": {"segmenter": "embedded"}}
    )
    frame = AnswerFrame(112, THOUSANDTHS)
    *_, mask_dice = reward_functions(config, frame, BoxSegmenter())
    mask = np.zeros((112, 112), np.uint8)
    mask[28:56, 28:84] = 255
    text = (
        '<answer>{"bbox": [250, 250, 750, 500], "points_1": [300, 300], "points_2": [400, 400]}'
        "</answer>"
    )
    square, true_mask = Image.new("RGB", (112, 112)), Image.fromarray(mask)
    truth = '{"bbox_2d": [10, 10, 20, 20], "point_2d": [[12, 12], [14, 14]]}'
    columns = {"square": [square], "mask": [true_mask], "ground_truth": [truth]}
    assert mask_dice([text], **columns) == [0.5]


def test_progress_is_frozen():
    with pytest.raises(AttributeError):
        Progress(State.TRAINING).step = 3
