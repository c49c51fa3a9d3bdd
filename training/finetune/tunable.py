# SPDX-License-Identifier: Apache-2.0
"""A reasoner that can be tuned: finding it, and loading it so that it can learn."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medreasoner_infer.models.registry import EMBEDDED, LIVE, resolve_model
from medreasoner_infer.models.store import Candidate, ReasonerStore
from medreasoner_infer.reasoners.factory import served_settings
from medreasoner_infer.reasoners.families import ModelFamily, family_in
from medreasoner_infer.reasoners.prompts import (
    PROMPT_FILE,
    PromptFile,
    load_prompt_file,
    trained_further,
)
from medreasoner_infer.reasoners.weights import locate_model
from medreasoner_infer.types import ModelSpec
from medreasoner_training.finetune.errors import NoChatTemplateError
from medreasoner_training.finetune.settings import ModelSettings, RunSettings, Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from medreasoner_infer.reasoners.transformers_loading import LoadedModel


@dataclass(frozen=True)
class TunableReasoner:
    """A reasoner on this disk: one that training starts from, or that it ended with.

    Attributes:
        base: what :class:`~medreasoner_infer.models.store.Provenance` names as the base.
        parent: the store's candidate that it is; ``None`` for a model outside the store.
        folder: full model on this disk.
        adapter: LoRA adapter on it, which is trained further or merged first.
        settings: how the served reasoner asks it.
    """

    base: str
    parent: str | None
    folder: Path
    adapter: Path | None
    settings: PromptFile

    @property
    def name(self) -> str:
        """Of the candidate, or of its base where it is none; for messages."""
        return self.parent or self.base


def locate_reasoner(model: ModelSettings, store: ReasonerStore) -> TunableReasoner:
    """Find the reasoner that the configuration names.

    Raises:
        UnknownModelError: the name means nothing.
        ModelUnavailableError: its weights are missing or cannot be downloaded.
        CandidateChangedError: the live candidate's files are not those that were promoted.
    """
    candidate = candidate_of(model.name, store)
    if candidate is not None:
        store.verify(candidate)
        return _of_candidate(candidate)
    name = EMBEDDED if model.name == LIVE else model.name
    spec = resolve_model("reasoner", name if model.revision is None else f"{name}@{model.revision}")
    folder = locate_model(spec.source, spec.revision)
    pinned = f"{name}@{folder.revision}" if folder.revision and not spec.is_local else name
    settings = served_prompt(folder.path, spec, family_in(folder.path))
    return TunableReasoner(pinned, None, folder.path, None, settings)


def candidate_of(name: str, store: ReasonerStore) -> Candidate | None:
    """The store's candidate that a configuration names, if it names one."""
    if name == LIVE:
        return store.live()
    return store.candidate(name) if name in store.names() else None


def _of_candidate(candidate: Candidate) -> TunableReasoner:
    base = resolve_model("reasoner", candidate.provenance.base)
    if candidate.kind == "model":
        if (candidate.folder / PROMPT_FILE).is_file():  # it says itself how it is asked
            base = dataclasses.replace(base, input_size=None, prompt=None)
        settings = served_prompt(candidate.folder, base, family_in(candidate.folder))
        return TunableReasoner(
            str(candidate.folder), candidate.name, candidate.folder, None, settings
        )
    folder = locate_model(base.source, base.revision).path
    settings = served_prompt(folder, base, family_in(folder))
    return TunableReasoner(
        candidate.provenance.base, candidate.name, folder, candidate.folder, settings
    )


def served_prompt(folder: Path | None, spec: ModelSpec, family: ModelFamily) -> PromptFile:
    """As a model of that folder and registry entry is asked once it was trained further."""
    own = None if folder is None else load_prompt_file(folder)
    return trained_further(served_settings(own, spec.prompt, spec.input_size, family=family))


def training_device(run: RunSettings) -> str:
    """The device of this process: ``cpu`` or ``cuda:N`` of its local rank."""
    import torch

    if run.device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def load_trainable(
    start: TunableReasoner, tuning: Tuning, run: RunSettings, checkpoint: Path | None = None
) -> LoadedModel:
    """Load the model and its processor; an adapter of the start goes on learning.

    Full tuning keeps its weights in float32, into which updates of 1e-6 do not vanish as they do
    in bfloat16; computing in bfloat16 is the trainer's part.

    Args:
        start: the reasoner.
        tuning: which weights learn.
        run: device.
        checkpoint: resumed from. The trainer itself compares the names in a full checkpoint with
            those of the modules, which differ for Qwen2.5-VL, and would go on with the weights of
            the start; ``from_pretrained`` knows both. Adapters it loads rightly.

    Raises:
        ModelUnavailableError: the folder holds no complete multimodal model.
        NoChatTemplateError: the model cannot be asked.
    """
    from medreasoner_infer.reasoners.transformers_loading import load_model

    resumed = checkpoint if tuning is Tuning.full else None
    folder = resumed or start.folder
    loaded = load_model(folder, start.settings.input_size, device=training_device(run))
    require_chat_template(loaded, start.name)
    if tuning is Tuning.full:
        loaded.model.config._name_or_path = str(start.folder)  # where a KL term finds its reference
        loaded.model.float().requires_grad_(True)
        loaded.model.set_attn_implementation("sdpa")  # FlashAttention computes no float32
    if start.adapter is None:
        return loaded
    return dataclasses.replace(loaded, model=_continue_adapter(loaded, start.adapter))


def _continue_adapter(loaded: LoadedModel, adapter: Path) -> PreTrainedModel:
    from peft import PeftModel

    continued = PeftModel.from_pretrained(loaded.model, adapter, is_trainable=True)
    # It passes on whatever is asked of the model within.
    return cast("PreTrainedModel", continued)


def require_chat_template(loaded: LoadedModel, name: str) -> None:
    """Refuse a model that has no way to be asked.

    Raises:
        NoChatTemplateError: neither processor nor tokenizer has a chat template.
    """
    processor = loaded.processor
    if not (processor.chat_template or processor.tokenizer.chat_template):
        raise NoChatTemplateError(
            f"{name} has no chat template, so no question can be put to it. Choose an instruction-"
            "tuned model, or add chat_template.jinja to its folder."
        )
