# SPDX-License-Identifier: Apache-2.0
"""Every loss that the settings offer takes a step with TRL's own trainer."""

from __future__ import annotations

import pytest

pytest.importorskip("trl", reason="the extra 'train' is not installed")
pytest.importorskip("datasets", reason="the extra 'train' is not installed")

import torch

from medreasoner_training.finetune import config_from_dict
from medreasoner_training.finetune.arguments import grpo_arguments
from medreasoner_training.finetune.settings import LossType

pytestmark = pytest.mark.slow

WORDS = ["<pad>", "<eos>", "left", "right", "?"]
NEEDED = {
    LossType.cispo: {"epsilon_high": 5.0},
    LossType.luspo: {"sampling_level": "sequence"},
}


def tiny_model():
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="?"
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    model = transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(vocab_size=len(WORDS), **shape, **heads)
    )
    return model, tokenizer


def favour_left(completions, **_):
    return [float(text.count("left")) for text in completions]


@pytest.mark.parametrize(
    "grpo",
    [
        *({"loss_type": loss.value, **NEEDED.get(loss, {})} for loss in LossType),
        {"loss_type": "grpo", "sampling_level": "sequence"},
        {"delta": 3.0, "steps_per_rollout": 2, "weight_decay": 0.01},
    ],
    ids=str,
)
def test_a_loss_moves_the_weights(tmp_path, grpo):
    import datasets
    import trl

    sizes = {"prompts_per_step": 2, "generations": 4, "warmup_steps": 0, "learning_rate": 0.01}
    run = {"device": "cpu", "save_steps": 100}
    config = config_from_dict({"grpo": {**sizes, **grpo}, "run": run})
    model, tokenizer = tiny_model()
    before = [weight.detach().clone() for weight in model.parameters()]
    trainer = trl.GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=[favour_left],
        train_dataset=datasets.Dataset.from_list([{"prompt": "?"}] * 8),
        args=grpo_arguments(config, tmp_path, steps=2, longest_rollout=8),
    )
    trainer.train()
    assert trainer.state.global_step == 2
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(weight).all() for weight in after)
    assert any(not torch.equal(*pair) for pair in zip(before, after, strict=True))
