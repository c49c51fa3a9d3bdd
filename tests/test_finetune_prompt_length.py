# SPDX-License-Identifier: Apache-2.0
"""vLLM is told how long a sequence gets, and has its other settings from the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytest.importorskip("peft", reason="the extra 'train' is not installed")

import medreasoner_infer
from medreasoner_infer.reasoners.prompts import load_prompt_file
from medreasoner_training.finetune.config import config_from_dict
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.grpo import trainer_parts
from medreasoner_training.finetune.prompt_length import (
    longest_prompt,
    model_length,
    questions_of,
)
from medreasoner_training.finetune.raw_samples import read_sample
from medreasoner_training.finetune.replay import phantom_rows
from medreasoner_training.finetune.rows import RowMaker
from medreasoner_training.finetune.settings import RunSettings, Tuning
from medreasoner_training.finetune.stage import Stage
from medreasoner_training.finetune.tunable import TunableReasoner, load_trainable

EMBEDDED = Path(medreasoner_infer.__file__).parent / "embedded" / "reasoner"


@pytest.fixture(scope="module")
def loaded():
    prompt = load_prompt_file(EMBEDDED)
    start = TunableReasoner("embedded", None, EMBEDDED, None, prompt)
    return load_trainable(start, Tuning.lora, RunSettings(device="cpu"))


@pytest.fixture(scope="module")
def raw():
    return phantom_rows(6, load_prompt_file(EMBEDDED).input_size)


@pytest.fixture(scope="module")
def maker(loaded) -> RowMaker:
    return RowMaker(load_prompt_file(EMBEDDED), loaded.frame)


def tokens_with_image(row: dict, loaded) -> int:
    """As the processor itself makes them, with the picture."""
    system, user = row["prompt"]
    content = [{"type": "image", "image": row["image"]}, {"type": "text", "text": user["content"]}]
    system = {"role": "system", "content": [{"type": "text", "text": system["content"]}]}
    made = loaded.processor.apply_chat_template(
        [system, {"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    return made["input_ids"].shape[1]


def test_the_longest_prompt_is_the_longest_that_the_processor_makes(loaded, raw, maker):
    rows = [maker(read_sample(row), 0) for row in raw]
    expected = max(tokens_with_image(row, loaded) for row in rows)
    found = longest_prompt(questions_of(raw), maker, loaded.processor, loaded.image_tokens)
    assert found == expected
    assert len(set(questions_of(raw))) == len(questions_of(raw))


def test_a_length_is_in_whole_blocks_and_holds_prompt_and_completion():
    assert model_length(1290, 1024) == 2320
    assert model_length(8, 8) == 16


def arguments(loaded, raw, maker, folder: Path, **vllm):
    values = {
        "grpo": {"steps": 1, "prompts_per_step": 2, "generations": 2, "max_completion_tokens": 40},
        "vllm": {"mode": "colocate", **vllm},
        "run": {"device": "cpu"},
    }
    config = config_from_dict(values)
    return trainer_parts(config, Stage("grpo", folder, 1), loaded, raw, maker)["args"]


def test_vllm_gets_a_length_from_the_data_set_and_the_rest_from_the_settings(
    loaded, raw, maker, tmp_path
):
    args = arguments(loaded, raw, maker, tmp_path, sleep=True, gpu_memory_share=0.55)
    prompt = longest_prompt(questions_of(raw), maker, loaded.processor, loaded.image_tokens)
    assert prompt + 40 <= args.vllm_max_model_length < prompt + 40 + 16
    assert args.vllm_enable_sleep_mode is True
    assert args.vllm_gpu_memory_utilization == 0.55


def test_a_length_that_is_set_is_kept(loaded, raw, maker, tmp_path):
    args = arguments(loaded, raw, maker, tmp_path, max_model_length=777)
    assert args.vllm_max_model_length == 777
    assert args.vllm_enable_sleep_mode is False


def test_a_server_does_not_sleep():
    vllm = {"mode": "server", "url": "http://x", "sleep": True}
    with pytest.raises(FineTuneConfigError, match=r"vllm\.sleep is True; expected false"):
        config_from_dict({"vllm": vllm})
