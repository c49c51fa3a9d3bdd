# SPDX-License-Identifier: Apache-2.0
"""``python -m medreasoner_training.embedded.average``: the mean of two weights files.

The mean of a stage's weights and those it started from may do better than either (Wortsman et al.,
Robust fine-tuning of zero-shot models, arXiv 2109.01903); the model cards say by how much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from medreasoner_infer.atomic import replacing
from medreasoner_training.embedded.required import command_line


@dataclass(frozen=True)
class Settings:
    """Command line of the averaging."""

    first: str = field(metadata={"help": "safetensors file that the stage started from"})
    last: str = field(metadata={"help": "safetensors file that it ended with"})
    out: str = field(metadata={"help": "safetensors file to write"})
    share: float = field(default=0.5, metadata={"help": "of the last one, 0 to 1"})


def average(first: Path, last: Path, share: float) -> dict[str, torch.Tensor]:
    """The weights ``share`` of the way from one file's to the other's.

    Raises:
        ValueError: the files are not of one architecture, or the share is none.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; expected 0 to 1.")
    before, after = load_file(first), load_file(last)
    if {k: v.shape for k, v in before.items()} != {k: v.shape for k, v in after.items()}:
        raise ValueError(f"{first} and {last} hold tensors of other names or shapes.")
    return {name: torch.lerp(before[name], after[name], share) for name in before}


def main() -> None:
    """Command line entry point."""
    settings = command_line(Settings)
    weights = average(Path(settings.first), Path(settings.last), settings.share)
    with replacing(Path(settings.out)) as unfinished:
        save_file(weights, unfinished, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
