# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.reasoner.kinds --model DIR`` learns kinds of picture.

By the mean output of the model's own vision tower, from what it was trained on: phantoms and the
real images that may be trained on. Writes ``kinds.json`` beside the weights, for these only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.language.kinds import kind_called
from medreasoner_infer.reasoners import prepare_image
from medreasoner_infer.reasoners.picture_kind import KINDS_FILE, KindStatistics, vision_means
from medreasoner_infer.reasoners.transformers_loading import load_model
from medreasoner_infer.reasoners.weights import weights_sha256

from ..phantom.scanner import sample_image
from ..required import command_line
from .modelling import IMAGE_ENCODING
from .pictures import drawn, phantom_kinds, phantom_picture, training_pictures
from .samples import AT_FINDING_SHARE, SIZE_PX

SEED = 970_000
TORSO = "CT"
"""The word of the data sets for what a torso phantom is, whatever its contrast."""
TORSOS, PHANTOMS, CROPS = 600, 150, 80
REGULARISATION = 1000.0
"""Strong: phantoms, and crops of a few images, differ less from each other than patients do."""
_BATCH = 32
_DIGITS = 5


@dataclass(frozen=True)
class Settings:
    """Command line."""

    model: str = field(metadata={"help": "model folder"})
    real_data: str = field(
        default="", metadata={"help": "folder of real images that may be trained on"}
    )


def training_views(real_data: Path | None) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Kind and letterboxed grey image of what a model of the vocabulary is trained on."""
    rng = np.random.default_rng(SEED)
    for _ in range(TORSOS):
        yield TORSO, sample_image(rng, SIZE_PX, AT_FINDING_SHARE).grey
    real = () if real_data is None else training_pictures(real_data)
    modalities = sorted({picture.modality for picture in real})
    for modality in phantom_kinds(modalities):
        for _ in range(PHANTOMS):
            yield modality, drawn(phantom_picture(modality, rng), SIZE_PX, rng)[0]
    for modality in modalities:
        pictures = [picture for picture in real if picture.modality == modality]
        for number in range(CROPS):
            yield modality, drawn(pictures[number % len(pictures)], SIZE_PX, rng)[0]


def learnt(
    kinds: Sequence[str], vision: NDArray[np.floating], sha256: str, made_of: str
) -> KindStatistics:
    """The regression, each kind with the same weight, of the vision tower's output as it is."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = vision.mean(0), np.maximum(vision.std(0), 1e-6)
    model = LogisticRegression(C=1 / REGULARISATION, class_weight="balanced", max_iter=2000).fit(
        (vision - mean) / scale, kinds
    )
    weights = model.coef_ / scale
    bias = model.intercept_ - weights @ mean
    if len(model.classes_) == 2:  # scikit-learn tells the second against the first
        weights, bias = np.concatenate([0 * weights, weights]), np.array([0.0, bias[0]])
    return KindStatistics(
        sha256,
        {str(k): _rounded(row) for k, row in zip(model.classes_, weights, strict=True)},
        {str(k): _rounded([b])[0] for k, b in zip(model.classes_, bias, strict=True)},
        made_of,
    )


def _rounded(numbers: Sequence[float] | NDArray[np.floating]) -> tuple[float, ...]:
    return tuple(float(f"{number:.{_DIGITS}g}") for number in numbers)


def learn_kinds(settings: Settings) -> dict[str, int]:
    """Write ``kinds.json``; returns the number of views of each kind.

    Raises:
        ModelUnavailableError: the folder holds no model.
        FileNotFoundError: the folder of real images holds no manifest.
    """
    folder = Path(settings.model)
    real_data = Path(settings.real_data) if settings.real_data else None
    loaded = load_model(folder, SIZE_PX, device="cpu")
    kinds: list[str] = []
    images: list[NDArray[np.uint8]] = []
    for modality, grey in training_views(real_data):
        kind = kind_called(modality)
        if kind is not None:
            kinds.append(kind.name)
            images.append(prepare_image(grey, IMAGE_ENCODING))
    parts = (images[at : at + _BATCH] for at in range(0, len(images), _BATCH))
    vision = np.concatenate([vision_means(loaded, part) for part in parts])
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    made_of = ", ".join(f"{count} views of {kind}" for kind, count in counts.items())
    found = learnt(kinds, vision, weights_sha256(folder), made_of)
    write_durably(folder / KINDS_FILE, json.dumps(asdict(found)) + "\n")
    return counts


def main() -> None:
    """Command line entry point."""
    print(json.dumps(learn_kinds(command_line(Settings))))


if __name__ == "__main__":
    main()
