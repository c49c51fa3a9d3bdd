# SPDX-License-Identifier: Apache-2.0
"""Curves of both embedded models' trainings: ``python -m medreasoner_training.embedded.curves``."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medreasoner_infer.atomic import replacing
from medreasoner_training.embedded.required import command_line

REASONER_CURVES = {
    "coordinate": "coordinates of the answer",
    "placed": "coordinates from the visual tokens",
    "outlined": "outlines from the visual tokens",
}
SEGMENTER_CURVES = {
    "iou/box_and_points": "box and two points",
    "iou/box": "box",
    "iou/two_points": "two points",
    "iou/one_point": "one point",
}
CHAIN_CURVES = {
    "iou/chain": "IoU on clips",
    "presence/chain": "told whether it has ended",
}
SMOOTHED_STEPS = 200


@dataclass(frozen=True)
class Settings:
    """Command line of the drawing."""

    reasoner: str = field(metadata={"help": "output folder of the reasoner's training"})
    segmenter: str = field(metadata={"help": "output folder of the segmenter's image stage"})
    out: str = field(metadata={"help": "PNG file to write"})
    chains: list[str] = field(
        default_factory=list, metadata={"help": "output folders of its chain stages, in order"}
    )


@dataclass(frozen=True)
class Curve:
    """Values at steps, both of shape (N,)."""

    steps: np.ndarray
    values: np.ndarray


def reasoner_curves(folder: Path) -> dict[str, Curve]:
    """The parts of the loss that the newest checkpoint's trainer state holds.

    Raises:
        FileNotFoundError: if the folder holds no checkpoint.
    """
    from transformers.trainer_utils import get_last_checkpoint

    checkpoint = get_last_checkpoint(str(folder / "checkpoints"))
    if checkpoint is None:
        raise FileNotFoundError(f"{folder} holds no checkpoint of a reasoner's training.")
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text(encoding="utf-8"))
    found = {}
    for name in REASONER_CURVES:
        entries = [entry for entry in state["log_history"] if name in entry]
        found[name] = Curve(
            np.array([entry["step"] for entry in entries]),
            np.array([entry[name] for entry in entries], float),
        )
    return found


def segmenter_curves(folder: Path, names: Collection[str]) -> dict[str, Curve]:
    """The named scalars of a stage from its TensorBoard files, running means."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    known = set(events.Tags()["scalars"])
    return {name: _smoothed(events.Scalars(name)) for name in names if name in known}


def _smoothed(events: Sequence) -> Curve:
    steps = np.array([event.step for event in events])
    values = np.array([event.value for event in events])
    bins = steps // SMOOTHED_STEPS
    centres = np.unique(bins)
    means = np.array([values[bins == centre].mean() for centre in centres])
    return Curve((centres + 0.5) * SMOOTHED_STEPS, means)


@dataclass(frozen=True)
class Panel:
    """One stage of a training: its curves and what they are called."""

    title: str
    curves: dict[str, Curve]
    names: dict[str, str]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels side by side; atomic PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    for axis, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, curve in panel.curves.items():
            axis.plot(curve.steps, curve.values, linewidth=1, label=panel.names[name])
        axis.set(title=panel.title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def main() -> None:
    """Command line entry point."""
    settings = command_line(Settings)
    image = segmenter_curves(Path(settings.segmenter), SEGMENTER_CURVES)
    chains = [segmenter_curves(Path(folder), CHAIN_CURVES) for folder in settings.chains]
    panels = (
        Panel(
            "reasoner: parts of the loss",
            reasoner_curves(Path(settings.reasoner)),
            REASONER_CURVES,
        ),
        Panel("segmenter: IoU on training crops", image, SEGMENTER_CURVES),
        *(
            Panel(f"segmenter: its own masks as prompts, {number}", curves, CHAIN_CURVES)
            for number, curves in enumerate(chains, start=1)
        ),
    )
    draw(panels, Path(settings.out))


if __name__ == "__main__":
    main()
