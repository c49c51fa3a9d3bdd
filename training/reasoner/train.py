# SPDX-License-Identifier: Apache-2.0
"""Train the embedded reasoner: ``python -m medreasoner_training.reasoner.train --out DIR``."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset
from transformers import HfArgumentParser, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from .losses import PerceptionLoss, token_loss
from .modelling import (
    IMAGE_ENCODING,
    SYSTEM_PROMPT,
    NanoConfig,
    build_model,
    build_processor,
    name_token_ids,
)
from .packing import PackedBatch, Packer
from .samples import SIZE_PX, Sample, sample_questions


@dataclass(frozen=True)
class Settings:
    """Command line of the training.

    ``out`` takes the checkpoints (``out/checkpoints``), from which an interrupted run continues,
    and in the end the model folder (``out/model``). ``init`` is a model folder to start from.
    """

    out: str = field(metadata={"help": "output folder"})
    steps: int = field(default=12000, metadata={"help": "optimiser steps"})
    batch: int = field(default=4, metadata={"help": "images per step"})
    questions: int = field(default=5, metadata={"help": "questions per image"})
    lr: float = field(default=1.5e-3, metadata={"help": "peak learning rate"})
    decay_share: float = field(default=0.4, metadata={"help": "last part in which lr falls to 0"})
    seed: int = field(default=42, metadata={"help": "seed of data and initialisation"})
    init: str = field(default="", metadata={"help": "model folder to start from"})
    save_steps: int = field(default=500, metadata={"help": "steps between checkpoints"})
    bf16: bool = field(default=True, metadata={"help": "bfloat16 autocast"})
    threads: int = field(default=1, metadata={"help": "CPU threads"})


class PhantomStream(IterableDataset):
    """Endless samples; sample number n depends on the seed and n only."""

    def __init__(self, seed: int, questions: int, start: int = 0) -> None:
        self._seed, self._questions, self._start = seed, questions, start

    def __iter__(self) -> Iterator[Sample]:
        index = self._start
        while True:
            yield sample_questions(np.random.default_rng([self._seed, index]), self._questions)
            index += 1


class PackedTrainer(Trainer):
    """Trainer whose loss is computed on packed branches, plus the auxiliary perception loss.

    The perception head is a submodule ``perception`` of the model while it trains, so that
    optimiser and checkpoints know it; :func:`save_model_folder` leaves it out.
    """

    def __init__(self, *args: object, packer: Packer, **kwargs: object) -> None:
        super().__init__(*args, data_collator=self._collate, **kwargs)
        self._packer = packer
        self._parts: dict[str, list[float]] = defaultdict(list)

    def _collate(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        return dict(vars(self._packer.pack(samples)))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss of one packed batch (see :class:`PackedBatch`)."""
        batch = PackedBatch(**inputs)
        core = model.model
        visual = core.visual(batch.pixel_values, grid_thw=batch.grid_thw).pooler_output.float()
        embeddings = model.get_input_embeddings()
        is_image = (batch.input_ids == model.config.image_token_id)[..., None]
        hidden = core.language_model(
            inputs_embeds=embeddings(batch.input_ids).masked_scatter(is_image, visual),
            position_ids=batch.position_ids,
            attention_mask={"full_attention": batch.attention},
            use_cache=False,
        ).last_hidden_state
        targets, is_answer = batch.labels[:, 1:], batch.labels[:, 1:] >= 0
        values = self._packer.integer_values(targets[is_answer])
        values[~batch.is_coordinate[:, 1:][is_answer]] = -1
        logits = model.lm_head(hidden[:, :-1][is_answer]).float()
        tokens = token_loss(logits, targets[is_answer], values, self._packer.integer_ids)
        found, placed = model.perception(
            visual.view(len(targets), -1, visual.shape[-1]),
            embeddings.weight,
            batch.occupancy,
            batch.boxes,
            batch.asked,
        )
        self._note(coordinate=tokens.coordinate, text=tokens.text, found=found, placed=placed)
        return tokens.total + found + 0.5 * placed

    def _note(self, **parts: torch.Tensor) -> None:
        for name, value in parts.items():
            self._parts[name].append(float(value.detach()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each part of the loss since the last entry."""
        means = {name: round(float(np.mean(v)), 4) for name, v in self._parts.items() if v}
        self._parts.clear()
        super().log({**logs, **means}, start_time)


def save_model_folder(
    model: torch.nn.Module, processor: object, folder: Path, input_size: int = SIZE_PX
) -> None:
    """Write the model without the auxiliary head, the processor and ``prompt.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("perception.")}
    model.save_pretrained(folder, state_dict=state)
    processor.save_pretrained(folder)
    prompt = {
        "system": SYSTEM_PROMPT,
        "user_template": "{query}",
        "image_encoding": IMAGE_ENCODING,
        "input_size": input_size,
    }
    partial = folder / "prompt.json.partial"
    partial.write_text(json.dumps(prompt, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / "prompt.json")


@contextmanager
def linear_patch_embedding(model: torch.nn.Module) -> Iterator[None]:
    """Compute the patch embedding as one matrix product while the context lasts.

    The convolution's kernel covers a patch exactly, so the result is the same; its backward pass
    on a CPU takes a sixth of a training step, the product's almost nothing.
    """
    embedding = model.model.visual.patch_embed
    weight = embedding.proj.weight

    def forward(patches: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(patches.flatten(1), weight.flatten(1))

    embedding.forward = forward
    try:
        yield
    finally:
        del embedding.forward


def _start(settings: Settings) -> tuple[torch.nn.Module, object]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if settings.init:
        model = AutoModelForImageTextToText.from_pretrained(settings.init, dtype=torch.float32)
        return model, AutoProcessor.from_pretrained(settings.init)
    processor = build_processor(NanoConfig())
    return build_model(NanoConfig(), processor.tokenizer), processor


def _arguments(settings: Settings) -> TrainingArguments:
    warmup = min(200, settings.steps // 10)
    decay = int(settings.decay_share * settings.steps)
    return TrainingArguments(
        output_dir=str(Path(settings.out) / "checkpoints"),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.lr,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": decay, "min_lr_ratio": 0.01},
        warmup_steps=warmup,
        weight_decay=0.01,
        adam_beta2=0.98,
        max_grad_norm=1.0,
        bf16=settings.bf16,
        use_cpu=True,
        seed=settings.seed,
        logging_steps=100,
        save_steps=settings.save_steps,
        save_total_limit=2,
        ignore_data_skip=True,
        remove_unused_columns=False,
        accelerator_config={"dispatch_batches": False},
        report_to="none",
        disable_tqdm=True,
    )


def train(settings: Settings) -> Path:
    """Train or continue training; returns the model folder."""
    torch.set_num_threads(settings.threads)
    model, processor = _start(settings)
    packer = Packer(model, processor)
    names = name_token_ids(processor.tokenizer)
    torch.manual_seed(settings.seed)
    width = model.config.text_config.hidden_size
    model.add_module("perception", PerceptionLoss(width, names, packer.integer_ids))
    out = Path(settings.out)
    checkpoints = out / "checkpoints"
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    done = int(last.rsplit("-", 1)[1]) if last else 0
    stream = PhantomStream(settings.seed, settings.questions, done * settings.batch)
    trainer = PackedTrainer(model, _arguments(settings), train_dataset=stream, packer=packer)
    with linear_patch_embedding(model):
        trainer.train(resume_from_checkpoint=last)
    save_model_folder(model, processor, out / "model")
    return out / "model"


def main() -> None:
    """Command line entry point."""
    (settings,) = HfArgumentParser(Settings).parse_args_into_dataclasses()
    print(train(settings))


if __name__ == "__main__":
    main()
