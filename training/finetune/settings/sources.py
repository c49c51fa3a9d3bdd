# SPDX-License-Identifier: Apache-2.0
"""What is tuned, and on which data."""

from __future__ import annotations

from dataclasses import dataclass

from medreasoner_infer.models.registry import LIVE
from medreasoner_training.finetune.settings.choices import ImageSizes, require


@dataclass(frozen=True)
class ModelSettings:
    """Which reasoner is tuned.

    Attributes:
        name: ``live`` (the store's live candidate, else the embedded reasoner), a registry name, a
            Hugging Face id or a folder.
        revision: commit or tag of a Hugging Face repository.
    """

    name: str = LIVE
    revision: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.name.strip()), "model.name", self.name, "a model")
        fixed = self.revision is None or self.name != LIVE
        require(fixed, "model.revision", self.revision, "null, as 'live' has no revision")


@dataclass(frozen=True)
class DataSettings:
    """What the reasoner learns from.

    Attributes:
        folder: data set of approved samples; a relative path counts from the run's folder.
        image_sizes: ``refuse`` or ``scale`` images whose side is not the model's input size;
            scaling moves boxes and points along.
        replay: data set of another site, e.g. of the one before; mixed in so that it is not
            forgotten. ``phantoms`` makes synthetic torsos, those of the embedded reasoner.
        replay_share: share of replayed samples among all training samples, 0 to below 1.
        augment: vary images by small affine changes, grey levels and noise, never a flip; each
            pass over the samples varies them anew.
    """

    folder: str = "dataset"
    image_sizes: ImageSizes = ImageSizes.refuse
    replay: str | None = None
    replay_share: float = 0.0
    augment: bool = True

    def __post_init__(self) -> None:
        share = self.replay_share
        require(bool(self.folder), "data.folder", self.folder, "a folder")
        require(0.0 <= share < 1.0, "data.replay_share", share, "0 to below 1")
        named = not share or self.replay is not None
        require(named, "data.replay", self.replay, "a data set or 'phantoms' for replay_share > 0")
