# SPDX-License-Identifier: Apache-2.0
"""Kill the trainer by SIGKILL at random moments, resume it each time, and look for what was lost.

Run: ``python benchmarks/kill_trainer.py --out DIR``. After every kill the newest complete
checkpoint must load and be no older than the one before, and the live model must be as it was. At
the end the run is resumed and stopped in order. Prints one JSON line for each kill and one at the
end; the exit status is 1 if anything was lost.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = "live-before"
STAGE = "grpo"
STATES = {"training", "evaluating"}


@dataclass(frozen=True)
class Options:
    """Options; every field is a command line option."""

    out: str = field(metadata={"help": "folder; a former one goes on"})
    kills: int = 10
    steps: int = field(default=400, metadata={"help": "of the run; more than the kills allow"})
    patients: int = 12
    longest_steps: int = field(default=2, metadata={"help": "of training before a kill"})
    longest_s: float = field(default=10.0, metadata={"help": "after them, until the kill"})
    early_share: float = field(default=0.2, metadata={"help": "of kills while it still starts"})
    seed: int = 0


def main() -> None:
    """Parse the command line, kill and resume, and print what was lost."""
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(Options).parse_args_into_dataclasses()
    out = Path(options.out).absolute()
    os.environ["MEDREASONER_HOME"] = str(out / "home")
    run = prepare(out, options)
    draw = random.Random(options.seed)
    live, faults = live_state(), 0
    step, _ = examine(run, 0, live)
    for number in range(options.kills):
        moment = killed(run, draw, options)
        found, problems = examine(run, step, live)
        faults += len(problems)
        line = {"kill": number + 1, **moment, "checkpoint": found, "problems": problems}
        print(json.dumps(line), flush=True)
        step = found
    print(json.dumps({"kills": options.kills, "faults": faults, **stopped(run)}), flush=True)
    faults += len(examine(run, step, live)[1])
    sys.exit(1 if faults else 0)


def prepare(out: Path, options: Options) -> Path:
    """A live candidate, a small data set, and a run's folder with a checkpoint at every step.

    A folder that has all this is taken as it is, for more kills of the same run.
    """
    if (out / "run" / "config.yaml").is_file():
        return out / "run"
    from medreasoner_infer.models.registry import resolve_model
    from medreasoner_infer.models.store import Provenance, ReasonerStore
    from medreasoner_training.experiments.site_shift.datastore import write_site
    from medreasoner_training.experiments.site_shift.site import SHIFTED
    from medreasoner_training.samples import SampleSettings
    from monailabel_app.export.exporting import ExportSettings, export_studies
    from monailabel_app.training.options import known_configs, named_config, overridden
    from monailabel_app.training.site import write_config

    studies = write_site(out / "studies", SHIFTED, options.seed, range(options.patients))
    settings = ExportSettings(0.3, SampleSettings(128, 1, 1, min_area_px=40))
    data_set = export_studies(str(studies), out / "dataset", settings, data_dir=out / "records")
    store = ReasonerStore()
    provenance = Provenance("embedded", data_set.manifest_sha256, "benchmark", options.seed)
    store.add(Path(resolve_model("reasoner", "embedded").source), provenance, name=OURS)
    store.promote(OURS, by="benchmark")
    changes = {
        "grpo.steps": options.steps, "grpo.prompts_per_step": 2, "grpo.generations": 2,
        "run.save_steps": 1, "run.eval_steps": 0, "tuning": "full", "promotion.promote": False,
        "gate.min_patients": 2, "data.replay": None, "data.replay_share": 0.0,
    }  # fmt: skip
    config = overridden(named_config("embedded", known_configs()), changes)
    write_config(out / "run", config, data_set)
    return out / "run"


def start(run: Path) -> subprocess.Popen[bytes]:
    with (run / "trainer.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "medreasoner_training.finetune", str(run)],
            cwd=run, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def killed(run: Path, draw: random.Random, options: Options) -> dict[str, Any]:
    """Start or resume, and kill at a random moment of the start or of the training."""
    (run / "progress.json").unlink(missing_ok=True)
    process, early = start(run), draw.random() < options.early_share
    began = time.monotonic()
    if not early:
        steps = draw.randint(0, options.longest_steps)
        first = wait_for(run, process, lambda now: now.state.value in STATES).step
        wait_for(run, process, lambda now: now.step >= first + steps)
    time.sleep(draw.uniform(0.0, options.longest_s))
    now = told(run)
    moment = {
        "state": None if now is None else now.state.value,
        "step": 0 if now is None else now.step,
        "after_s": round(time.monotonic() - began, 1),
    }
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return moment


def stopped(run: Path) -> dict[str, Any]:
    """Resume once more and stop in order: the run still works after all kills."""
    from medreasoner_training.finetune import request_stop

    (run / "progress.json").unlink(missing_ok=True)
    process = start(run)
    wait_for(run, process, lambda now: now.state.value in STATES)
    request_stop(run)
    return {"resumed_and_stopped_with": process.wait()}


def wait_for(run: Path, process: Any, reached: Callable[[Any], bool]) -> Any:
    """The first progress that is told and fits."""
    while True:
        now = told(run)
        if now is not None and reached(now):
            return now
        if process.poll() is not None:
            raise SystemExit(f"The trainer ended by itself:\n{tail(run)}")
        time.sleep(0.2)


def told(run: Path) -> Any:
    from medreasoner_training.finetune import read_progress
    from medreasoner_training.finetune.errors import ProgressError

    try:
        return read_progress(run)
    except ProgressError:
        return None


def examine(run: Path, step_before: int, live_before: Any) -> tuple[int, list[str]]:
    """Step of the newest complete checkpoint, and what is wrong."""
    from medreasoner_training.finetune.checkpoints import newest_complete, step_of

    problems = []
    newest = newest_complete(run / STAGE)
    step = 0 if newest is None else step_of(newest)
    if step < step_before:
        problems.append(f"checkpoint {step_before} was lost")
    if newest is not None:
        problems += unloadable(newest)
    if live_state() != live_before:
        problems.append("the live model changed")
    return step, problems


def unloadable(checkpoint: Path) -> list[str]:
    """Why a checkpoint does not load; empty if it does."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        for path in checkpoint.glob("*.safetensors"):
            if not all(value.isfinite().all() for value in load_file(path).values()):
                return [f"{path.name} holds NaN"]
        torch.load(checkpoint / "optimizer.pt", weights_only=True)
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        return [f"{checkpoint.name} does not load: {error}"]
    return []


def live_state() -> tuple[Any, ...]:
    """What answers, with every file checked against its hash."""
    from medreasoner_infer.models.store import ReasonerStore

    store = ReasonerStore()
    live = store.live()
    if live is not None:
        store.verify(live)
    return live, store.live_stamp(), store.history()


def tail(run: Path) -> str:
    return (run / "trainer.log").read_text(errors="replace")[-2000:]


if __name__ == "__main__":
    main()
