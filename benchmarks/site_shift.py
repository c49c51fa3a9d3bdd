# SPDX-License-Identifier: Apache-2.0
"""Tune the reasoner on a shifted synthetic site by the product's own path, and measure it there.

One run, resumable by the same command (``--steps`` and the patients may be made smaller)::

    python benchmarks/site_shift.py --seed 0 --tuning lora --out DIR

The table and the picture of several runs::

    python benchmarks/site_shift.py --summarise DIR DIR ...
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from serving import serving
from site_experiment import held_out_data_set, keep_settings, told

if TYPE_CHECKING:
    from medreasoner_training.finetune import Progress

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "site_shift.md"
PICTURE = ROOT / "docs" / "images" / "site_shift.png"
MODULE = "benchmarks/site_shift.py"
CONFIG = "site-shift"
POLL_S = 1.5


@dataclass(frozen=True)
class Options:
    """Options; every field is a command line option."""

    out: str = field(default="", metadata={"help": "folder of the run"})
    seed: int = field(default=0, metadata={"help": "of the site's patients and of the training"})
    tuning: str = field(default="lora", metadata={"help": "lora or full"})
    steps: int = field(default=500, metadata={"help": "optimiser steps of GRPO"})
    learning_rate: float | None = field(default=None, metadata={"help": "by default the tuning's"})
    schedule: str = field(default="cosine", metadata={"help": "of the rate, as transformers does"})
    train_patients: int = 120
    held_out_patients: int = 40
    max_slices: int = field(default=3, metadata={"help": "training slices per organ and patient"})
    min_patients: int = field(default=12, metadata={"help": "that the gate needs for a decision"})
    eval_samples: int = field(default=64, metadata={"help": "held-out samples while training"})
    replay_share: float = field(default=0.3, metadata={"help": "of the usual site's phantoms"})
    blend: float = field(default=0.65, metadata={"help": "share of the way to the trained weights"})
    masks: bool = field(default=True, metadata={"help": "measure the segmenter's masks as well"})
    threads: int = 1
    summarise: list[str] = field(default_factory=list, metadata={"help": "folders of runs"})


def run(options: Options) -> None:
    """One run: measure, train, measure again; what is done already is not done again."""
    from medreasoner_infer.models.store import ReasonerStore
    from medreasoner_training.experiments.site_shift.measuring import compare, load
    from medreasoner_training.experiments.site_shift.site import SITES

    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    ours = {key: value for key, value in asdict(options).items() if key not in ("out", "summarise")}
    keep_settings(out, ours)
    # The run's own store: what it promotes answers nowhere else.
    os.environ["MEDREASONER_HOME"] = str(out / "home")
    store = ReasonerStore()
    patients = options.held_out_patients
    data_sets = {name: held_out_data_set(out, name, options.seed, patients) for name in SITES}
    for name, data_set in data_sets.items():
        score(out / f"before-{name}.npz", data_set, None, store, options)
    last = train(out, options)
    print(f"{last.state.value}: {last.message}", flush=True)
    if last.candidate is None:
        raise SystemExit("The run is not finished; start the same command again.")
    for name, data_set in data_sets.items():
        score(out / f"after-{name}.npz", data_set, last.candidate, store, options)
    sites = {
        name: compare(load(out / f"before-{name}.npz"), load(out / f"after-{name}.npz"))
        for name in SITES
    }
    write_result(out, options, last, sites)
    print((out / "result.json").read_text(), flush=True)


def score(path: Path, data_set: Path, name: str | None, store: Any, options: Options) -> None:
    from medreasoner_training.experiments.site_shift.measuring import measure, save, served

    if not path.is_file():
        segmenter = "embedded" if options.masks else None
        reasoner = served(name, store)
        save(measure(data_set, reasoner, segmenter=segmenter, on_scored=told(path.stem)), path)


def train(out: Path, options: Options) -> Progress:
    """Have a running server export and train as a viewer does; an unfinished run is resumed."""
    from medreasoner_training.experiments.site_shift.datastore import write_site
    from medreasoner_training.experiments.site_shift.site import SHIFTED
    from monailabel_app.site.paths import HIDDEN_FOLDER
    from monailabel_app.training.folder import TrainingFolder
    from monailabel_app.training.options import known_configs, named_config, overridden

    studies = out / "studies" / "train"
    write_site(studies, SHIFTED, options.seed, range(options.train_patients), told("writing"))
    folder = TrainingFolder(studies / HIDDEN_FOLDER)
    finished = folder.progress()
    if finished is not None and finished.candidate is not None:
        return finished
    config = overridden(named_config("embedded", known_configs()), overrides(options))
    configs = out / "configs"
    configs.mkdir(exist_ok=True)
    (configs / f"{CONFIG}.yaml").write_text(json.dumps(config.to_dict()))
    arguments = ["--studies", str(studies), "--train-configs", str(configs), "--no-preload"]
    with serving(out / "home", *arguments) as url:
        follow(url, {"config": CONFIG, "max_slices": options.max_slices}, out / "curve.jsonl")
    last = folder.progress()
    if last is None:
        raise SystemExit(f"The server started no training; see {out / 'home' / 'log'}.")
    return last


def follow(url: str, request: dict[str, Any], curve: Path) -> None:
    """Press *Train*, and note each step as the viewers are told it, until the training ends."""
    answer = httpx.post(f"{url}/train/medreasoner", json=request, timeout=60)
    if answer.status_code != httpx.codes.CONFLICT:  # one that an earlier call has begun goes on
        answer.raise_for_status()
    last_line = None
    # Where another server had begun it, there is no status any more once it has ended.
    while httpx.get(f"{url}/train/", timeout=60).json().get("status") == "RUNNING":
        stats = httpx.get(f"{url}/info/", timeout=60).json()["train_stats"]["medreasoner"]
        if stats.get("line") not in (None, last_line):
            last_line = stats["line"]
            print(last_line, flush=True)
            with curve.open("a", encoding="utf-8") as file:
                point = {key: stats[key] for key in ("step", "reward", "held_out_iou")}
                file.write(json.dumps(point) + "\n")
        time.sleep(POLL_S)


def overrides(options: Options) -> dict[str, Any]:
    """What differs from the shipped settings of the embedded reasoner."""
    rate = options.learning_rate or {"lora": 1.5e-3, "full": 3e-4}[options.tuning]
    changed = {
        "tuning": options.tuning,
        "grpo.steps": options.steps,
        "grpo.learning_rate": rate,
        "grpo.schedule": options.schedule,
        "run.seed": options.seed,
        "run.eval_samples": options.eval_samples,
        "gate.min_patients": options.min_patients,
        "promotion.blend": options.blend,
    }
    replay = "phantoms" if options.replay_share else None
    return changed | {"data.replay": replay, "data.replay_share": options.replay_share}


def write_result(out: Path, options: Options, last: Progress, sites: dict[str, Any]) -> None:
    """Keep the comparison as ``result.json``; atomic."""
    from medreasoner_infer.atomic import write_durably

    result = {
        "tuning": options.tuning,
        "seed": options.seed,
        "settings": json.loads((out / "options.json").read_text()),
        "decision": last.state.value,
        "seconds": last.seconds_elapsed,
        "sites": {
            site: {name: asdict(line) for name, line in lines.items()}
            for site, lines in sites.items()
        },
    }
    write_durably(out / "result.json", json.dumps(result, indent=2) + "\n")


def summarise(folders: list[str]) -> None:
    """Write table and picture of finished runs into the document."""
    from medreasoner_training.embedded.marked_text import write_marked
    from medreasoner_training.experiments.site_shift.report import draw, read_run, table

    runs = [read_run(Path(folder)) for folder in folders]
    runs.sort(key=lambda run: (run.setup, run.seed))
    draw(runs, PICTURE)
    body = table(runs)
    write_marked(DOCUMENT, MODULE, f"![Curves and box IoU](images/{PICTURE.name})\n\n{body}\n")
    print(body)


def main() -> None:
    """Parse the command line; run or summarise."""
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(Options).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    if options.summarise:
        summarise(options.summarise)
    elif options.out:
        run(options)
    else:
        sys.exit("Give --out DIR for a run, or --summarise DIR ... for the table.")


if __name__ == "__main__":
    main()
