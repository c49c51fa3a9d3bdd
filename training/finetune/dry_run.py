# SPDX-License-Identifier: Apache-2.0
"""What a run would meet, before anything is loaded or written: settings, data, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_infer.reasoners.budget import QUERY_TOKENS
from medreasoner_training.finetune.arguments import (
    longest_rollout,
    lora_config,
    require_rollout_device,
)
from medreasoner_training.finetune.config import FineTuneConfig
from medreasoner_training.finetune.errors import FineTuneConfigError
from medreasoner_training.finetune.grpo import require_samples
from medreasoner_training.finetune.memory.architecture import Architecture, architecture_of
from medreasoner_training.finetune.memory.found_model import FoundModel, find_model
from medreasoner_training.finetune.memory.reckoning import Lengths, Reckoning, reckon, to_dict
from medreasoner_training.finetune.preparation import validation_rows
from medreasoner_training.finetune.prompt_length import longest_prompt, questions_of
from medreasoner_training.finetune.rows import RowMaker
from medreasoner_training.finetune.settings import Method, Tuning, VllmMode
from medreasoner_training.licences import is_non_commercial
from medreasoner_training.samples import TRAIN, open_dataset

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import LoraConfig

_CHARS_PER_TOKEN = 2  # as few as medreasoner_infer.reasoners.budget reckons with


class Weight(str, Enum):
    """What a finding means: a fault ends the run, a note is for whoever starts it."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """One check in a sentence."""

    weight: Weight
    what: str
    sentence: str


@dataclass(frozen=True)
class DryRun:
    """What a run would meet.

    Attributes:
        model: that would be tuned, and where its sizes come from.
        lengths: of prompts and rollouts.
        reckoning: the memory of one GPU.
        findings: the checks.
    """

    model: str
    lengths: Lengths
    reckoning: Reckoning
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the run."""
        faults = any(each.weight is Weight.FAULT for each in self.findings)
        return not faults and self.reckoning.fits is not False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lengths = self.lengths
        return {
            "model": self.model,
            "prompt_tokens": lengths.prompt,
            "prompt_is_counted": lengths.counted,
            "completion_tokens": lengths.completion,
            "image_px": lengths.side_px,
            **to_dict(self.reckoning),
            "findings": [
                {"weight": each.weight.value, "what": each.what, "sentence": each.sentence}
                for each in self.findings
            ],
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Learnt:
    """What is known of the data set: its questions, and what speaks for and against it."""

    questions: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def dry_run(
    config: FineTuneConfig,
    store: ReasonerStore,
    learnt: Callable[[FoundModel], Learnt],
    *,
    gpu_gb: float | None = None,
    gpus: int = 1,
) -> DryRun:
    """Check and reckon; nothing is loaded, written or downloaded.

    Args:
        config: of the run.
        store: where a live model or candidate is looked up.
        learnt: looks at the data set, for the model's image size.
        gpu_gb: memory of a card in 10^9 B; by default ``run.gpu_gb``, else that of the card here.
        gpus: processes, one GPU each.

    Raises:
        UnknownArchitectureError: the model's sizes are not known.
        FineTuneConfigError: a step cannot be shared by the GPUs.
        UnknownModelError: the configured model means nothing.
    """
    found = find_model(config.model, store)
    arch = architecture_of(found.folder, found.source, _adapter(config, found))
    data = learnt(found)
    lengths = _lengths(config, arch, found, data.questions)
    card = gpu_gb or config.run.gpu_gb
    card_bytes = _card_here() if card is None else int(card * 1e9)
    reckoning = reckon(config, arch, lengths, card_bytes=card_bytes, gpus=gpus)
    findings = (*_of_model(found, arch), *data.findings, *_of_rollouts(config, arch, lengths))
    return DryRun(f"{found.source} ({arch.source})", lengths, reckoning, findings)


def dry_run_of(run_dir: Path, config: FineTuneConfig, **options: Any) -> DryRun:
    """The same for a run's folder, whose data set is looked at if it is there.

    Raises:
        MedReasonerError: as :func:`dry_run`.
    """
    promotion = config.promotion
    store = ReasonerStore(None if promotion.store is None else run_dir / promotion.store)

    def learnt(found: FoundModel) -> Learnt:
        return look_at_folder(run_dir / config.data.folder, config, found)

    return dry_run(config, store, learnt, **options)


def look_at_folder(folder: Path, config: FineTuneConfig, found: FoundModel) -> Learnt:
    """What a run would read, checked as it checks it."""
    try:
        data = open_dataset(folder)
        validation = validation_rows(data, config)
        training = data.load(TRAIN)
        if config.method is Method.grpo:
            require_samples(len(training), config.grpo)
        maker = RowMaker(found.settings, found.frame, config.data.image_sizes)
        maker.check_size(training[0]["images"][0].size[0])
    except MedReasonerError as error:
        return Learnt((), (Finding(Weight.FAULT, "data", str(error)),))
    told = f"{len(training)} rows to learn from, {len(validation)} that validate."
    findings = [Finding(Weight.OK, "data", told), *_of_licences(training)]
    return Learnt(tuple(questions_of(training)), tuple(findings))


def _of_licences(training: Dataset) -> Iterator[Finding]:
    told = training.select_columns("extra_info")["extra_info"]
    licences = [(each.get("licence") or "", each.get("may_train")) for each in told]
    barred = sum(
        may_train is False or is_non_commercial(licence) for licence, may_train in licences
    )
    if barred:
        sentence = (
            f"{barred} of {len(licences)} rows have a licence that forbids training, or commercial "
            "use; a folder is trained on as it is. Make it with medreasoner train --dataset."
        )
        yield Finding(Weight.FAULT, "licence", sentence)
    elif not any(licence for licence, _ in licences):
        yield Finding(Weight.NOTE, "licence", "The rows tell no licence; you answer for them.")
    else:
        yield Finding(Weight.OK, "licence", "No row's licence forbids training.")


def _adapter(config: FineTuneConfig, found: FoundModel) -> LoraConfig | None:
    if config.tuning is Tuning.full:
        return None
    if found.adapter is None:
        return lora_config(config)
    from peft import LoraConfig as Adapter

    return Adapter.from_pretrained(str(found.adapter), inference_mode=False)


def _lengths(
    config: FineTuneConfig, arch: Architecture, found: FoundModel, questions: tuple[str, ...]
) -> Lengths:
    side = found.settings.input_size
    image_tokens = arch.image_tokens(side)
    completion = config.grpo.max_completion_tokens or longest_rollout(
        found.settings, context=arch.context, image_tokens=image_tokens, frame=found.frame
    )
    counted = _counted(found, questions, image_tokens)
    if counted is not None:
        return Lengths(counted, completion, side, True)
    template = found.settings.template
    chars = max((len(question) for question in questions), default=QUERY_TOKENS * _CHARS_PER_TOKEN)
    chars += len(template.system + template.user_template)
    return Lengths(image_tokens + chars // _CHARS_PER_TOKEN, completion, side, False)


def _counted(found: FoundModel, questions: tuple[str, ...], image_tokens: int) -> int | None:
    """Tokens of the longest prompt, where the model's own tokenizer is here."""
    if found.folder is None or not questions or not (found.folder / "tokenizer.json").is_file():
        return None
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(  # nosec B615 # a folder that is here already
        found.folder, trust_remote_code=False, local_files_only=True
    )
    return longest_prompt(questions, RowMaker(found.settings, found.frame), processor, image_tokens)


def _of_model(found: FoundModel, arch: Architecture) -> Iterator[Finding]:
    licence = f"The model's licence: {found.licence}."
    yield Finding(Weight.NOTE if is_non_commercial(found.licence) else Weight.OK, "model", licence)
    if not found.has_weights:
        absent = f"{found.source} is not on this machine; its sizes are of {arch.source}."
        yield Finding(Weight.NOTE, "weights", absent)


def _of_rollouts(config: FineTuneConfig, arch: Architecture, lengths: Lengths) -> Iterator[Finding]:
    needed = lengths.prompt + lengths.completion
    weight, at_most = (Weight.FAULT, "") if lengths.counted else (Weight.NOTE, " at most")
    takes = f"the longest prompt and rollout take {needed:,} tokens{at_most}"
    if needed > arch.context:
        yield Finding(weight, "length", f"The model holds {arch.context:,}, but {takes}.")
    if config.method is not Method.grpo or config.vllm.mode is VllmMode.off:
        return
    longest = config.vllm.max_model_length
    if longest is not None and longest < needed:
        yield Finding(weight, "length", f"vllm.max_model_length is {longest:,}, but {takes}.")
    try:
        require_rollout_device(config)
    except FineTuneConfigError as error:
        yield Finding(Weight.NOTE, "this machine", str(error))
    if not _is_installed("vllm") and config.vllm.mode is VllmMode.colocate:
        sentence = "vLLM is not installed here; the extra train-vllm brings it."
        yield Finding(Weight.NOTE, "this machine", sentence)


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _card_here() -> int | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
