# SPDX-License-Identifier: Apache-2.0
"""What is tuned, and on which data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from medreasoner_infer.models.registry import LIVE
from medreasoner_training.finetune.settings.choices import ImageSizes
from medreasoner_training.finetune.settings.section import Real, Section, setting


@dataclass(frozen=True)
class ModelSettings(Section):
    """Which reasoner is tuned.

    Attributes:
        name: ``live`` (the store's live candidate, else the embedded reasoner), a registry name, a
            Hugging Face id or a folder.
        revision: commit or tag of a Hugging Face repository.
    """

    key: ClassVar[str] = "model"

    name: str = LIVE
    revision: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.name.strip()), "name", "a model")
        fixed = self.revision is None or self.name != LIVE
        self.require(fixed, "revision", "null, as 'live' has no revision")


@dataclass(frozen=True)
class DataSettings(Section):
    """What the reasoner learns from.

    Attributes:
        folder: data set of approved samples; a relative path counts from the run's folder.
        image_sizes: ``refuse`` or ``scale`` images whose side is not the model's input size;
            scaling moves boxes and points along.
        replay: data set of another site, e.g. of the one before; mixed in so that it is not
            forgotten. ``phantoms`` makes synthetic images and questions of the kinds that the
            embedded reasoner was trained on.
        replay_share: share of replayed samples among all training samples, 0 to below 1.
        augment: vary images by small affine changes, grey levels and noise, never a flip; each
            pass over the samples varies them anew.
    """

    key: ClassVar[str] = "data"

    folder: str = "dataset"
    image_sizes: ImageSizes = ImageSizes.refuse
    replay: str | None = None
    replay_share: Real = setting(0.0, least=0, below=1)
    augment: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(bool(self.folder), "folder", "a folder")
        named = not self.replay_share or self.replay is not None
        self.require(named, "replay", "a data set or 'phantoms' for replay_share > 0")
