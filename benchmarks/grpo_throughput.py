# SPDX-License-Identifier: Apache-2.0
"""Time and memory of GRPO steps on a randomly initialised Qwen2.5-VL of a given size.

``python benchmarks/grpo_throughput.py --size nano`` on any machine; ``3b`` and ``7b`` need a GPU.
``--rounds 5`` compares with TRL's own trainer instead, in the shape of the shipped GPU settings:
LoRA, checkpointing and micro-batches, a step of each by turns, medians.
The model is built from a configuration, so nothing is downloaded, and the steps run through the
same code as a site's fine-tuning. Random weights hardly ever end a completion: every rollout has
the longest length, which is the worst case for time and memory.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PrinterCallback,
)
from trl import GRPOTrainer

from medreasoner_infer.models.registry import EMBEDDED, resolve_model
from medreasoner_infer.reasoners.prompts import PromptFile, load_prompt_file, named_prompt
from medreasoner_training.finetune import FineTuneConfig, config_from_dict
from medreasoner_training.finetune.grpo import grpo_trainer, trainer_parts
from medreasoner_training.finetune.replay import phantom_rows
from medreasoner_training.finetune.rows import RowMaker
from medreasoner_training.finetune.settings import Tuning
from medreasoner_training.finetune.stage import Stage, prompt_json
from medreasoner_training.finetune.tunable import TunableReasoner, load_trainable

GIB = 2**30


@dataclass(frozen=True)
class Size:
    """What distinguishes the published sizes; side of the image in px."""

    side: int
    text: dict
    vision: dict


SIZES = {
    "nano": None,
    "3b": Size(
        840,
        {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
         "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936},
        {"out_hidden_size": 2048},
    ),
    "7b": Size(
        840,
        {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
         "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
        {"out_hidden_size": 3584},
    ),
}  # fmt: skip
PUBLISHED_TEXT = {
    "max_position_embeddings": 32768,
    "rope_parameters": {
        "rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24],
    },
    "layer_types": None,
}  # fmt: skip
PUBLISHED_VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
    "patch_size": 14, "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112,
}  # fmt: skip


def write_random_model(folder: Path, size: Size | None) -> PromptFile:
    """A model with random weights in bfloat16, the embedded reasoner's tokenizer, and a prompt."""
    source = resolve_model("reasoner", EMBEDDED).source
    processor = AutoProcessor.from_pretrained(source)
    config = AutoConfig.from_pretrained(source)
    prompt = load_prompt_file(Path(source))
    if size is not None:
        for values, part in (
            (PUBLISHED_TEXT | size.text, config.text_config),
            (PUBLISHED_VISION | size.vision, config.vision_config),
        ):
            for name, value in values.items():
                if value is not None:
                    setattr(part, name, value)
        config.text_config.layer_types = ["full_attention"] * size.text["num_hidden_layers"]
        processor.image_processor.patch_size = PUBLISHED_VISION["patch_size"]
        prompt = PromptFile(named_prompt("reasoning"), "rgb", size.side)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "prompt.json").write_text(prompt_json(prompt), encoding="utf-8")
    return prompt


def settings(
    steps: int,
    prompts: int,
    generations: int,
    tokens: int,
    tuning: str,
    micro: int,
    checkpointing: bool,
):
    """The run's configuration; what is not measured stays off."""
    return config_from_dict(
        {
            "tuning": tuning,
            "data": {"augment": False},
            "grpo": {
                "steps": steps,
                "prompts_per_step": prompts,
                "generations": generations,
                "micro_batch": micro or None,
                "max_completion_tokens": tokens,
            },
            "run": {
                "gradient_checkpointing": checkpointing,
                "save_steps": 10**6,
                "eval_steps": 0,
            },
        }
    )


def measure(config: FineTuneConfig, folder: Path, prompt: PromptFile) -> dict:
    """Run the steps and report them."""
    grpo = config.grpo
    trainer = trainer_of(config, folder, prompt, plain=False)
    began_s = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began_s
    logs = [line for line in trainer.state.log_history if "step_time" in line]
    written = sum(line["completions/mean_length"] for line in logs) * grpo.rollouts_per_step
    weights = sum(weight.numel() for weight in trainer.model.parameters())
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "weights": weights,
        "tuning": config.tuning.value,
        "rollouts_per_step": grpo.rollouts_per_step,
        "seconds_per_step": round(seconds / grpo.steps, 3),
        "generated_tokens_per_s": round(written / seconds, 1),
        "mean_rollout_tokens": round(written / grpo.steps / grpo.rollouts_per_step, 1),
        "peak_memory_gib": round(peak_memory_gib(), 2),
    }


def trainer_of(config: FineTuneConfig, folder: Path, prompt: PromptFile, *, plain: bool):
    """TRL's trainer, or ours around the same model and settings."""
    start = TunableReasoner(str(folder), None, folder, None, prompt)
    loaded = load_trainable(start, Tuning(config.tuning), config.run)
    raw = phantom_rows(config.grpo.prompts_per_step, prompt.input_size)
    stage = Stage("grpo", folder / ("plain" if plain else "ours"), config.grpo.steps)
    maker = RowMaker(prompt, loaded.frame)
    if plain:
        trainer = GRPOTrainer(**trainer_parts(config, stage, loaded, raw, maker))
    else:
        trainer = grpo_trainer(config, stage, loaded, raw, maker)
    trainer.args.set_save(strategy="no")
    trainer.remove_callback(PrinterCallback)
    return trainer


def clock_s() -> float:
    """Of the GPU's work by the wall, else of this process, whatever else the machine does."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def timed_step(trainer) -> dict[str, float]:
    """Seconds of one optimiser step, and of its forward and backward passes alone."""
    generate, making = type(trainer)._generate_and_score_completions, []

    def timed(*args):
        began_s = clock_s()
        made = generate(trainer, *args)
        making.append(clock_s() - began_s)
        return made

    trainer._generate_and_score_completions = timed
    trainer._buffered_inputs, trainer._step = None, 0
    began_s = clock_s()
    trainer.train()
    seconds = clock_s() - began_s
    return {"step_s": seconds, "learning_s": seconds - sum(making)}


def medians_of(steps: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(each[key] for each in steps), 3) for key in steps[0]}


def compare(config: FineTuneConfig, folder: Path, prompt: PromptFile, rounds: int) -> dict:
    """Medians of both trainers' steps, taken by turns after one of each to warm up."""
    trainers = {
        name: trainer_of(config, folder, prompt, plain=name == "plain_trl")
        for name in ("plain_trl", "ours")
    }
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in trainers}
    for _ in range(rounds + 1):
        for name, trainer in trainers.items():
            taken[name].append(timed_step(trainer))
    medians = {
        name: {
            key: round(statistics.median(each[key] for each in steps[1:]), 3) for key in steps[0]
        }
        for name, steps in taken.items()
    }
    plain, ours = medians["plain_trl"], medians["ours"]
    return {**medians, "faster": {key: round(plain[key] / ours[key], 2) for key in ours}}


def peak_memory_gib() -> float:
    """Of the GPU's allocator, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(
    size: Annotated[str, typer.Option(help="nano, 3b or 7b")] = "nano",
    steps: int = 3,
    prompts: int = 2,
    generations: int = 4,
    micro_batch: Annotated[int, typer.Option(help="rollouts per forward pass, 0 for all")] = 0,
    tokens: Annotated[int, typer.Option(help="longest rollout")] = 64,
    tuning: Annotated[str, typer.Option(help="lora or full")] = "lora",
    rounds: Annotated[
        int, typer.Option(help="compare with TRL's own trainer over so many steps of each")
    ] = 0,
) -> None:
    """Print one JSON object."""
    if size not in SIZES:
        raise typer.BadParameter(f"size is {size!r}; expected one of {', '.join(SIZES)}.")
    checkpointing = rounds > 0 or torch.cuda.is_available()
    steps = 1 if rounds else steps
    config = settings(steps, prompts, generations, tokens, tuning, micro_batch, checkpointing)
    with tempfile.TemporaryDirectory(prefix="grpo-throughput-") as temporary:
        folder = Path(temporary) / "model"
        prompt = write_random_model(folder, SIZES[size])
        if rounds:
            report = compare(config, folder, prompt, rounds)
        else:
            report = measure(config, folder, prompt)
    typer.echo(json.dumps({"size": size, "torch": torch.__version__, **report}, indent=2))


if __name__ == "__main__":
    typer.run(main)
