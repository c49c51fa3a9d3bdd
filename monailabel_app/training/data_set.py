# SPDX-License-Identifier: Apache-2.0
"""The data set that a training learns from: exported anew, and kept by its content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from medreasoner_infer.models.registry import LIVE, resolve_model
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_infer.reasoners.families import usual_input_px
from medreasoner_infer.reasoners.prompts import load_prompt_file
from medreasoner_training.embedded.reasoner.targets import MIN_AREA_PX
from medreasoner_training.finetune import FineTuneConfig
from medreasoner_training.samples import VALIDATION, SampleDataset, SampleSettings, open_dataset
from monailabel_app.export.exporting import ExportSettings, export_studies
from monailabel_app.training.errors import TooFewHeldOutError

PUBLISHED_SIZE_PX = 840
_KEY_DIGITS = 12
_PRESENT_PER_ABSENT = 4


def export_settings(config: FineTuneConfig, val_share: float, max_slices: int) -> ExportSettings:
    """Samples in the size that the tuned reasoner reads."""
    size = input_size_px(config.model.name, config.promotion.store)
    defaults = SampleSettings(size)
    min_area_px = defaults.min_area_px * (size / PUBLISHED_SIZE_PX) ** 2
    absent = max(1, max_slices // _PRESENT_PER_ABSENT)
    samples = SampleSettings(size, max_slices, absent, max(MIN_AREA_PX, min_area_px))
    return ExportSettings(val_share, samples)


def input_size_px(name: str, store: str | None = None) -> int:
    """Side of the square that a reasoner reads, found without loading it.

    Args:
        name: ``live``, a registry name, a Hugging Face id or a folder.
        store: folder of the store that knows what is live.

    Raises:
        UnknownModelError: the name means nothing.
        UnknownFamilyError: a model of that kind cannot be asked.
    """
    folder = None
    if name == LIVE:
        live = ReasonerStore(None if store is None else Path(store)).live()
        name = "embedded" if live is None else live.provenance.base
        folder = None if live is None else live.folder
    spec = resolve_model("reasoner", name)
    for candidate in (folder, Path(spec.source) if spec.is_local else None):
        prompt = None if candidate is None else load_prompt_file(candidate)
        if prompt is not None:
            return prompt.input_size
    return spec.input_size or usual_input_px(spec.source)


def export_data_set(
    studies: str,
    folder: Path,
    settings: ExportSettings,
    *,
    data_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> SampleDataset:
    """Export what is approved now; equal content keeps its folder ``HASH`` below ``folder``.

    Raises:
        as :func:`monailabel_app.export.exporting.export_studies`.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".exporting-") as scratch:
        out = Path(scratch) / "new"
        exported = export_studies(studies, out, settings, data_dir=data_dir, progress=progress)
        kept = folder / content_key(exported)
        if kept.is_dir():
            return open_dataset(kept)
        os.replace(out, kept)
    return open_dataset(kept)


def content_key(data_set: SampleDataset) -> str:
    """Names what a data set holds, but not when it was written."""
    manifest = asdict(data_set.manifest)
    del manifest["created_at"]
    text = json.dumps(manifest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


def require_held_out(data_set: SampleDataset, config: FineTuneConfig) -> None:
    """Refuse to train for hours what the gate could not decide on.

    Raises:
        TooFewHeldOutError: the validation patients are fewer than the gate's ``min_patients``.
    """
    split = data_set.manifest.splits.get(VALIDATION)
    patients, needed = 0 if split is None else split.patients, config.gate.min_patients
    if patients < needed:
        raise TooFewHeldOutError(
            f"The approved labels hold out {patients} patient(s); the gate needs {needed} to "
            "compare a candidate with the live model. Approve labels of more patients, raise "
            "val_share, or have the administrator lower gate.min_patients."
        )


def remove_unfinished(folder: Path) -> None:
    """Clear away what a killed export left in the folder of data sets; call it under the lock."""
    for leftover in folder.glob(".exporting-*"):
        shutil.rmtree(leftover)
