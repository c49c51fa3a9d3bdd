# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.segmenter.train --out DIR`` trains the embedded one.

A run continues from ``DIR/checkpoint.pt`` where there is one. ``DIR`` also gets TensorBoard
curves and, with every checkpoint, the averaged weights as ``model.safetensors``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import medreasoner_infer
from medreasoner_infer.atomic import replacing
from medreasoner_training.embedded.optimiser import MuonWithAdamW
from medreasoner_training.embedded.required import command_line
from medreasoner_training.embedded.segmenter.stages import (
    ChainStage,
    ImageStage,
    MemoryStage,
    Stage,
)

logger = logging.getLogger(__name__)

EMBEDDED_CONFIG = Path(medreasoner_infer.__file__).parent / "embedded/segmenter/config.yaml"


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a run; every field is a command line option."""

    out: str = field(metadata={"help": "folder of checkpoint, curves and weights"})
    stage: str = field(default="image", metadata={"help": "image, chain or memory"})
    init: str | None = field(default=None, metadata={"help": "safetensors file to start from"})
    config: str = field(default=str(EMBEDDED_CONFIG), metadata={"help": "model configuration"})
    steps: int = field(default=13_000, metadata={"help": "optimiser steps in all"})
    warmup_steps: int = 100
    decay_steps: int = field(default=6_000, metadata={"help": "last steps, rate falling to 0"})
    batch_size: int = 16
    clip_length: int = 8
    growing: float = field(default=0.0, metadata={"help": "share of chains whose target grows"})
    looks: int = field(default=1, metadata={"help": "answers on each slice of a chain"})
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    save_every: int = 250
    seed: int = 0
    threads: int = 1


def build_model(config: str | Path) -> nn.Module:
    """Build a ``SAM2Base`` with fresh weights from a configuration file."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    return instantiate(OmegaConf.load(config).model, _recursive_=True)


class Training:
    """A resumable run: model, its moving average, optimiser, schedule and random state."""

    def __init__(self, options: TrainingOptions) -> None:
        from transformers import get_wsd_schedule

        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        self.options = options
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.model = build_model(options.config)
        if options.init:
            from safetensors.torch import load_file

            self.model.load_state_dict(load_file(options.init))
        self.average = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(options.ema_decay)
        )
        self.optimizer = MuonWithAdamW(self.model, options.learning_rate, options.weight_decay)
        self.schedule = get_wsd_schedule(
            self.optimizer,
            num_warmup_steps=options.warmup_steps,
            num_decay_steps=options.decay_steps,
            num_training_steps=options.steps,
            min_lr_ratio=0.01,
        )
        self.rng = np.random.default_rng(options.seed)
        self.step = 0
        if self.checkpoint.exists():
            self._resume()

    @property
    def checkpoint(self) -> Path:
        """File that the run continues from."""
        return self.out / "checkpoint.pt"

    def run(self, stage: Stage) -> None:
        """Train to the last step; curves are logged and checkpoints saved on the way."""
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(self.out, purge_step=self.step) as writer:
            started = time.monotonic()
            first = self.step
            while self.step < self.options.steps:
                for name, value in self._train_step(stage).items():
                    writer.add_scalar(name, value, self.step)
                if self.step % self.options.save_every == 0 or self.step == self.options.steps:
                    self.save()
                    pace = (time.monotonic() - started) / (self.step - first)
                    logger.info("step %d, %.3f s a step", self.step, pace)

    def _train_step(self, stage: Stage) -> dict[str, float]:
        self.model.train()
        result = stage(self.model, self.rng)
        self.optimizer.zero_grad(set_to_none=True)
        result.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(
                f"The gradient norm is {float(norm)} at step {self.step}; lower the learning rate."
            )
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.model)
        self.step += 1
        return {**result.scalars, "gradient_norm": float(norm)}

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each atomically."""
        from safetensors.torch import save_file

        state = {
            "step": self.step,
            "options": asdict(self.options),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }
        with replacing(self.checkpoint) as unfinished:
            torch.save(state, unfinished)
        tensors = {k: v.clone() for k, v in self.average.module.state_dict().items()}
        with replacing(self.out / "model.safetensors") as unfinished:
            save_file(tensors, unfinished, metadata={"step": str(self.step)})

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        logger.info("continuing from step %d", self.step)


def make_stage(options: TrainingOptions) -> Stage:
    """The stage that the options name.

    Raises:
        ValueError: if there is no such stage.
    """
    if options.stage == "image":
        return ImageStage(options.batch_size)
    if options.stage == "chain":
        return ChainStage(options.batch_size, options.clip_length, options.growing, options.looks)
    if options.stage == "memory":
        return MemoryStage(options.batch_size, options.clip_length)
    raise ValueError(f"stage is {options.stage!r}; give 'image', 'chain' or 'memory'")


def main() -> None:
    """Parse the command line and train."""
    options = command_line(TrainingOptions)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    Training(options).run(make_stage(options))


if __name__ == "__main__":
    main()
