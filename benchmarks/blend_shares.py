# SPDX-License-Identifier: Apache-2.0
"""How far a candidate should go from its parent's weights: both sites' scores over the share.

Takes finished runs of ``benchmarks/site_shift.py``, trains nothing, and writes the table::

    python benchmarks/blend_shares.py --runs DIR DIR ...
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from site_experiment import told

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "site_shift.md"
MODULE = "benchmarks/blend_shares.py"
MEASURES = ("box_iou", "absence")


@dataclass(frozen=True)
class Options:
    """Options; every field is a command line option."""

    runs: list[str] = field(metadata={"help": "folders of finished runs of site_shift.py"})
    shares: list[float] = field(default_factory=lambda: [0.4, 0.55, 0.7, 0.85, 1.0])
    threads: int = 1


def rows(run: Path, shares: list[float]) -> Iterator[str]:
    """Lines of the table: the change of each measure at each site, for each share."""
    from medreasoner_training.experiments.site_shift.measuring import compare, load, measure
    from medreasoner_training.experiments.site_shift.report import read_run
    from medreasoner_training.experiments.site_shift.site import SITES
    from medreasoner_training.finetune.blending import blend
    from medreasoner_training.finetune.comparison import load_trained
    from medreasoner_training.finetune.preparation import plan, prepare
    from medreasoner_training.finetune.stage import trained_reasoner
    from monailabel_app.site.paths import HIDDEN_FOLDER
    from monailabel_app.training.folder import TrainingFolder

    finished = read_run(run)
    os.environ["MEDREASONER_HOME"] = str(run / "home")
    folder = TrainingFolder(run / "studies" / "train" / HIDDEN_FOLDER).latest()
    if folder is None:
        raise SystemExit(f"{run} holds no training; run benchmarks/site_shift.py first.")
    prepared = prepare(folder)
    trained = prepared.start
    for stage in plan(prepared):
        trained = trained_reasoner(trained, stage)
    for share in shares:
        model = blend(prepared.start, trained, share, run / "shares" / f"{share:g}")
        reasoner = load_trained(prepared, model)
        cells = [finished.tuning, str(finished.seed), f"{share:g}"]
        for site in SITES:
            after = measure(
                run / f"held-out-{site}", reasoner, segmenter=None, on_scored=told(f"{share:g}")
            )
            lines = compare(load(run / f"before-{site}.npz"), after)
            cells += [f"{lines[name].difference:+.3f}" for name in MEASURES]
        yield "| " + " | ".join(cells) + " |"


def main() -> None:
    """Parse the command line, measure, and write the table into the document."""
    import torch
    from transformers import HfArgumentParser

    from medreasoner_training.embedded.marked_text import write_marked
    from medreasoner_training.experiments.site_shift.report import SITE_WORDS, WORDS
    from medreasoner_training.experiments.site_shift.site import SITES

    (options,) = HfArgumentParser(Options).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    names = [f"{SITE_WORDS[site]}: {WORDS[name]}" for site in SITES for name in MEASURES]
    head = ["tuning", "seed", "blend", *names]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for run in options.runs:
        for line in rows(Path(run).absolute(), options.shares):
            print(line, flush=True)
            lines.append(line)
    write_marked(DOCUMENT, MODULE, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
