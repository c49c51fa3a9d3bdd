# SPDX-License-Identifier: Apache-2.0
"""GRPO with different rewards on the same data, steps and seed: the paper's Table 3 in small.

One variant, resumable by the same command; all variants share a folder, its data set and the
measurement of the untouched model::

    python benchmarks/ablation.py --variant soft --out DIR

The table of those that are finished::

    python benchmarks/ablation.py --summarise DIR
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from filelock import FileLock
from site_experiment import exported_site, held_out_data_set, keep_settings, told
from transformers import HfArgumentParser

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.models.registry import EMBEDDED
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_training.embedded.marked_text import write_marked
from medreasoner_training.experiments.ablation import (
    UNTOUCHED,
    VARIANTS,
    AblationSettings,
    description,
    table,
    variant_config,
)
from medreasoner_training.experiments.site_shift.measuring import load, measure, save, unconstrained
from medreasoner_training.finetune import CONFIG_FILE, read_progress
from medreasoner_training.finetune.run import ExitCode, run

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "ablation.md"
MODULE = "benchmarks/ablation.py"
SITE = "shifted"
_OWN = ("out", "variant", "threads", "summarise")


@dataclass(frozen=True)
class Options:
    """Options beside those of :class:`AblationSettings`; every field is one."""

    out: str = field(default="", metadata={"help": "folder that the variants share"})
    variant: str = field(default="", metadata={"help": "soft, hard, base, iou-only or pdice-only"})
    train_patients: int = 120
    held_out_patients: int = 40
    max_slices: int = field(default=3, metadata={"help": "training slices per organ and patient"})
    val_share: float = field(
        default=0.05, metadata={"help": "of the training patients, for the run's own comparison"}
    )
    threads: int = 1
    summarise: str = field(default="", metadata={"help": "folder of finished variants"})


def run_variant(options: Options, settings: AblationSettings) -> None:
    """Train one variant and measure it; what is done already is not done again."""
    out = Path(options.out).absolute()
    data_set, held_out = shared_data(out, options, settings)
    run_dir = out / options.variant
    run_dir.mkdir(exist_ok=True)
    store = ReasonerStore(run_dir / "store")
    with FileLock(out / ".untouched.lock"):
        measure_once(out / f"{UNTOUCHED}.npz", held_out, EMBEDDED, store)
    config = variant_config(options.variant, settings, f"../{data_set.name}")
    write_durably(run_dir / CONFIG_FILE, config.to_yaml())
    if options.variant not in store.names() and run(run_dir) is not ExitCode.OK:
        sys.exit(f"The run is not finished; see {run_dir}/progress.json.")
    measure_once(out / f"{options.variant}.npz", held_out, options.variant, store)
    print(f"{options.variant} is measured.", flush=True)


def shared_data(out: Path, options: Options, settings: AblationSettings) -> tuple[Path, Path]:
    """The data sets of all variants; the first one writes them, the others wait for it."""
    out.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in asdict(options).items() if key not in _OWN}
    with FileLock(out / ".data.lock"):
        keep_settings(out, kept | asdict(settings))
        train = exported_site(
            out, "train", SITE, settings.seed, range(options.train_patients),
            val_share=options.val_share, max_slices=options.max_slices,
        )  # fmt: skip
        return train, held_out_data_set(out, SITE, settings.seed, options.held_out_patients)


def measure_once(path: Path, data_set: Path, model: str, store: ReasonerStore) -> None:
    """Let a model answer the held-out questions, decoding freely, and keep what came of it."""
    if not path.is_file():
        reasoner = unconstrained(model, store)
        save(measure(data_set, reasoner, on_scored=told(f"measuring {path.stem}")), path)


def summarise(out: Path) -> None:
    """Write the table of the finished variants into the document."""
    measured = {path.stem: load(path) for path in out.glob("*.npz")}
    minutes = {
        name: read_progress(out / name).seconds_elapsed / 60
        for name in VARIANTS
        if name in measured
    }
    settings = json.loads((out / "options.json").read_text(encoding="utf-8"))
    body = f"{description(settings, minutes)}\n\n{table(measured)}\n"
    write_marked(DOCUMENT, MODULE, body)
    print(body)


def main() -> None:
    """Parse the command line; run a variant or summarise."""
    options, settings = HfArgumentParser((Options, AblationSettings)).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    if options.summarise:
        summarise(Path(options.summarise))
    elif options.out and options.variant in VARIANTS:
        run_variant(options, settings)
    else:
        sys.exit(
            f"Give --out DIR and --variant, one of {', '.join(VARIANTS)}, for a run, or "
            "--summarise DIR for the table."
        )


if __name__ == "__main__":
    main()
