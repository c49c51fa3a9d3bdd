# SPDX-License-Identifier: Apache-2.0
"""Time and peak memory of propagation through a synthetic volume.

Run: ``python benchmarks/propagation.py --slices 100 --strategy memory``. It prints one JSON line.
"""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass, field, replace

import numpy as np

from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.segmenters import PropagationStrategy, load_sam2
from medreasoner_infer.types import SliceImage, SlicePrompt


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options; every field is a command line option."""

    slices: int = 100
    size: int = field(default=512, metadata={"help": "rows and columns of a slice"})
    model: str = "embedded"
    strategy: str = field(default="reprompt", metadata={"help": "reprompt or memory"})
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class Cylinder:
    """Slices of a bright cylinder that never ends, so that all of them are segmented."""

    slices: int
    size: int

    def __len__(self) -> int:
        return self.slices

    def __getitem__(self, index: int, /) -> SliceImage:
        y, x = np.mgrid[: self.size, : self.size]
        disc = np.hypot(x - self.size / 2, y - self.size / 2) < self.size / 6
        noise = np.random.default_rng(index).normal(0, 5, disc.shape)
        pixels = np.clip(np.where(disc, 180, 80) + noise, 0, 255).astype(np.uint8)
        return SliceImage(pixels, (0.8, 0.8), f"cylinder/{self.size}/{index}")

    @property
    def prompt(self) -> SlicePrompt:
        near, middle, far = self.size / 3, self.size / 2, self.size * 2 / 3
        return SlicePrompt((near, near, far, far), ((middle, middle),), (1,))


def measure(options: BenchmarkOptions) -> dict[str, float | int | str]:
    """Propagate once and tell seconds, milliseconds a slice and peak memory in MiB."""
    spec = resolve_model("segmenter", options.model)
    settings = load_sam2(spec, device=options.device).settings
    settings = replace(settings, strategy=PropagationStrategy(options.strategy))
    segmenter = load_sam2(spec, device=options.device, settings=settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    frames = Cylinder(options.slices, options.size)
    started = time.perf_counter()
    found = sum(1 for _ in segmenter.propagate(frames, options.slices // 2, frames.prompt))
    seconds = time.perf_counter() - started
    return {
        "model": options.model,
        "strategy": options.strategy,
        "slices": options.slices,
        "slices_found": found,
        "seconds": round(seconds, 2),
        "ms_per_slice": round(1000 * seconds / found, 1),
        "peak_mib_loaded": before // 1024,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(BenchmarkOptions).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
