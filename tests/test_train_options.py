# SPDX-License-Identifier: Apache-2.0
"""What a training may be asked for, and how it is told of."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

pytest.importorskip("monailabel")

from medreasoner_infer.errors import InputError
from medreasoner_infer.models.store import Provenance, ReasonerStore
from medreasoner_training.finetune import Progress, State
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.settings import Method, Tuning
from monailabel_app.training.data_set import export_settings, input_size_px
from monailabel_app.training.errors import TrainOptionError
from monailabel_app.training.options import known_configs, read_options, viewer_options
from monailabel_app.training.reporting import NewsFilter, progress_line, stats
from monailabel_app.training.trainer import trainer_command

CONFIGS = known_configs()


def test_options_shown_are_options_taken():
    shown = viewer_options(CONFIGS)
    assert shown["config"][0] == "embedded"
    # A viewer sends a choice as its chosen text, and all others as they were shown.
    sent = {key: value[0] if isinstance(value, list) else value for key, value in shown.items()}
    read = read_options({**sent, "model": "medreasoner", "client_id": "x"}, CONFIGS)
    assert read == read_options({}, CONFIGS)
    assert (read.name, read.fresh, read.val_share, read.max_slices) == ("embedded", False, 0.2, 8)


def test_viewers_texts_change_the_configuration():
    request = {"tuning": "lora", "steps": "12", "learning_rate": "3e-5", "seed": "4",
               "fresh": "true", "val_share": "0.4", "grpo.generations": "4"}  # fmt: skip
    read = read_options(request, CONFIGS)
    config = read.config
    assert config.tuning is Tuning.lora
    assert (config.grpo.steps, config.grpo.learning_rate) == (12, 3e-5)
    assert (config.grpo.generations, config.run.seed) == (4, 4)
    assert (read.fresh, read.val_share) == (True, 0.4)
    supervised = read_options({"method": "sft", "steps": 7}, CONFIGS).config
    assert (supervised.method, supervised.sft.steps) == (Method.sft, 7)
    assert supervised.grpo.steps == read_options({}, CONFIGS).config.grpo.steps


@pytest.mark.parametrize(
    ("request_", "error", "problem"),
    [
        ({"stepz": 3}, TrainOptionError, "Did you mean 'steps'"),
        ({"config": "none"}, TrainOptionError, "no configuration 'none'.*embedded"),
        ({"gate.min_patients": 2}, TrainOptionError, "no option of training"),
        ({"model.name": "../x"}, TrainOptionError, "no option of training"),
        ({"promotion.store": "/tmp"}, TrainOptionError, "no option of training"),
        ({"vllm.url": "http://x"}, TrainOptionError, "no option of training"),
        ({"steps": "many"}, InputError, "'steps'.*whole number"),
        ({"tuning": "half"}, InputError, "'tuning'.*lora, full"),
        ({"val_share": 1}, TrainOptionError, "val_share"),
        ({"grpo.generations": "["}, TrainOptionError, "as in YAML"),
        ({"grpo.generations": 1}, FineTuneConfigError, r"grpo\.generations is 1"),
        ({"bundle_path": "/studies"}, TrainOptionError, "no option of training"),
        ({"gpus": "0"}, TrainOptionError, "no option of training"),
        ({"run.accelerate_config": "/etc/passwd"}, TrainOptionError, "no option of training"),
        ({"run.report_to": "wandb"}, TrainOptionError, "no option of training"),
        ({"watch.enabled": True}, TrainOptionError, "no option of training"),
        ({"lora.target_modules": "(a+)+$"}, TrainOptionError, "no option of training"),
        ({"grpo.generations[0]": 1}, TrainOptionError, "no option of training"),
        ({"grpo." + "a." * 900 + "a": 1}, TrainOptionError, "no option of training"),
        ({f"grpo.{'a' * n}": 1 for n in range(1, 99)}, TrainOptionError, "98 options"),
        ({"config": ["embedded"]}, TrainOptionError, "'config' holds a value"),
        ({"tuning": {"lora": 1}}, TrainOptionError, "'tuning' holds a value"),
        ({"learning_rate": float("nan")}, TrainOptionError, "'learning_rate' holds a value"),
        ({"seed": 10**4000}, TrainOptionError, "'seed' holds a value"),
        ({"config": "a" * 5000}, TrainOptionError, "'config' holds a value"),
        ({"config": "\ud800"}, TrainOptionError, "'config' holds a value"),
        ({"grpo.schedule": "${oc.env:HOME}"}, TrainOptionError, "without '..'"),
        ({"rewards.terms": "[&a [1], *a]"}, TrainOptionError, "one value, or a list"),
        ({"rewards.terms": "&a [*a]"}, TrainOptionError, "one value, or a list"),
        ({"grpo.steps": "[" * 150}, TrainOptionError, "as in YAML"),
        ({"grpo.steps": "2026-13-45"}, InputError, "grpo"),
        ({"grpo.steps.more": 1}, InputError, "grpo"),
        ({"grpo.nothing": 1}, InputError, "grpo"),
    ],
)
def test_what_a_viewer_may_not_ask_for_is_refused_by_its_key(request_, error, problem):
    with pytest.raises(error, match=problem):
        read_options(request_, CONFIGS)


def test_an_administrators_file_is_offered_beside_the_shipped_ones(tmp_path):
    (tmp_path / "ours.yaml").write_text("grpo: {steps: 33}\n")
    configs = known_configs(tmp_path)
    assert {"ours", "embedded"} <= set(configs)
    assert read_options({"config": "ours"}, configs).config.grpo.steps == 33


def test_samples_have_the_size_that_the_tuned_reasoner_reads(tmp_path):
    assert input_size_px("embedded") == 128
    assert input_size_px("live", str(tmp_path)) == 128
    assert input_size_px("qwen2.5-vl-7b") == 840
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "config.json").write_text("{}")
    save_file({"weight": np.zeros(1, np.float32)}, tmp_path / "adapter" / "model.safetensors")
    store = ReasonerStore(tmp_path / "store")
    store.add(tmp_path / "adapter", Provenance("qwen2.5-vl-7b", "0" * 64, "1", 0), name="big")
    store.promote("big", by="test")
    assert input_size_px("live", str(store.folder)) == 840
    samples = export_settings(read_options({}, CONFIGS).config, 0.3, 8).samples
    assert (samples.max_slices, samples.max_absent_slices) == (8, 2)


def test_a_command_line_becomes_the_trainer_s():
    command = trainer_command("accelerate launch --num_processes 4 -m 'a module'")
    assert command == ["accelerate", "launch", "--num_processes", "4", "-m", "a module"]
    assert trainer_command(None)[1:] == ["-m", "medreasoner_training.finetune"]
    assert trainer_command("bin/python x")[0].startswith("/")
    for text in ("'", " "):
        with pytest.raises(InputError, match="train_command"):
            trainer_command(text)


def test_progress_in_words_and_as_the_viewers_read_it():
    running = Progress(State.TRAINING, 3, 10, 2.5, 0.4, 0.45, 61.0, 125.0, "Step 3 of 10.")
    assert progress_line(running) == (
        "Training (step 3 of 10, reward 2.500, held-out box IoU 0.400 (best 0.450), 0:02:05 left). "
        "Step 3 of 10."
    )
    shown = stats(running)
    assert (shown["epoch"], shown["total_epochs"], shown["best_metric"]) == (3, 10, 0.45)
    assert not shown["total_time"]  # what makes a viewer draw the bar
    ended = stats(Progress(State.REFUSED, 10, 10, message="Worse.", candidate="c"))
    assert ended["total_time"] == "0:00:00"
    assert (ended["state"], ended["candidate"], ended["best_metric"]) == ("refused", "c", 0.0)
    assert stats(None) == {}


def test_a_log_gets_a_line_where_something_has_changed():
    clock = [0.0]
    news = NewsFilter(lambda: clock[0])

    def told(count: int, step_s: float, state=State.TRAINING, message="") -> list[int]:
        found = []
        for number in range(count):
            clock[0] += step_s
            text = message.format(number)
            if news.is_news(Progress(state, message=text, step=number, total_steps=count)):
                found.append(number)
        return found

    assert told(100, 0.1) == [0, *range(5, 100, 5)]
    assert len(told(1000, 2.0)) == 67  # half a minute each, and the step back to 0 is one
    answering = told(200, 0.01, State.COMPARING, "Answering, {0} of 200.")
    assert len(answering) == 20
    assert told(3, 0.0, State.FAILED) == [0, 1, 2]


def test_a_log_is_not_told_the_same_again_and_again():
    clock = iter(range(0, 100_000, 60))
    news = NewsFilter(lambda: next(clock))
    same = Progress(State.PREPARING, message="Reading approved labels.")
    assert [news.is_news(same) for _ in range(5)] == [True, False, False, False, False]
