# SPDX-License-Identifier: Apache-2.0
"""Stands for ``python -m medreasoner_training.finetune``: ``python fake_trainer.py MODE RUN_DIR``.

Writes what the real one writes, without importing it, and appends a line to ``starts`` each time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

mode, run = sys.argv[1], Path(sys.argv[2])
LIMIT_S = 120


def tell(state: str, step: int, message: str = "", **more: object) -> None:
    fields = {
        "state": state, "step": step, "total_steps": 4, "reward": 2.5, "held_out_iou": 0.5,
        "best_iou": 0.5, "seconds_elapsed": 7.0, "seconds_left": 9.0, "message": message,
        "candidate": None, **more,
    }  # fmt: skip
    (run / "new").write_text(json.dumps(fields))
    os.replace(run / "new", run / "progress.json")


def end(state: str, status: int, **more: object) -> None:
    tell(state, 4, **more)
    sys.exit(status)


with (run / "starts").open("a") as starts:
    starts.write(f"{os.getpid()} {'resumed' if (run / 'checkpoint').exists() else 'new'}\n")
if mode == "crash":
    raise ModuleNotFoundError("No module named 'trl'")
if mode == "gpu":
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
if mode == "disk":
    raise OSError(28, "No space left on device")
tell("training", 3)
(run / "checkpoint").touch()
if mode == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "fails":
    end("failed", 1, message="The loss became NaN.")
if mode == "promotes":
    time.sleep(1.5)
    end("promoted", 0, candidate="site-1", message="Better by 0.1.")
if mode == "refuses":
    end("refused", 3, candidate="site-1", message="Worse by 0.1.")
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({LIMIT_S})"])
(run / "worker").write_text(str(worker.pid))
deadline = time.monotonic() + LIMIT_S
while time.monotonic() < deadline:
    if mode == "waits" and (run / "stop").exists():
        worker.kill()
        end("stopped", 4, message="Stopped on request.")
    time.sleep(0.05)
