# SPDX-License-Identifier: Apache-2.0
"""What the experiments at a synthetic site share: its data sets, and how a run is resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HELD_OUT_FROM = 10_000
"""Number of the first patient who takes part in no training."""


def held_out_data_set(out: Path, site_name: str, seed: int, patients: int) -> Path:
    """Questions about patients that take no part in the training; one slice per organ."""
    numbers = range(HELD_OUT_FROM, HELD_OUT_FROM + patients)
    return exported_site(out, f"held-out-{site_name}", site_name, seed, numbers)


def exported_site(
    out: Path,
    name: str,
    site_name: str,
    seed: int,
    patients: range,
    *,
    val_share: float = 0.0,
    max_slices: int = 1,
) -> Path:
    """Write patients as MONAI Label keeps them, and export them; what is there is kept.

    Args:
        out: folder of the experiment.
        name: of the data set within it.
        site_name: ``usual`` or ``shifted``.
        seed: of the experiment.
        patients: their numbers.
        val_share: share of the patients in the validation split; 0 makes none.
        max_slices: slices per organ and patient.

    Returns:
        The folder of the data set.
    """
    from medreasoner_training.experiments.site_shift.datastore import write_site
    from medreasoner_training.experiments.site_shift.site import SITES
    from medreasoner_training.samples import SampleSettings
    from monailabel_app.export.exporting import ExportSettings, export_studies

    data_set = out / name
    if data_set.is_dir():
        return data_set
    studies = out / "studies" / name
    write_site(studies, SITES[site_name], seed, patients, told(f"writing {name}"))
    settings = ExportSettings(val_share, SampleSettings(128, max_slices, 1, min_area_px=40))
    records = out / "records" / name
    export_studies(str(studies), data_set, settings, data_dir=records, progress=told("exporting"))
    return data_set


def keep_settings(out: Path, settings: Mapping[str, Any]) -> None:
    """A resumed run goes on with the settings that it was begun with.

    Raises:
        SystemExit: ``out`` holds a run with other ones.
    """
    path = out / "options.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{out} holds a run with other options: {path.read_text()}")
    path.write_text(json.dumps(settings))


def told(what: str) -> Callable[[int, int], None]:
    """Prints every tenth of the way."""

    def tell(done: int, total: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            print(f"{what}: {done} of {total}", flush=True)

    return tell
