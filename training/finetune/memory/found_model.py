# SPDX-License-Identifier: Apache-2.0
"""What is known on this machine of the model that a configuration names; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.models.registry import EMBEDDED, LIVE, resolve_model
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.families import ModelFamily, family_in, named_family
from medreasoner_infer.reasoners.prompts import PromptFile
from medreasoner_infer.types import ModelSpec
from medreasoner_training.finetune.memory.architecture import published_numbers
from medreasoner_training.finetune.settings import ModelSettings
from medreasoner_training.finetune.tunable import candidate_of, locate_reasoner, served_prompt


@dataclass(frozen=True)
class FoundModel:
    """A model that may be here in part.

    Attributes:
        source: folder, or Hugging Face id.
        folder: with at least its configuration; ``None`` where it is not on this machine.
        adapter: LoRA adapter on it that goes on learning.
        settings: how it is asked.
        family: how it writes coordinates and what it makes of an image.
        licence: as the registry tells it.
    """

    source: str
    folder: Path | None
    adapter: Path | None
    settings: PromptFile
    family: ModelFamily
    licence: str

    @property
    def has_weights(self) -> bool:
        """Whether its weights are on this machine."""
        return self.folder is not None and any(self.folder.glob("*.safetensors"))

    @property
    def frame(self) -> AnswerFrame:
        """The frame of its answers.

        Raises:
            ImageSizeChangedError: its processor would change the size of its images.
        """
        return self.family.frame(self.settings.input_size)


def find_model(model: ModelSettings, store: ReasonerStore) -> FoundModel:
    """The model of a configuration, without its weights if need be.

    Raises:
        UnknownModelError: the name means nothing.
        ModelUnavailableError, CandidateChangedError: a candidate of the store cannot be used.
    """
    if candidate_of(model.name, store) is not None:
        start = locate_reasoner(model, store)
        licence = resolve_model("reasoner", start.base.partition("@")[0]).licence
        family = family_in(start.folder)
        return FoundModel(
            str(start.folder), start.folder, start.adapter, start.settings, family, licence
        )
    name = EMBEDDED if model.name == LIVE else model.name
    spec = resolve_model("reasoner", name if model.revision is None else f"{name}@{model.revision}")
    folder = _folder_of(spec)
    family = _family(folder, spec)
    settings = served_prompt(folder, spec, family)
    return FoundModel(spec.source, folder, None, settings, family, spec.licence)


def _family(folder: Path | None, spec: ModelSpec) -> ModelFamily:
    """As the folder tells it; without one as the registry does, or the shipped numbers."""
    if folder is not None:
        return family_in(folder)
    return named_family(spec.model_type or published_numbers(spec.source)["config"]["model_type"])


def _folder_of(spec: ModelSpec) -> Path | None:
    path = Path(spec.source)
    if path.exists():
        return path.parent if path.is_file() else path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(spec.source, revision=spec.revision, local_files_only=True)
    except (HFValidationError, LocalEntryNotFoundError):
        return None
    return Path(found)
