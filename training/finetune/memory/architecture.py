# SPDX-License-Identifier: Apache-2.0
"""The sizes of a model, from its configuration alone: it is built without weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from medreasoner_training.finetune.errors import UnknownArchitectureError

if TYPE_CHECKING:
    from peft import LoraConfig
    from torch import nn
    from transformers import PretrainedConfig

_ENCODER = ".visual."


@dataclass(frozen=True)
class Architecture:
    """What memory is reckoned from; all are numbers of values.

    Attributes:
        source: where the numbers come from.
        weights: of the whole model; tied ones count once.
        vision_weights: of the image encoder, among them.
        learning: weights that learn.
        learns_vision: whether some of them are the image encoder's.
        hidden: width of the language model.
        intermediate: width of its MLP.
        layers: of the language model.
        key_values: width of the keys, and of the values, of one layer.
        vocabulary: of the language model's head.
        context: tokens of prompt and completion that positions exist for.
        vision_hidden: width of the image encoder.
        vision_intermediate: width of its MLP.
        vision_layers: of the image encoder.
        patch_values: of one patch of an image.
        patch_px: side of a patch.
        merge: patches along a side that become one token.
        largest_image_px: pixels of the largest image that the processor lets through.
    """

    source: str
    weights: int
    vision_weights: int
    learning: int
    learns_vision: bool
    hidden: int
    intermediate: int
    layers: int
    key_values: int
    vocabulary: int
    context: int
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    patch_values: int
    patch_px: int
    merge: int
    largest_image_px: int

    def image_tokens(self, side_px: int) -> int:
        """Of a square image, whose side the processor rounds to whole tokens."""
        return max(1, round(side_px / (self.patch_px * self.merge))) ** 2

    def patches(self, side_px: int) -> int:
        """Of a square image."""
        return self.image_tokens(side_px) * self.merge**2


def architecture_of(
    folder: Path | None, published: str, adapter: LoraConfig | None
) -> Architecture:
    """Build the model without weights and count.

    Args:
        folder: of the model; its ``config.json`` is enough. ``None`` where it is not here.
        published: Hugging Face id, looked up where there is no folder.
        adapter: that learns; ``None`` where all weights learn.

    Raises:
        UnknownArchitectureError: neither is known, or the model is of another family.
    """
    values, source, largest_px = _values(folder, published)
    try:
        return _counted(values, source, largest_px, adapter)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnknownArchitectureError(
            f"The configuration of {source} describes no model of the Qwen-VL family "
            f"({type(error).__name__}: {error}); memory is reckoned for that family only."
        ) from error


@cache
def published_models() -> dict[str, Any]:
    """The shipped numbers of published models, as the file holds them."""
    path = resources.files(__package__) / "published.yaml"
    return cast("dict[str, Any]", yaml.safe_load(path.read_text(encoding="utf-8")))


def published_numbers(source: str) -> dict[str, Any]:
    """The shipped numbers of a Hugging Face id.

    Raises:
        UnknownArchitectureError: none are shipped.
    """
    shipped = published_models()
    known = shipped["models"].get(shipped["same_as"].get(source, source))
    if known is None:
        raise UnknownArchitectureError(
            f"The model {source!r} is not on this machine and its sizes are not shipped; expected "
            f"a folder with config.json as model.name, or one of: {', '.join(shipped['models'])}."
        )
    return cast("dict[str, Any]", known)


def _values(folder: Path | None, published: str) -> tuple[dict[str, Any], str, int]:
    """Values of ``config.json``, where they come from, and the processor's largest image."""
    if folder is not None and (folder / "config.json").is_file():
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return values, str(folder / "config.json"), _largest_image_px(folder)
    known = published_numbers(published)
    return known["config"], known["source"], known["max_pixels"]


def _largest_image_px(folder: Path) -> int:
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            values = json.loads((folder / name).read_text(encoding="utf-8"))
            values = values.get("image_processor", values)
            longest = (values.get("size") or {}).get("longest_edge")
            return int(values.get("max_pixels") or longest or 0)
    return 0


def _counted(
    values: dict[str, Any], source: str, largest_px: int, adapter: LoraConfig | None
) -> Architecture:
    from transformers import AutoConfig

    config = AutoConfig.for_model(**values)
    model = _without_weights(config, adapter)
    text, vision = config.get_text_config(), config.vision_config
    weights = [(name, each) for name, each in model.named_parameters() if "lora_" not in name]
    learning = {name: each.numel() for name, each in model.named_parameters() if each.requires_grad}
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Architecture(
        source=source,
        weights=sum(each.numel() for _, each in weights),
        vision_weights=sum(each.numel() for name, each in weights if _ENCODER in name),
        learning=sum(learning.values()),
        learns_vision=any(_ENCODER in name for name in learning),
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        layers=text.num_hidden_layers,
        key_values=text.num_key_value_heads * head_width,
        vocabulary=text.vocab_size,
        context=text.max_position_embeddings,
        vision_hidden=vision.hidden_size,
        vision_intermediate=vision.intermediate_size,
        vision_layers=vision.depth,
        patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        patch_px=vision.patch_size,
        merge=vision.spatial_merge_size,
        largest_image_px=largest_px,
    )


def _without_weights(config: PretrainedConfig, adapter: LoraConfig | None) -> nn.Module:
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
        return cast("nn.Module", model if adapter is None else get_peft_model(model, adapter))
