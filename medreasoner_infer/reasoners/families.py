# SPDX-License-Identifier: Apache-2.0
"""The vision-language models that can be asked: how each writes coordinates and resizes images.

A model's family is what ``model_type`` of its ``config.json`` says. A model of another type is
refused: its coordinates would be guessed, and a wrong guess looks like an answer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medreasoner_infer.errors import ModelUnavailableError
from medreasoner_infer.reasoners.coordinates import (
    PIXELS,
    THOUSANDTHS,
    THOUSANDTHS_Y_FIRST,
    AnswerFrame,
    Coordinates,
)
from medreasoner_infer.reasoners.resizing import FixedSize, Resizing, SmartResize, Tiles

CONFIG_FILE = "config.json"
USUAL_PX = 840
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


class UnknownFamilyError(ModelUnavailableError):
    """It is not known how a model writes coordinates; the message names the known families."""


class ImageSizeChangedError(ModelUnavailableError):
    """A model's processor would change the image's size; the message tells the sizes."""


@dataclass(frozen=True)
class ModelFamily:
    """What is the same for all models of one ``model_type``.

    Attributes:
        name: for messages.
        coordinates: how its models write places.
        resizing: what its processor makes of a square; of one model once :func:`family_of` made it.
        served_px2: least and most pixels in the published processors' settings, which a server
            keeps to; this process asks its own processor for the image's size instead.
        keeps_prefix: whether the chat template puts the image before the question and position ids
            come of the patch grid alone, so that the image's keys and values can be kept.
        image_token: what stands for each token of the image in the prompt.
        encoder: name of the module that takes patches and a grid, so that equal images can share a
            pass through it; ``None`` where the encoder works otherwise.
    """

    name: str
    coordinates: Coordinates
    resizing: Resizing
    image_token: str
    served_px2: tuple[int, int] | None = None
    keeps_prefix: bool = False
    encoder: str | None = None

    def frame(self, side_px: int) -> AnswerFrame:
        """The frame of the answers to a square that the model sees as it is.

        Raises:
            ImageSizeChangedError: the processor would change its size.
        """
        seen = self.resizing.seen_px(side_px)
        if seen != side_px:
            kept = " or ".join(f"{side} px" for side in self.resizing.kept_px(side_px))
            raise ImageSizeChangedError(
                f"The images have {side_px} px, and the processor of {self.name} would make "
                f"{seen} px of them; expected {kept}. Set the model's input_size to that, and "
                "export data sets in that size."
            )
        return AnswerFrame(side_px, self.coordinates)

    @property
    def usual_px(self) -> int:
        """The kept size next to 840 px, for models that do not tell theirs."""
        return min(self.resizing.kept_px(USUAL_PX), key=lambda side: abs(side - USUAL_PX))

    def as_served(self, bounds_px2: tuple[int, int] | None) -> ModelFamily:
        """The family on a server, whose processor keeps the image within ``bounds_px2``.

        Args:
            bounds_px2: least and most pixels, where the model's folder tells them.
        """
        bounds = bounds_px2 or self.served_px2
        if bounds is None or not isinstance(self.resizing, SmartResize):
            return self
        resizing = dataclasses.replace(self.resizing, least_px2=bounds[0], most_px2=bounds[1])
        return dataclasses.replace(self, resizing=resizing)


_QWEN = ModelFamily(
    "Qwen2-VL",
    THOUSANDTHS,
    SmartResize(28),
    "<|image_pad|>",
    (56 * 56, 16384 * 28 * 28),
    keeps_prefix=True,
    encoder="visual",
)
_QWEN_3 = dataclasses.replace(
    _QWEN, name="Qwen3-VL", resizing=SmartResize(32), served_px2=(256 * 256, 4096 * 4096)
)

#: By ``model_type`` of ``config.json``.
FAMILIES: Mapping[str, ModelFamily] = MappingProxyType(
    {
        "qwen2_vl": _QWEN,
        "qwen2_5_vl": dataclasses.replace(_QWEN, name="Qwen2.5-VL", coordinates=PIXELS),
        "qwen3_vl": _QWEN_3,
        "qwen3_vl_moe": _QWEN_3,
        "internvl": ModelFamily("InternVL", THOUSANDTHS, Tiles(), "<IMG_CONTEXT>"),
        "gemma3": ModelFamily("Gemma 3", THOUSANDTHS_Y_FIRST, FixedSize(), "<image_soft_token>"),
    }
)


def family_of(config: Mapping[str, Any]) -> ModelFamily:
    """The family of a model with that ``config.json``, with the model's own numbers.

    Raises:
        UnknownFamilyError: ``model_type`` is missing or none of :data:`FAMILIES`.
    """
    family = named_family(config.get("model_type"))
    return dataclasses.replace(family, resizing=family.resizing.of_model(config))


def named_family(model_type: object) -> ModelFamily:
    """The family of a ``model_type``.

    Raises:
        UnknownFamilyError: it is missing or none of :data:`FAMILIES`.
    """
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise UnknownFamilyError(
            f"The model's type is {model_type!r}, of which it is not known how it writes "
            f"coordinates; expected one of {', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def family_in(folder: Path) -> ModelFamily:
    """The family of the model in a folder.

    Raises:
        UnknownFamilyError: as :func:`family_of`.
        ModelUnavailableError: there is no readable ``config.json``.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise ModelUnavailableError(f"{folder} holds no {CONFIG_FILE}; expected a model's folder.")
    return family_of(_read_json(folder / CONFIG_FILE))


def served_family(places: Iterable[str | Path | None], model_type: str | None) -> ModelFamily:
    """The family of a model that a server runs, as far as this machine can tell.

    Args:
        places: absolute folders, or Hugging Face ids, with ``@REVISION`` or without, of which this
            machine may hold a copy; the first that has a ``config.json`` tells. Nothing is
            downloaded.
        model_type: what the registry says; it counts where no place tells.

    Raises:
        UnknownFamilyError: nobody tells, or the type is unknown.
        ModelUnavailableError: a file is damaged.
    """
    for place in places:
        folder = _local_folder(place)
        if folder is not None and (folder / CONFIG_FILE).is_file():
            return family_in(folder).as_served(_processor_bounds(folder))
    if model_type is None:
        raise UnknownFamilyError(
            "Neither the server nor the registry tells which kind of model this is, so that its "
            "coordinates cannot be read. Name a model of the registry, or a folder that holds the "
            f"model's {CONFIG_FILE} and is called as the server calls the model. Known types: "
            f"{', '.join(FAMILIES)}."
        )
    return named_family(model_type).as_served(None)


def usual_input_px(source: str) -> int:
    """Side of the images of a model that does not tell it, as far as this machine can tell.

    Args:
        source: absolute folder, or Hugging Face id.

    Raises:
        UnknownFamilyError: this machine has the model's ``config.json``, of an unknown type.
    """
    folder = _local_folder(source)
    if folder is None or not (folder / CONFIG_FILE).is_file():
        return USUAL_PX
    return family_in(folder).usual_px


def _local_folder(place: str | Path | None) -> Path | None:
    """The folder, or this machine's copy of the Hugging Face repository."""
    if place is None:
        return None
    if Path(place).is_absolute():  # else a server's name for a model could be a folder's here
        return Path(place)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    name, _, revision = str(place).partition("@")
    try:
        cached = try_to_load_from_cache(name, CONFIG_FILE, revision=revision or None)
    except HFValidationError:  # a name of the server's own
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _processor_bounds(folder: Path) -> tuple[int, int] | None:
    """Least and most pixels in a folder's settings of a Qwen processor, if it has any."""
    for name in _PROCESSOR_FILES:
        settings = _read_json(folder / name)
        settings = settings.get("image_processor", settings)
        size = settings.get("size") or {}
        least = settings.get("min_pixels", size.get("shortest_edge"))
        most = settings.get("max_pixels", size.get("longest_edge"))
        if isinstance(least, int) and isinstance(most, int):
            return least, most
    return None


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; an empty one where there is no file.

    Raises:
        ModelUnavailableError: the file is damaged.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(
            f"{path} cannot be read ({type(error).__name__}); expected JSON."
        ) from error
    if not isinstance(fields, dict):
        raise ModelUnavailableError(f"{path} holds no JSON object; expected a model's settings.")
    return fields
