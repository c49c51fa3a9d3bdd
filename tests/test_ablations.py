# SPDX-License-Identifier: Apache-2.0
"""Arms trained from one start and set side by side: settings, figures, and a run that resumes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")
pytest.importorskip("monai")

from support import umrg
from support.tiny_qwen import save_tiny_qwen

from medreasoner_training.ablations import (
    Ablation,
    AblationConfig,
    AblationConfigError,
    arm_figures,
    markdown,
    read_ablation,
    run_ablation,
)
from medreasoner_training.ablations.config import UNTOUCHED, arm_config
from medreasoner_training.ablations.errors import ArmUnfinishedError
from medreasoner_training.evaluation import Prediction
from medreasoner_training.evaluation.errors import EvaluationRunError
from medreasoner_training.finetune import read_progress
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings import Method
from medreasoner_training.gate import GateConfig

CONFIG = GateConfig(resamples=200)
BOXES = [(10, 20, 50, 40), (4, 4, 24, 64), (30, 30, 70, 50), (12, 40, 36, 52)]


def written(folder: Path, text: str) -> Path:
    path = folder / "ablation.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms: {a: {}}", "data"),
        ("data: d", "arms"),
        ("data: d\narms: {}", "arms is empty"),
        ("data: d\narms: {Soft Rewards: {}}", "'Soft Rewards' cannot be called so"),
        ("data: d\narms: {../up: {}}", "cannot be called so"),
        ("data: d\narms: {untouched: {}}", "cannot be called so"),
        ("data: d\narms: {a: {}}\nseeds: [1, 1]", "seeds holds a number twice"),
        ("data: d\narms: {a: {}}\nval_share: 1", "val_share is 1.0"),
        ("data: d\narms: {a: {}}\nstart: live", "start is live"),
        ("data: d\narms: {a: {}}\nrewrds: soft", "rewrds"),
        ("data: [", "cannot be read as YAML"),
    ],
)
def test_a_file_that_means_nothing_is_refused_by_its_key(tmp_path, text, said) -> None:
    with pytest.raises(AblationConfigError) as refused:
        read_ablation(written(tmp_path, text))
    assert said in str(refused.value)


def test_arms_differ_in_what_they_say_only(tmp_path) -> None:
    text = (
        "data: d\nstart: embedded\nseeds: [3]\nchange: {grpo.steps: 7}\n"
        "arms: {sft: {method: sft, sft.steps: 5}, hard: {rewards.mode: hard}, "
        "typo: {grpo.stepz: 1}}"
    )
    config = read_ablation(written(tmp_path, text))
    sft, hard = (arm_config(config, arm, 3, tmp_path, "../dataset") for arm in ("sft", "hard"))
    assert (sft.method, sft.sft.steps, hard.method, hard.rewards.mode) == (
        Method.sft, 5, Method.grpo, "hard",
    )  # fmt: skip
    for each in (sft, hard):
        assert (each.grpo.steps, each.run.seed, each.data.folder) == (7, 3, "../dataset")
        assert (each.promotion.promote, each.promotion.store) == (False, "store")
    with pytest.raises(FineTuneConfigError, match=r"grpo\.stepz is no key"):
        arm_config(config, "typo", 3, tmp_path, "../dataset")


def prediction(number: int, category: str, dice: float | None, present: bool = True) -> Prediction:
    return Prediction(
        id=str(number), question="?", category="c", super_category=category, modality="CT",
        patient=f"p{number // 2}", licence="", target_present=present, outcome="present",
        box_iou=dice, pdice_as_released=dice, dice=dice,
    )  # fmt: skip


def answers() -> dict[str, list[list[Prediction]]]:
    """Six questions, two of each of three patients; the last one is about an absent target."""
    kinds = ("heart", "eye", "heart", "eye", "heart", "heart")

    def run(values) -> list[Prediction]:
        return [
            prediction(n, kind, value, value is not None)
            for n, (kind, value) in enumerate(zip(kinds, values, strict=True))
        ]

    return {
        UNTOUCHED: [run((0.1, 0.2, 0.3, 0.0, 0.5, None))],
        "soft": [run((0.3, 0.2, 0.3, 0.4, 0.7, None)), run((0.5, 0.4, 0.5, 0.2, 0.9, None))],
    }


def test_figures_are_means_over_seeds_and_questions_of_each_part() -> None:
    found = {(each.arm, each.part): each for each in arm_figures(answers(), ("eye",), CONFIG)}
    assert list(found) == [
        (UNTOUCHED, "not held out"), ("soft", "not held out"),
        (UNTOUCHED, "held out"), ("soft", "held out"),
    ]  # fmt: skip
    known, unknown = found["soft", "not held out"], found["soft", "held out"]
    assert (known.questions, known.patients, unknown.questions) == (3, 3, 2)
    assert known.means["dice"].mean == pytest.approx((0.4 + 0.4 + 0.8) / 3)
    assert known.against_untouched.difference == pytest.approx((0.3 + 0.1 + 0.3) / 3)
    assert unknown.means["dice"].mean == pytest.approx((0.3 + 0.3) / 2)
    assert unknown.against_untouched.difference == pytest.approx((0.1 + 0.3) / 2)
    assert found[UNTOUCHED, "held out"].against_untouched is None
    assert known.means["dice"].low <= known.means["dice"].mean <= known.means["dice"].high
    assert known.dice_by_seed == pytest.approx(((0.3 + 0.3 + 0.7) / 3, (0.5 + 0.5 + 0.9) / 3))
    assert " | 43.3, 63.3 | " in markdown(list(found.values()))


def test_without_held_out_super_categories_there_is_one_part() -> None:
    found = arm_figures(answers(), (), CONFIG)
    assert [(each.arm, each.questions) for each in found] == [(UNTOUCHED, 5), ("soft", 5)]
    lines = markdown(found).splitlines()
    assert len(lines) == 4
    assert lines[3].startswith("| soft | not held out | 5 | ")


@pytest.mark.slow
def test_a_folder_that_holds_something_else_is_no_ablation_s(tmp_path) -> None:
    (tmp_path / "out").mkdir()
    notes = tmp_path / "out" / "table.md"
    notes.write_text("mine")
    ablation = Ablation(AblationConfig(data="data", arms={"a": {}}), tmp_path, tmp_path / "out")
    with pytest.raises(AblationConfigError, match="Give a new folder"):
        run_ablation(ablation, lambda _: pytest.fail("trained"), lambda _: lambda done, total: None)
    assert [path.read_text() for path in notes.parent.iterdir()] == ["mine"]


def test_an_ablation_goes_on_where_it_ended(tmp_path) -> None:
    """Real trainings of two steps with a model of 0.1 M parameters."""
    pytest.importorskip("trl")
    from medreasoner_training.finetune.run import run as finetune

    model = tmp_path / "nano"
    save_tiny_qwen(model)
    prompt = {"system": "Ground.", "user_template": "{query}", "input_size": 112}
    more = {"image_encoding": "rgb", "max_reasoning_chars": 8}
    (model / "prompt.json").write_text(json.dumps(prompt | more))
    rows = [umrg.row(n, BOXES[n % 4], f"Which part {n}?", "liver") for n in range(20)]
    umrg.write(tmp_path / "data" / "train-00000-of-00001.parquet", rows[:16])
    umrg.write(tmp_path / "data" / "test-00000-of-00001.parquet", rows[16:])
    small = {
        "tuning": "full", "data.replay": None, "data.replay_share": 0, "grpo.steps": 1,
        "grpo.prompts_per_step": 1, "grpo.generations": 2, "grpo.max_completion_tokens": 16,
        "run.eval_steps": 0, "promotion.blend": 1.0,
    }  # fmt: skip
    sft = {"method": "sft", "sft.steps": 2, "sft.batch": 2, "sft.micro_batch": 2}
    config = AblationConfig(
        data="data", arms={"sft": sft}, start=str(model), change=small, val_share=0.5,
        held_out_super_categories=("lung",),
    )  # fmt: skip
    trained = []

    def train(run: Path):
        trained.append(run.name)
        finetune(run)
        return read_progress(run)

    def carried_out(config: AblationConfig):
        ablation = Ablation(config, tmp_path, tmp_path / "out", "cpu")
        return run_ablation(ablation, train, lambda what: lambda done, total: None)

    mistyped = {**vars(config), "held_out_super_categories": ("lungs",)}
    with pytest.raises(EvaluationRunError, match=r"test split .* 'lungs'; it has: abdomen, lung\."):
        carried_out(AblationConfig(**mistyped))
    assert not (tmp_path / "out").exists()
    first = carried_out(config)
    manifest = json.loads((tmp_path / "out" / "dataset" / "manifest.json").read_text())
    assert sum(split["rows"] for split in manifest["splits"].values()) == 8  # no lung
    assert {each.super_category for each in first["sft"][0]} == {"abdomen", "lung"}
    again = carried_out(config)
    assert trained == ["sft-seed0"]
    assert again == first
    grown = {"sft": sft, "faster": {**sft, "sft.learning_rate": 1e-3}}
    more_arms = carried_out(AblationConfig(**{**vars(config), "arms": grown}))
    assert trained == ["sft-seed0", "faster-seed0"]
    assert more_arms["sft"] == first["sft"]
    figures = arm_figures(more_arms, ("lung",), CONFIG)
    assert {each.arm for each in figures} == {UNTOUCHED, "sft", "faster"}
    assert not any(math.isnan(each.means["dice"].mean) for each in figures)
    # What random weights write earns nothing: the arm ends, and says why.
    unrewarded = {**grown, "soft": {"rewards.mode": "soft"}}
    with pytest.raises(ArmUnfinishedError, match=r"soft-seed0 has failed: .* changed no weight"):
        carried_out(AblationConfig(**{**vars(config), "arms": unrewarded}))
    other = {**vars(config), "arms": unrewarded, "held_out_super_categories": ()}
    with pytest.raises(AblationConfigError, match=r"with other held_out_super_categories\."):
        carried_out(AblationConfig(**other))
