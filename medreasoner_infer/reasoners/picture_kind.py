# SPDX-License-Identifier: Apache-2.0
"""What kind of picture a reasoner was shown, as evidence that a target is absent.

A model folder may hold ``kinds.json``: how the vision tower's output tells the kinds of picture
that the model was trained on apart. The modality of the image's header counts where it is told.
A kind of the modality that the model was not taught stays as probable as any other. Models without
the file have no such evidence.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.language.kinds import PictureKind, picture_kinds

if TYPE_CHECKING:
    from medreasoner_infer.reasoners.transformers_loading import LoadedModel

logger = logging.getLogger(__name__)

KINDS_FILE = "kinds.json"
SURPRISES = 0.02
"""Share of pictures that show what their kind is not known to show, or the other way round."""


@dataclass(frozen=True)
class KindStatistics:
    """A multinomial logistic regression of the vision tower's mean output.

    Attributes:
        weights_sha256: of the model whose output this is.
        weights: by kind, one for each number of the output.
        bias: by kind.
        made_of: what it was fitted on.

    Raises:
        ValueError: the numbers do not belong together, or a kind is none of the table.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}

    weights_sha256: str
    weights: Mapping[str, tuple[float, ...]]
    bias: Mapping[str, float]
    made_of: str

    def __post_init__(self) -> None:
        if self.weights.keys() != self.bias.keys() or not self.weights:
            raise ValueError("The kinds with weights and those with a bias differ; expected some.")
        if len({len(numbers) for numbers in self.weights.values()}) > 1:
            raise ValueError("The kinds have different numbers of weights; expected the same.")
        unknown = sorted(self.weights.keys() - picture_kinds().keys())
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no kind of picture.")

    def shares(self, vision: NDArray[np.floating[Any]], modality: str = "") -> dict[str, float]:
        """The probability of each kind that the picture may be of.

        Args:
            vision: mean output of the vision tower.
            modality: code of DICOM; empty where none is told.

        Returns:
            Nothing where no kind has that modality.
        """
        possible = _kinds_of(modality)
        taught = [kind.name for kind in possible if kind.name in self.weights]
        found = {kind.name: 1.0 / len(possible) for kind in possible}
        scores = [self.bias[name] + float(np.dot(self.weights[name], vision)) for name in taught]
        parts = np.exp(np.array(scores) - max(scores, default=0.0))
        share = len(taught) / max(1, len(possible))
        chances = share * parts / max(parts.sum(), 1.0)
        return found | dict(zip(taught, chances.tolist(), strict=True))

    def log_odds(self, target: str, vision: NDArray[np.floating[Any]], modality: str = "") -> float:
        """That the picture is of a kind that can show a target; 0 where nothing is known."""
        shares = self.shares(vision, modality)
        if not shares:
            return 0.0
        kinds = picture_kinds()
        chance = sum(share for name, share in shares.items() if kinds[name].can_show(target))
        expected = SURPRISES + (1 - 2 * SURPRISES) * chance
        return math.log(expected / (1 - expected))


def _kinds_of(modality: str) -> list[PictureKind]:
    """Those that have the modality; all of them where none is told, or another thing (``OT``)."""
    kinds = picture_kinds().values()
    if modality in ("", "OT"):
        return list(kinds)
    return [kind for kind in kinds if modality in kind.modalities]


def kinds_of_model(folder: Path | None, weights_sha256: str) -> KindStatistics | None:
    """What the model's folder holds, if it does.

    Whoever trains a copy of a model's folder further has a file of other weights there, which tells
    nothing of the new ones and is left aside.

    Args:
        folder: of the model; ``None`` where its own weights are not those that answer.
        weights_sha256: of the weights that answer.

    Raises:
        ModelUnavailableError: the file is damaged.
    """
    path = None if folder is None else folder / KINDS_FILE
    if path is None or not path.is_file():
        return None
    try:
        found = TypeAdapter(KindStatistics).validate_python(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ModelUnavailableError(
            f"The kinds of picture in {path} cannot be read ({type(error).__name__}); make them "
            "anew or remove the file."
        ) from error
    if found.weights_sha256 != weights_sha256:
        logger.warning(
            "%s was made of the weights %s and tells nothing of those beside it, %s.",
            path,
            found.weights_sha256[:12],
            weights_sha256[:12],
        )
        return None
    return found


def vision_means(loaded: LoadedModel, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Mean output of the vision tower for each image, (images, numbers), under inference mode.

    Args:
        loaded: a model of Qwen's families.
        images: as in a request, all of one size.
    """
    import torch

    encoded = loaded.processor.image_processor(images=list(images), return_tensors="pt")
    encoded = encoded.to(loaded.device)
    # Only models of several modalities have it; their common base does not say so.
    model = cast("Any", loaded.model)
    with torch.inference_mode():
        output = model.get_image_features(
            encoded["pixel_values"].to(model.dtype), encoded["image_grid_thw"]
        )
    return np.stack([each.float().mean(0).cpu().numpy() for each in output.pooler_output])
