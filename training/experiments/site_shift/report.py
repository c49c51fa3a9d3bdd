# SPDX-License-Identifier: Apache-2.0
"""What came of the experiment's runs: a table in Markdown and a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medreasoner_training.experiments.site_shift.site import SITES
from medreasoner_training.gate import Comparison
from medreasoner_training.markdown import table_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESULT_NAME = "result.json"
CURVE_NAME = "curve.jsonl"
REWARD_WINDOW = 20
WORDS = {
    "box_iou": "box IoU",
    "boxes_above_half": "boxes with IoU > 0.5",
    "points_dice": "Dice of the key points' discs",
    "points_inside": "key points inside the target",
    "mask_dice": "mask Dice",
    "absence": "absent targets answered with null",
    "failures": "answers that cannot be read",
}
_SETUP = ("tuning", "seed", "replay", "blend")
SITE_WORDS = {"shifted": "shifted site", "usual": "usual site"}


@dataclass(frozen=True)
class Run:
    """One finished run of the experiment, read from its folder.

    Attributes:
        tuning: ``lora`` or ``full``.
        seed: of site and training.
        settings: what else it was started with.
        decision: ``promoted``, ``refused`` or ``finished``.
        seconds: that the training took.
        sites: comparisons of after with before, by site and measure.
        curve: steps, rewards and held-out IoU as told while it trained.
    """

    tuning: str
    seed: int
    settings: dict[str, Any]
    decision: str
    seconds: float
    sites: dict[str, dict[str, Comparison]]
    curve: tuple[dict[str, Any], ...] = ()

    @property
    def replay_share(self) -> float:
        """Share of the usual site's samples among those trained on."""
        return float(self.settings.get("replay_share", 0.0))

    @property
    def blend(self) -> float:
        """How far the candidate lies on the way from the shipped weights to the trained ones."""
        return float(self.settings.get("blend", 1.0))

    @property
    def schedule(self) -> str:
        """Of the learning rate; runs that do not name it were begun when it was constant."""
        return str(self.settings.get("schedule", "constant"))

    @property
    def setup(self) -> tuple[str, float, float]:
        """What runs have in common that differ by their seed only."""
        return self.tuning, self.replay_share, self.blend

    @property
    def name(self) -> str:
        """What tells this run from the others in a legend."""
        return f"{self.tuning} {self.seed}, replay {self.replay_share:g}, blend {self.blend:g}"


def read_run(folder: Path) -> Run:
    """Read ``result.json`` and ``curve.jsonl`` of a finished run.

    Raises:
        FileNotFoundError: the run is not finished.
    """
    fields = json.loads((folder / RESULT_NAME).read_text(encoding="utf-8"))
    sites = {
        site: {name: Comparison(**line) for name, line in lines.items()}
        for site, lines in fields.pop("sites").items()
    }
    path = folder / CURVE_NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    # A run that is taken up again begins at 0, and repeats the steps since its checkpoint.
    points = {point["step"]: point for point in map(json.loads, lines) if point["step"]}
    return Run(**fields, sites=sites, curve=tuple(points[step] for step in sorted(points)))


def table(runs: Sequence[Run]) -> str:
    """One table for each site, one row for each run and measure."""
    parts = []
    for site in SITES:
        held_out = next(iter(runs[0].sites[site].values()))
        parts += [
            f"## Held-out patients of the {SITE_WORDS[site]}",
            "",
            f"{held_out.patients} patients a run; differences with 95 % BCa bootstrap intervals "
            "over whole patients.",
            "",
            *table_lines(
                [*_SETUP, "measure", "before", "after", "difference", "n"],
                (_row(run, line) for run in runs for line in run.sites[site].values()),
            ),
            "",
        ]
    parts += [
        *table_lines(
            [*_SETUP, "steps", "rate", "minutes", "decision of the gate"], map(_training_row, runs)
        ),
        "",
        *_means(runs),
    ]
    return "\n".join(parts)


def _setup(run: Run) -> list[object]:
    return [run.tuning, run.seed, f"{run.replay_share:g}", f"{run.blend:g}"]


def _row(run: Run, line: Comparison) -> list[object]:
    interval = "" if line.low is None else f" ({line.low:+.3f} to {line.high:+.3f})"
    before, after = f"{line.live_mean:.3f}", f"{line.candidate_mean:.3f}"
    change = f"{line.difference:+.3f}{interval}"
    return [*_setup(run), WORDS[line.metric], before, after, change, line.samples]


def _training_row(run: Run) -> list[object]:
    minutes = f"{run.seconds / 60:.0f}"
    return [*_setup(run), run.settings.get("steps", ""), run.schedule, minutes, run.decision]


def _means(runs: Sequence[Run]) -> list[str]:
    """Mean and spread over seeds of the box IoU's change."""
    header = ["tuning", "replay", "blend", "site", "runs"]
    header += ["change of box IoU, mean", "lowest", "highest"]
    rows: list[list[object]] = []
    for setup in sorted({run.setup for run in runs}):
        alike = [run for run in runs if run.setup == setup]
        tuning, replay, blend = setup
        for site in SITES:
            changes = [run.sites[site]["box_iou"].difference for run in alike]
            spread = [f"{value:+.3f}" for value in (np.mean(changes), min(changes), max(changes))]
            same = [tuning, f"{replay:g}", f"{blend:g}"]
            rows.append([*same, SITE_WORDS[site], len(changes), *spread])
    return table_lines(header, rows)


def draw(runs: Sequence[Run], path: Path) -> None:
    """Reward and held-out box IoU over the steps, and box IoU before and after on both sites."""
    from matplotlib.figure import Figure

    from medreasoner_infer.atomic import replacing

    figure = Figure(figsize=(12, 5), layout="constrained")
    reward, iou, sites = figure.subplots(1, 3)
    for run in runs:
        _curve(reward, run, "reward", run.name, REWARD_WINDOW)
        _curve(iou, _evaluated(run), "held_out_iou", run.name)
    reward.set(
        xlabel="optimiser step", ylabel="reward", title=f"Reward, mean of {REWARD_WINDOW} steps"
    )
    iou.set(xlabel="optimiser step", ylabel="box IoU", title="Validation patients, while training")
    _bars(sites, runs)
    figure.legend(*reward.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def _evaluated(run: Run) -> Run:
    """The run with the points of its evaluations only; others repeat the value before."""
    values = [point["held_out_iou"] for point in run.curve]
    changes = (
        point
        for point, last in zip(run.curve, [None, *values], strict=False)
        if point["held_out_iou"] != last
    )
    return replace(run, curve=tuple(changes))


def _curve(axes: Axes, run: Run, key: str, name: str, window: int = 1) -> None:
    """One line; ``window`` steps are averaged."""
    from scipy.ndimage import uniform_filter1d

    points = {point["step"]: point[key] for point in run.curve if point[key] is not None}
    if points:
        values = uniform_filter1d(np.array(list(points.values()), float), min(window, len(points)))
        axes.plot(list(points), values, marker=".", markersize=2, label=name, linewidth=1)


def _bars(axes: Axes, runs: Sequence[Run]) -> None:
    names = [f"{run.tuning}\n{run.seed}\n{run.replay_share:g}\n{run.blend:g}" for run in runs]
    places = np.arange(len(runs))
    for offset, (site, when) in enumerate((s, w) for s in SITES for w in ("before", "after")):
        values = [
            line.live_mean if when == "before" else line.candidate_mean
            for line in (run.sites[site]["box_iou"] for run in runs)
        ]
        axes.bar(places + 0.2 * (offset - 1.5), values, 0.18, label=f"{site}, {when}")
    axes.set_xticks(places, names)
    axes.set(xlabel="tuning, seed, replay, blend", ylabel="box IoU", title="Held-out patients")
    axes.set_ylim(0, 1)
    axes.legend(fontsize="small", ncols=2)
