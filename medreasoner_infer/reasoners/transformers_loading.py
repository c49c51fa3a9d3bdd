# SPDX-License-Identifier: Apache-2.0
"""Loading a multimodal model with transformers, from a local folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from medreasoner_infer.errors import MissingExtraError, ModelUnavailableError
from medreasoner_infer.reasoners.coordinates import AnswerFrame
from medreasoner_infer.reasoners.families import ImageSizeChangedError, ModelFamily, family_in

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to generate, with what the engine must know of it.

    ``frame`` is that of its answers, ``image_tokens`` what its image takes of the prompt.
    ``stop_token_ids`` end a completion.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    device: torch.device
    family: ModelFamily
    frame: AnswerFrame
    image_tokens: int
    context_tokens: int
    vocabulary_size: int
    stop_token_ids: tuple[int, ...]


def load_model(
    folder: Path, input_size: int, *, device: str = "auto", adapter: Path | None = None
) -> LoadedModel:
    """Load model and processor; weights in safetensors only, no code of the repository is run.

    Raises:
        UnknownFamilyError: if it is not known how such a model writes coordinates.
        ImageSizeChangedError: if its processor would change the image's size.
        ModelUnavailableError: if the folder holds no complete multimodal model.
        MissingExtraError: if an adapter is given and ``peft`` is not installed.
    """
    from safetensors import SafetensorError
    from transformers import AutoProcessor

    chosen = choose_device(device)
    family = family_in(folder)
    frame = family.frame(input_size)
    try:
        processor = AutoProcessor.from_pretrained(  # nosec B615 # a folder that is here already
            folder, trust_remote_code=False, local_files_only=True
        )
        model = _load_weights(folder, chosen)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailableError(
            f"{folder} could not be loaded as a multimodal model ({type(error).__name__}: {error})."
        ) from error
    if adapter is not None:
        model = _merge_adapter(model, adapter)
    _ask_for_size(processor, input_size)
    _require_kept(processor, input_size)
    text_config = model.config.get_text_config()
    return LoadedModel(
        model=model.eval(),
        processor=processor,
        device=chosen,
        family=family,
        frame=frame,
        image_tokens=family.resizing.tokens(input_size),
        context_tokens=text_config.max_position_embeddings,
        vocabulary_size=text_config.vocab_size,
        stop_token_ids=_own_the_decoding(model, processor),
    )


def choose_device(device: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; anything else is a torch device.

    Raises:
        ModelUnavailableError: if torch does not know the device or cannot use it here.
    """
    import torch

    if device == "auto":
        mps = torch.backends.mps.is_available()
        device = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelUnavailableError(
            f"The device is {device!r}; expected auto, cpu, mps, cuda or cuda:N."
        ) from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelUnavailableError("The device is cuda, but torch finds no CUDA device here.")
    return chosen


def _load_weights(folder: Path, device: torch.device) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForImageTextToText

    loaded = AutoModelForImageTextToText.from_pretrained(  # nosec B615 # a folder, as above
        folder,
        dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
        attn_implementation=_attention_kernel(device),
        device_map={"": device},
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    model, info = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    lacking = info["missing_keys"]
    if lacking:  # transformers would leave them at random values, with a log line only
        raise ValueError(f"{len(lacking)} weights are missing, e.g. {sorted(lacking)[0]}")
    return model


def _attention_kernel(device: torch.device) -> str:
    from transformers.utils import is_flash_attn_2_available

    return "flash_attention_2" if device.type == "cuda" and is_flash_attn_2_available() else "sdpa"


def _merge_adapter(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    try:
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        return cast("PreTrainedModel", merged)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelUnavailableError(
            f"The adapter {adapter} does not fit the model ({type(error).__name__}: {error})."
        ) from error


def _ask_for_size(processor: ProcessorMixin, input_size: int) -> None:
    """Have a Qwen processor keep a square of ``input_size`` px."""
    image_processor = processor.image_processor
    if hasattr(image_processor, "merge_size"):  # the family whose edges are numbers of pixels
        pixels = input_size * input_size
        image_processor.size = {"shortest_edge": pixels, "longest_edge": pixels}


def _require_kept(processor: ProcessorMixin, input_size: int) -> None:
    """Refuse a processor with another patch grid than the model's settings tell.

    Raises:
        ImageSizeChangedError: in that case.
    """
    blank = np.zeros((input_size, input_size, 3), np.uint8)
    encoded: dict[str, Any] = processor.image_processor(images=[blank], return_tensors="pt")
    grid = encoded.get("image_grid_thw")
    if grid is None:
        return
    sides = [int(patches) * processor.image_processor.patch_size for patches in grid[0, 1:]]
    if sides != [input_size, input_size]:
        raise ImageSizeChangedError(
            f"The folder's processor makes {sides[1]} x {sides[0]} px of an image of {input_size} "
            "px, which the model's own settings would keep; expected a processor of this model."
        )


def _own_the_decoding(model: PreTrainedModel, processor: ProcessorMixin) -> tuple[int, ...]:
    """Drop the model's own decoding defaults and return the tokens that end a completion.

    Published models carry a repetition penalty and sampling filters. A penalty distorts
    coordinates, whose digits repeat, and both would make results depend on the folder.
    """
    from transformers import GenerationConfig

    configured = model.generation_config.eos_token_id
    stops = configured if isinstance(configured, list) else [configured]
    stops = [*stops, processor.tokenizer.eos_token_id]
    stop_ids = tuple(dict.fromkeys(int(stop) for stop in stops if stop is not None))
    if not stop_ids:
        raise ModelUnavailableError("The model names no token that ends a completion.")
    pad = processor.tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        eos_token_id=list(stop_ids), pad_token_id=stop_ids[0] if pad is None else pad
    )
    return stop_ids
