# SPDX-License-Identifier: Apache-2.0
"""The page of a run: what it shows, for whom, how much of it, and that a kill changes nothing."""

from __future__ import annotations

import base64
import io
import json
import re
import stat
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets", reason="the extra 'train' is not installed")
pytest.importorskip("trl", reason="the extra 'train' is not installed")

from PIL import Image
from support.runs import make_run_folder, make_site
from transformers import TrainerControl, TrainerState

from medreasoner_infer.errors import AnswerError
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.types import Grounding, ReasonerAnswer
from medreasoner_training.finetune import FineTuneConfig, config_from_dict
from medreasoner_training.finetune.grouped_batches import Rollouts
from medreasoner_training.finetune.progress_writer import ProgressWriter
from medreasoner_training.finetune.raw_samples import RawSample
from medreasoner_training.finetune.run import ExitCode, run
from medreasoner_training.finetune.settings import GrpoSettings, WatchSettings
from medreasoner_training.finetune.watch import page_of
from medreasoner_training.finetune.watch.drawn import Said, draw_answer, draw_truth
from medreasoner_training.finetune.watch.record import read_watched
from medreasoner_training.finetune.watch.watching import WatchedStage, Watching
from medreasoner_training.rewards import GroundTruth

SIDE = 64
TRUTH = GroundTruth((8.0, 8.0, 24.0, 24.0), ((12.0, 16.0), (20.0, 16.0)))
TRUE_JSON = '{"bbox_2d": [8, 8, 24, 24], "point_2d": [[12, 16], [20, 16]]}'
RIGHT = (
    '<think>There.</think><answer>{"bbox": [8, 8, 24, 24], "points_1": [12, 16], '
    '"points_2": [20, 16]}</answer>'
)
MARKUP = "<script>alert(1)</script><think>no end"
CONTROL = TrainerControl()


def sample(question: str = "Where is it?") -> RawSample:
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    return RawSample(image, np.zeros((SIDE, SIDE), bool), TRUTH, question, "liver", "p", None)


def answer(box) -> ReasonerAnswer:
    points = None if box is None else TRUTH.points_xy_px
    outcome = "absent" if box is None else "present"
    return ReasonerAnswer("text", Grounding("", box, points, outcome=outcome), None, 1)


def watching(folder: Path, first_step: int = 0, generations: int = 2, **settings) -> Watching:
    folder.mkdir(exist_ok=True)
    progress = ProgressWriter(folder)
    progress.evaluated(0.25)
    stage = WatchedStage(
        "<b>run</b>",
        page_of(folder).parent,
        WatchSettings(enabled=True, **settings),
        GrpoSettings(generations=generations),
        AnswerFrame(SIDE),
        first_step,
    )
    return Watching(stage, {0: sample(), 3: sample("Where is <i>that</i>?")}, progress)


def state_at(step: int, history: list | None = None) -> TrainerState:
    return TrainerState(global_step=step, max_steps=9, log_history=history or [])


def rollouts(step: int, texts=(RIGHT, MARKUP), advantages=(0.7, -0.7)) -> Rollouts:
    row = {"query": "Which one?", "ground_truth": TRUE_JSON, "square": Image.new("RGB", (64, 64))}
    terms = [{"bbox_iou": 1.0, "points_dice": None}, {"bbox_iou": 0.0, "points_dice": 0.25}]
    count = len(texts)
    return Rollouts(
        step, [row] * count, texts, terms * (count // 2), advantages, [False, True] * (count // 2)
    )


def pixels_of(png_base64: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png_base64))).convert("RGB"), int)


def coloured(png_base64: str, hexadecimal: str) -> int:
    """How many pixels have a colour."""
    wanted = [int(hexadecimal[at : at + 2], 16) for at in (1, 3, 5)]
    return int((abs(pixels_of(png_base64) - wanted).max(axis=2) < 40).sum())


def test_truth_and_answer_lie_on_the_image_in_their_own_colours():
    image = sample().image
    plain = draw_truth(image, None)
    truth = draw_truth(image, TRUTH)
    both = draw_answer(image, TRUTH, Said("a box", (30.0, 30.0, 60.0, 60.0), ((40.0, 40.0),)))
    counts = [[coloured(png, each) for each in ("#0d9488", "#d97706")] for png in
              (plain, truth, both)]  # fmt: skip
    assert counts[0] == [0, 0]
    assert counts[1][0] > 100
    assert counts[1][1] == 0
    assert min(counts[2]) > 100


@pytest.mark.parametrize(
    ("completion", "told"),
    [
        (RIGHT, "box IoU 1.00"),
        (RIGHT.replace("24, 24]", "24, 40]"), "box IoU 0.50"),
        ("<think>a</think><answer>null</answer>", "absent"),
        ('<think>a</think><answer>"not understood"</answer>', "not understood"),
        (MARKUP, "cannot be read"),
    ],
)
def test_what_a_completion_says(completion, told):
    assert Said.by_completion(completion).told(TRUTH) == told


def test_a_box_on_an_absent_target_has_no_iou():
    assert Said.by_answer(answer((1.0, 1.0, 9.0, 9.0))).told(None) == "a box"
    assert Said.by_answer(answer(None)).told(TRUTH) == "absent"
    assert Said.by_answer(AnswerError("no answer")).told(TRUTH) == "cannot be read"


def test_the_page_shows_answers_rewards_advantages_and_shares(tmp_path):
    shown = watching(tmp_path / "run")
    history = [
        {"step": 1, "reward": 1.5, "frac_reward_zero_std": 0.25, "completions/clipped_ratio": 0.5}
    ]
    shown.on_train_begin(None, state_at(0), CONTROL)
    shown.rollouts(rollouts(0))
    shown.answered(0, [answer((8.0, 8.0, 24.0, 24.0)), answer(None)])
    shown.answered(2, [answer(None), AnswerError("no answer")])
    shown.on_step_end(None, state_at(1, history), CONTROL)
    text = page_of(tmp_path / "run").read_text()
    for told in ("box IoU 1.00", "cannot be read", "after step 1", "Which one?", "+0.70", "-0.70",
                 "cut off", "bbox_iou", "0.250", "0.500", "Step 1: Which"):  # fmt: skip
        assert told in text, told
    record = read_watched(tmp_path / "run" / "watch")
    assert record.box_ious == ((1, 0.25),)
    assert [each.reward for each in record.groups[0].rollouts] == [1.0, 0.25]


def test_what_a_model_or_a_reader_wrote_is_no_markup(tmp_path):
    shown = watching(tmp_path / "run")
    shown.on_train_begin(None, state_at(0), CONTROL)
    shown.rollouts(rollouts(0))
    text = page_of(tmp_path / "run").read_text()
    for markup in ("<script", "<b>", "<i>"):
        assert markup not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "default-src 'none'" in text


def test_only_the_owner_may_read_it_and_removing_the_folder_removes_it(tmp_path):
    shown = watching(tmp_path / "run")
    shown.on_train_begin(None, state_at(0), CONTROL)
    shown.rollouts(rollouts(0))
    folder = tmp_path / "run" / "watch"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}
    assert modes == {"watch": 0o700, "index.html": 0o600, "record.json": 0o600}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    shown.rollouts(rollouts(10))
    assert [each.step for each in read_watched(folder).groups] == [11]


def test_no_more_is_kept_than_was_asked_for(tmp_path):
    shown = watching(tmp_path / "run", kept=3, groups=2, every_steps=2)
    shown.on_train_begin(None, state_at(0), CONTROL)
    for step in range(8):
        shown.rollouts(rollouts(step, (RIGHT, MARKUP) * 3, (0.0,) * 6))
        shown.answered(0, [answer(None)] * 4)
        shown.on_step_end(None, state_at(step + 1), CONTROL)
    record = read_watched(tmp_path / "run" / "watch")
    assert [each.step for each in record.looks] == [1, 7, 8]
    assert [each.step for each in record.groups] == [3, 3, 5, 5, 7, 7]
    assert not any(each.teaches for each in record.groups)
    assert [step for step, _ in record.box_ious] == [*range(1, 9)]


def test_a_resumed_stage_forgets_what_came_after_its_checkpoint(tmp_path):
    shown = watching(tmp_path / "run", first_step=5, every_steps=1)
    shown.on_train_begin(None, state_at(0), CONTROL)
    for step in range(4):
        shown.rollouts(rollouts(step))
        shown.answered(0, [answer(None)] * 4)
        shown.on_step_end(None, state_at(step + 1), CONTROL)
    again = watching(tmp_path / "run", first_step=5, every_steps=1)
    again.on_train_begin(None, state_at(2), CONTROL)
    record = read_watched(tmp_path / "run" / "watch")
    assert [each.step for each in record.looks] == [6, 7]
    assert [each.step for each in record.groups] == [6, 7]
    assert [step for step, _ in record.box_ious] == [6, 7]


def test_it_is_off_by_default_and_no_part_of_what_a_run_learns():
    from medreasoner_training.finetune.identity import what_is_learnt

    plain = FineTuneConfig()
    assert not plain.watch.enabled
    watched = config_from_dict({"watch": {"enabled": True}, "run": {"report_to": "none"}})
    assert watched != plain
    assert what_is_learnt(watched.to_dict()) == what_is_learnt(plain.to_dict())


CONFIG = """
method: grpo
tuning: full
data: {folder: ../set, augment: false}
grpo:
  steps: 4
  prompts_per_step: 2
  generations: 2
  max_completion_tokens: 32
  learning_rate: 1.0e-3
  warmup_steps: 0
run: {device: cpu, save_steps: 2, eval_steps: 1, eval_samples: 2, report_to: none}
watch: {enabled: true, every_steps: 1, kept: 9}
promotion: {store: store, name: tuned, promote: false}
gate: {min_patients: 2, resamples: 100}
"""


def untimed(page: Path) -> str:
    return re.sub(r"Written at \S+", "", page.read_text()).replace("killed", "quiet")


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_page_of_one_that_was_not(tmp_path, monkeypatch):
    """The machine dies after the third step's look, one step behind the checkpoint."""
    site = make_site(tmp_path)
    quiet = make_run_folder(site, "quiet", CONFIG)
    assert run(quiet) is ExitCode.OK
    killed = make_run_folder(site, "killed", CONFIG)
    ended = Watching.on_step_end

    def dies(self, args, state, control, **more):
        ended(self, args, state, control, **more)
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Watching, "on_step_end", dies)
        with pytest.raises(KeyboardInterrupt):
            run(killed)
    assert [look.step for look in read_watched(killed / "watch").looks] == [1, 2, 3]
    assert run(killed) is ExitCode.OK
    assert read_watched(killed / "watch") == read_watched(quiet / "watch")
    assert untimed(page_of(killed)) == untimed(page_of(quiet))
    record = read_watched(quiet / "watch")
    assert [look.step for look in record.looks] == [1, 2, 3]
    assert [group.step for group in record.groups] == [1, 1, 2, 2, 3, 3, 4, 4]
    log = json.loads((quiet / "grpo" / "checkpoint-4" / "trainer_state.json").read_text())
    rewards = [line["reward"] for line in log["log_history"] if "reward" in line]
    for step, reward in enumerate(rewards, 1):
        shown = [r.reward for g in record.groups if g.step == step for r in g.rollouts]
        assert np.mean(shown) == pytest.approx(reward, abs=1e-5)
