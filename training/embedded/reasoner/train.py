# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.reasoner.train --out DIR`` trains the embedded one."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch.nn import functional as F
from torch.utils.data import IterableDataset
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Trainer,
    TrainingArguments,
)
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VLVisionAttention,
    apply_rotary_pos_emb_vision,
)
from transformers.trainer_utils import get_last_checkpoint

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.reasoners.known_targets import KnownTargets
from medreasoner_infer.reasoners.prompts import (
    PROMPT_FILE,
    QUERY,
    PromptFile,
    PromptTemplate,
    prompt_json,
)

from ..optimiser import MuonWithAdamW, computes_bf16
from ..questions import QuestionWriter
from ..required import command_line
from .asking import Asker
from .growth import grown
from .losses import PerceptionLoss, TokenLoss, token_loss
from .modelling import (
    IMAGE_ENCODING,
    SYSTEM_PROMPT,
    NanoConfig,
    build_model,
    build_processor,
    name_token_ids,
    taught_by_name,
    taught_by_phrasing,
)
from .packing import PackedBatch, Packer, WordBatch
from .pictures import training_pictures
from .samples import AT_FINDING_SHARE, SIZE_PX, Asked, AskedSample, Sample, sample_questions

TOKEN_DROPOUT, LOOSE_SHARE = 0.1, 0.6
MAX_REASONING_CHARS = 240
"""Above the longest training trace; stops a model that lost the thread, on every engine alike."""


@dataclass(frozen=True)
class Settings:
    """Command line of the training.

    ``out`` takes the checkpoints (``out/checkpoints``), from which an interrupted run continues,
    and in the end the model folder (``out/model``). ``init`` is a model folder to start from.
    """

    out: str = field(metadata={"help": "output folder"})
    steps: int = field(default=10000, metadata={"help": "optimiser steps"})
    batch: int = field(default=4, metadata={"help": "images per step"})
    questions: int = field(default=3, metadata={"help": "questions per image"})
    lr: float = field(default=2e-3, metadata={"help": "peak learning rate"})
    decay_share: float = field(default=0.7, metadata={"help": "last part in which lr falls to 0"})
    seed: int = field(default=42, metadata={"help": "seed of data and initialisation"})
    init: str = field(default="", metadata={"help": "model folder to start from"})
    stage: str = field(
        default="phrasings",
        metadata={
            "help": "phrasings: images and the table's phrasings; words: the clinical vocabulary "
            "without images, on top of the smaller model --init; vocabulary: with images",
            "choices": ("phrasings", "words", "vocabulary"),
        },
    )
    beginnings: int = field(
        default=8, metadata={"help": "vocabulary: answers begun per image; words: per row"}
    )
    real_data: str = field(
        default="", metadata={"help": "vocabulary: folder of real images that may be trained on"}
    )
    removed: float = field(
        default=0.0, metadata={"help": "vocabulary: share of torsos that lack what belongs there"}
    )
    save_steps: int = field(default=500, metadata={"help": "steps between checkpoints"})
    bf16: bool = field(default=True, metadata={"help": "bfloat16, where the CPU computes it"})
    threads: int = field(default=1, metadata={"help": "CPU threads"})
    workers: int = field(default=0, metadata={"help": "further processes that make the samples"})


class PhantomStream(IterableDataset):
    """Endless samples; sample number n depends on the seed and n only."""

    def __init__(self, seed: int, questions: int, start: int = 0) -> None:
        self._seed, self._questions, self._start = seed, questions, start

    def __iter__(self) -> Iterator[Sample]:
        index = self._start
        while True:
            rng = np.random.default_rng([self._seed, index])
            yield sample_questions(rng, self._questions, at_finding=AT_FINDING_SHARE)
            index += 1


class VocabularyStream(IterableDataset):
    """Endless samples with questions from the vocabulary; number n depends on the seed and n.

    In the stage ``words`` they are rows of questions only.
    """

    def __init__(self, settings: Settings, asker: Asker, start: int = 0) -> None:
        self._settings, self._asker, self._start = settings, asker, start

    def __iter__(self) -> Iterator[AskedSample | tuple[Asked, ...]]:
        settings, index = self._settings, self._start
        while True:
            rng = np.random.default_rng([settings.seed, index])
            if settings.stage == "words":
                yield self._asker.words(rng, settings.beginnings)
            else:
                yield self._asker.sample(rng, settings.questions, settings.beginnings)
            index += 1


class PackedTrainer(Trainer):
    """Trainer whose loss is computed on packed branches, plus the auxiliary perception loss.

    The perception head is a submodule ``perception`` of the model while it trains, so that
    optimiser and checkpoints know it; :func:`save_model_folder` leaves it out.
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        args: TrainingArguments,
        train_dataset: PhantomStream | VocabularyStream,
        packer: Packer,
    ) -> None:
        super().__init__(model, args, data_collator=self._collate, train_dataset=train_dataset)
        self._packer = packer
        self._parts: dict[str, list[float]] = defaultdict(list)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """Muon and AdamW, see :class:`MuonWithAdamW`."""
        if self.optimizer is None:
            self.optimizer = MuonWithAdamW(
                model or self._trained, self.args.learning_rate, self.args.weight_decay
            )
        return self.optimizer

    @property
    def _trained(self) -> torch.nn.Module:
        return cast("torch.nn.Module", self.model)

    def _collate(self, samples: list[Any]) -> dict[str, torch.Tensor]:
        return dict(vars(self._packer.pack(samples)))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Loss of the answers' tokens of a :class:`PackedBatch`, plus the perception loss."""
        batch, reasoner = PackedBatch(**inputs), cast("Qwen2_5_VLForConditionalGeneration", model)
        visual = reasoner.model.visual(batch.pixel_values, grid_thw=batch.grid_thw)
        visual = visual.pooler_output.float()
        tokens = self._token_loss(reasoner, batch, visual)
        perception = reasoner.get_submodule("perception")
        if not batch.perceived.any():
            self._note(coordinate=tokens.coordinate, text=tokens.text)
            return tokens.total
        seen = batch.perceived
        found, outlined, placed = perception(
            visual.view(len(batch.labels), -1, visual.shape[-1])[seen],
            reasoner.get_input_embeddings().weight,
            batch.occupancy[seen],
            batch.boxes[seen],
            batch.asked[seen],
        )
        parts = {"coordinate": tokens.coordinate, "text": tokens.text}
        self._note(**parts, found=found, outlined=outlined, placed=placed)
        return tokens.total + found + 2.0 * outlined + 0.5 * placed

    def _token_loss(
        self, model: Qwen2_5_VLForConditionalGeneration, batch: PackedBatch, visual: torch.Tensor
    ) -> TokenLoss:
        """Next-token loss of the answers, with the visual tokens in the images' places."""
        is_image = (batch.input_ids == model.config.image_token_id)[..., None]
        embedded = model.get_input_embeddings()(batch.input_ids)
        logits, targets, is_answer = _answered(
            model, batch, embedded.masked_scatter(is_image, visual)
        )
        values = self._packer.integer_values(targets)
        values[~batch.is_coordinate[:, 1:][is_answer]] = -1
        weights = batch.weights[:, 1:][is_answer]
        return token_loss(logits, targets, values, weights, self._packer.integer_ids)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Keep the module's own parameter names, which ``save_pretrained`` would translate."""
        folder = Path(output_dir or self.args.output_dir or "")
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self._trained, str(folder / "model.safetensors"))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        load_model(self._trained, str(Path(resume_from_checkpoint) / "model.safetensors"))

    def _note(self, **parts: torch.Tensor) -> None:
        for name, value in parts.items():
            self._parts[name].append(float(value.detach()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each part of the loss since the last entry."""
        means = {name: round(float(np.mean(v)), 4) for name, v in self._parts.items() if v}
        self._parts.clear()
        super().log({**logs, **means}, start_time)


class WordTrainer(PackedTrainer):
    """Trains on rows of questions without images."""

    def _collate(self, samples: list[Any]) -> dict[str, torch.Tensor]:
        return dict(vars(self._packer.pack_words(samples)))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Mean next-token loss of the answers."""
        batch, reasoner = WordBatch(**inputs), cast("Qwen2_5_VLForConditionalGeneration", model)
        embedded = reasoner.get_input_embeddings()(batch.input_ids)
        logits, targets, is_answer = _answered(reasoner, batch, embedded)
        weights = batch.weights[:, 1:][is_answer]
        losses = F.cross_entropy(logits, targets, reduction="none")
        return (weights * losses).sum() / weights.sum()


def _answered(
    model: Qwen2_5_VLForConditionalGeneration,
    batch: PackedBatch | WordBatch,
    embedded: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (N, vocabulary) and targets (N,) of the answers' tokens, and where (B, L - 1)."""
    hidden = model.model.language_model(
        inputs_embeds=embedded,
        position_ids=batch.position_ids,
        attention_mask={"full_attention": batch.attention},
        use_cache=False,
    ).last_hidden_state
    targets, is_answer = batch.labels[:, 1:], batch.labels[:, 1:] >= 0
    return model.lm_head(hidden[:, :-1][is_answer]).float(), targets[is_answer], is_answer


def save_model_folder(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    folder: Path,
    input_size: int = SIZE_PX,
    targets: KnownTargets | None = None,
) -> None:
    """Write the model without the auxiliary head, the processor and ``prompt.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.use_cache = True  # the trainer turns it off, which would slow down every answer
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("perception.")}
    model.save_pretrained(folder, state_dict=state)
    processor.save_pretrained(folder)
    template = PromptTemplate(SYSTEM_PROMPT, QUERY, targets=targets)
    prompt = PromptFile(template, IMAGE_ENCODING, input_size, MAX_REASONING_CHARS)
    write_durably(folder / PROMPT_FILE, prompt_json(prompt))


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file, whole or not at all."""
    write_durably(path, json.dumps(content, indent=2) + "\n")


@contextmanager
def fast_vision(model: torch.nn.Module) -> Iterator[None]:
    """Compute the vision tower's patches and attention by plain products while the context lasts.

    The patch embedding's convolution covers each patch exactly, and all images have the same size,
    so the results are the same; the library's convolution and attention cost a CPU a third of a
    training step more.
    """
    visual: Any = model.get_submodule("model.visual")  # its methods are exchanged
    weight = visual.patch_embed.proj.weight
    visual.patch_embed.forward = lambda patches: F.linear(patches.flatten(1), weight.flatten(1))
    for block in visual.blocks:
        block.attn.forward = partial(_equal_size_attention, block.attn)
    try:
        yield
    finally:
        del visual.patch_embed.forward
        for block in visual.blocks:
            del block.attn.forward


def _equal_size_attention(
    attention: Qwen2_5_VLVisionAttention,
    hidden_states: torch.Tensor,
    cu_seqlens: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    **_: object,
) -> torch.Tensor:
    """Full attention within images of equal size, (patches, width) in and out."""
    patches, images = len(hidden_states), len(cu_seqlens) - 1
    qkv = attention.qkv(hidden_states).reshape(patches, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(1, 0, 2, 3).unbind(0)
    query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
    query, key, value = (
        part.reshape(images, patches // images, attention.num_heads, -1).transpose(1, 2)
        for part in (query, key, value)
    )
    weights = torch.softmax(query @ key.transpose(-1, -2) * attention.scaling, -1)
    mixed = weights.to(value.dtype) @ value
    return attention.proj(mixed.transpose(1, 2).reshape(patches, -1))


def _start(
    settings: Settings,
) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    if settings.stage == "words":
        return grown(Path(settings.init), QuestionWriter(held_out_languages=()))
    if settings.init:
        loaded = AutoModelForImageTextToText.from_pretrained(  # nosec B615 # a folder
            settings.init, dtype=torch.float32
        )
        model = cast("Qwen2_5_VLForConditionalGeneration", loaded)
        return model, AutoProcessor.from_pretrained(settings.init)  # nosec B615 # a folder
    processor = build_processor(NanoConfig())
    return build_model(NanoConfig(), processor.tokenizer), processor


def _stream(settings: Settings, start: int) -> PhantomStream | VocabularyStream:
    if settings.stage == "phrasings":
        return PhantomStream(settings.seed, settings.questions, start)
    pictures = training_pictures(Path(settings.real_data)) if settings.real_data else ()
    writer = QuestionWriter(held_out_languages=(), loose_share=LOOSE_SHARE)
    asker = Asker(writer, pictures, removed_share=settings.removed)
    return VocabularyStream(settings, asker, start)


def _arguments(settings: Settings) -> TrainingArguments:
    warmup = min(200, settings.steps // 10)
    decay = int(settings.decay_share * settings.steps)
    return TrainingArguments(
        output_dir=str(Path(settings.out) / "checkpoints"),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.lr,
        lr_scheduler_type="warmup_stable_decay",
        lr_scheduler_kwargs={"num_decay_steps": decay, "decay_type": "linear"},
        warmup_steps=warmup,
        # It would shrink the embeddings that the words' stage is to keep.
        weight_decay=0.0 if settings.stage == "words" else 0.01,
        max_grad_norm=1.0,
        bf16=settings.bf16 and computes_bf16(),
        use_cpu=True,
        seed=settings.seed,
        logging_steps=100,
        save_steps=settings.save_steps,
        save_total_limit=2,
        ignore_data_skip=True,
        remove_unused_columns=False,
        accelerator_config={"dispatch_batches": False},
        dataloader_num_workers=settings.workers,
        report_to="none",
        disable_tqdm=True,
    )


def train(settings: Settings) -> Path:
    """Train or continue training; returns the model folder."""
    torch.set_num_threads(settings.threads)
    model, processor = _start(settings)
    packer = Packer(model, processor, 0.0 if settings.stage == "phrasings" else TOKEN_DROPOUT)
    names = name_token_ids(processor.tokenizer)
    torch.manual_seed(settings.seed)
    width = model.config.get_text_config().hidden_size
    model.add_module("perception", PerceptionLoss(width, names, packer.integer_ids))
    out = Path(settings.out)
    checkpoints = out / "checkpoints"
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    done = int(last.rsplit("-", 1)[1]) if last else 0
    stream = _stream(settings, done * settings.batch)
    trainer_of = WordTrainer if settings.stage == "words" else PackedTrainer
    trainer = trainer_of(model, _arguments(settings), stream, packer)
    with fast_vision(model):
        result = trainer.train(resume_from_checkpoint=last)
    hours = None if last else round(result.metrics["train_runtime"] / 3600, 1)
    taught = taught_by_phrasing() if settings.stage == "phrasings" else taught_by_name()
    save_model_folder(model, processor, out / "model", targets=taught)
    write_json(out / "model" / "training.json", _told(settings) | {"hours": hours})
    return out / "model"


def _told(settings: Settings) -> dict:
    """The settings without this machine's folders."""
    folders = {"out": "DIR", "init": "MODEL", "real_data": "DATA/real"}
    given = asdict(settings)
    return given | {name: told for name, told in folders.items() if given[name]}


def main() -> None:
    """Command line entry point."""
    settings = command_line(Settings)
    print(train(settings))


if __name__ == "__main__":
    main()
