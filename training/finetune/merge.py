# SPDX-License-Identifier: Apache-2.0
"""A LoRA adapter and its base as one full model, which transformers and vLLM load alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.atomic import replacing_folder
from medreasoner_infer.errors import InputError, MissingExtraError, ModelUnavailableError
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.reasoners.prompts import (
    PROMPT_FILE,
    load_prompt_file,
    prompt_json,
    trained_further,
)
from medreasoner_infer.reasoners.weights import (
    ModelFolder,
    locate_adapter,
    locate_model,
    weights_sha256,
)

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

MERGE_FILE = "merge.json"
# What the base's processor and prompt are read from. Its model card and figures are not the
# merged model's, and its index of weights may name other files.
_COPIED = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "LICENSE",
    "NOTICE",
)


class MergeError(InputError):
    """The adapter, the base or the output folder cannot be used for a merge."""


def merge_adapter(adapter: Path, out: Path, *, base: str | None = None) -> Path:
    """Add a LoRA adapter's weights to its base's and write the sum as a full model.

    Weights keep the base's number format, so a base in bfloat16 rounds the sum to it. Processor
    and tokenizer are the base's own files, and ``prompt.json`` asks as it does, but refuses no
    target of the adapter's; ``merge.json`` holds both hashes.

    Args:
        adapter: folder as written by peft, safetensors only.
        out: folder to write; it must not exist, and appears only when it is complete.
        base: registry name, Hugging Face id or folder; by default what ``adapter_config.json``
            names.

    Returns:
        ``out``.

    Raises:
        MergeError: if ``out`` exists, no base is named, or the adapter does not fit the base.
        ModelUnavailableError: if adapter or base cannot be loaded.
        UnknownModelError: if ``base`` means nothing.
        MissingExtraError: if ``peft`` is not installed.
    """
    if out.exists():
        raise MergeError(f"{out} exists already; name a folder that does not.")
    adapter = locate_adapter(adapter)
    name = base or _named_base(adapter)
    spec = resolve_model("reasoner", name)
    folder = locate_model(spec.source, spec.revision)
    merged = _merged(folder.path, adapter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as unfinished:
        merged.save_pretrained(unfinished)
        for file in _COPIED:
            if (folder.path / file).is_file():
                shutil.copyfile(folder.path / file, unfinished / file)
        _write_prompt(folder.path, unfinished)
        _write_origin(unfinished, name, folder, adapter)
    return out


def _write_prompt(base: Path, merged: Path) -> None:
    settings = load_prompt_file(base)
    if settings is not None:
        text = prompt_json(trained_further(settings))
        (merged / PROMPT_FILE).write_text(text, encoding="utf-8")


def _named_base(adapter: Path) -> str:
    """What ``adapter_config.json`` names, with the revision that it pins."""
    path = adapter / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"{path} cannot be read ({type(error).__name__}).") from error
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not name:
        raise MergeError(f"{path} names no base; say which one the adapter was trained on.")
    return f"{name}@{revision}" if revision and not Path(name).exists() else str(name)


def _merged(folder: Path, adapter: Path) -> PreTrainedModel:
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText

    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingExtraError("peft", "train") from error
    try:
        model = AutoModelForImageTextToText.from_pretrained(  # nosec B615 # a folder
            folder, dtype="auto", use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelUnavailableError(
            f"{folder} could not be loaded as a multimodal model ({type(error).__name__}: {error})."
        ) from error
    try:
        adapted = PeftModel.from_pretrained(model, adapter)
        _refuse_unused_weights(adapted, adapter)
        return adapted.merge_and_unload(safe_merge=True)
    except MergeError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise MergeError(
            f"The adapter {adapter} does not fit {folder} ({type(error).__name__}: {error})."
        ) from error


def _refuse_unused_weights(adapted: PeftModel, adapter: Path) -> None:
    """Peft only warns of weights for which the model has no place, and would merge nothing."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="np") as file:
        saved = set(file.keys())
    differing = saved ^ set(get_peft_model_state_dict(adapted))
    if differing:
        raise MergeError(
            f"{len(differing)} weights of the adapter {adapter} do not belong to this base, e.g. "
            f"{min(differing)}; name the base that it was trained on."
        )


def _write_origin(unfinished: Path, name: str, folder: ModelFolder, adapter: Path) -> None:
    origin = {
        "base": name,
        "base_revision": folder.revision,
        "base_weights_sha256": weights_sha256(folder.path),
        "adapter_weights_sha256": weights_sha256(adapter),
    }
    text = json.dumps(origin, indent=2) + "\n"
    (unfinished / MERGE_FILE).write_text(text, encoding="utf-8")
