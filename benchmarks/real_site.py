# SPDX-License-Identifier: Apache-2.0
"""Fine-tune the shipped reasoner on approved masks of real images by the product's own path.

The data set of ``medreasoner dataset build IMAGES --questions benchmark`` is the site: readers ask
questions of its training rows at a running server and approve the masks, *Train* is pressed, and
the shipped and the trained reasoner answer about other patients. One run, resumable by the same
command::

    python benchmarks/real_site.py --data benchmark --seed 0 --out DIR

The table and the curves of all runs in a folder, and boxes of the first::

    python benchmarks/real_site.py --data benchmark --out DIR --summarise
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from serving import serving

if TYPE_CHECKING:
    from medreasoner_training.evaluation.rows import EvaluationRow, RowSource
    from medreasoner_training.finetune import Progress

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "real_site.md"
CURVES = ROOT / "docs" / "images" / "real_site_curves.png"
BOXES = ROOT / "docs" / "images" / "real_site_boxes.png"
SHOWN_PER_MODALITY, SHOWN_SEED = 4, 0
MODULE = "benchmarks/real_site.py"
CONFIG = "real-site"
SITE, OTHERS = "site", "others"
PART_WORDS = {SITE: "the site's own modalities", OTHERS: "other modalities"}
REWARD_WINDOW = 20
POLL_S = 1.5
_TIMEOUT_S = 300


@dataclass(frozen=True)
class Options:
    """Options; every field is a command line option."""

    out: str = field(default="", metadata={"help": "folder of all runs"})
    data: str = field(default="benchmark", metadata={"help": "the benchmark data set"})
    seed: int = field(default=0, metadata={"help": "of the first training"})
    trainings: int = field(default=3, metadata={"help": "whose mean is the candidate"})
    modalities: list[str] = field(
        default_factory=lambda: ["endoscopy", "ultrasound", "spine MR"],
        metadata={"help": "of the images whose masks are approved"},
    )
    steps: int = field(default=380, metadata={"help": "optimiser steps of GRPO"})
    prompts_per_step: int = 4
    learning_rate: float = 4e-4
    replay_share: float = field(default=0.15, metadata={"help": "of synthetic images"})
    blend: float = field(default=1.0, metadata={"help": "share of the way to the trained weights"})
    min_patients: int = field(default=4, metadata={"help": "that the gate needs for a decision"})
    others: int = field(default=320, metadata={"help": "questions about other modalities"})
    threads: int = 1
    summarise: bool = field(default=False, metadata={"help": "the runs that are in the folder"})


@dataclass(frozen=True, eq=False)
class Approved:
    """A picture, what a reader asks about it, and the masks that the reader approves.

    Attributes:
        image_id: of the picture at the site.
        picture: bytes of a PNG file.
        patient: pseudonym.
        masks: of each target, bool (H, W); one bit of overlap goes to the last.
        question: about the first of them.
    """

    image_id: str
    picture: bytes
    patient: str
    masks: dict[str, np.ndarray]
    question: str


def run(options: Options) -> None:
    """One run: approve, train, measure; what is done already is not done again."""
    out = Path(options.out).absolute()
    folder = out / f"seed-{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    keep_settings(
        folder, {k: v for k, v in asdict(options).items() if k not in ("out", "summarise")}
    )
    # The run's own store: what it promotes answers nowhere else.
    os.environ["MEDREASONER_HOME"] = str(folder / "home")
    sources = held_out(options)
    for name, source in sources.items():
        measure(source, None, out / f"before-{name}")
    last = train(folder, approved(options), options)
    print(f"{last.state.value}: {last.message}", flush=True)
    if last.candidate is None:
        raise SystemExit("The run is not finished; start the same command again.")
    for name, source in sources.items():
        measure(source, last.candidate, folder / f"after-{name}")
    (folder / "result.json").write_text(json.dumps(result(out, folder, last), indent=2) + "\n")
    print((folder / "result.json").read_text(), flush=True)


def approved(options: Options) -> list[Approved]:
    """The pictures of the training rows, with all their targets."""
    from medreasoner_training.evaluation import open_rows

    source = open_rows(options.data, split="train")
    by_picture: dict[str, list[EvaluationRow]] = defaultdict(list)
    for row in source.read(range(source.count)):
        if row.modality in options.modalities and row.ground_truth != "null":
            by_picture[hashlib.sha256(row.image).hexdigest()].append(row)
    return [_approved(key[:12], rows) for key, rows in sorted(by_picture.items())]


def _approved(image_id: str, rows: list[EvaluationRow]) -> Approved:
    asked = next((row for row in rows if row.kind == "implicit"), rows[0])
    masks = {asked.category: _mask(asked)} | {row.category: _mask(row) for row in rows}
    return Approved(image_id, asked.image, asked.patient, masks, asked.question)


def _mask(row: EvaluationRow) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(row.mask)) as image:
        return np.asarray(image.convert("L")) > 127


def held_out(options: Options) -> dict[str, RowSource]:
    """Questions of the test rows: about the site's modalities, and as many about others."""
    from medreasoner_training.evaluation import open_rows
    from medreasoner_training.evaluation.running import places_of

    source = open_rows(options.data)
    rows = list(source.read(range(source.count)))
    ours = [row for row in rows if row.modality in options.modalities]
    others = [row for row in rows if row.modality not in options.modalities]
    others = [others[place] for place in places_of(len(others), options.others)]
    return {
        name: source.of_list(
            name, source.split, f"{source.fingerprint}:{name}:{len(part)}", part, source.splits
        )
        for name, part in ((SITE, ours), (OTHERS, others))
    }


def measure(source: RowSource, candidate: str | None, folder: Path) -> None:
    """Evaluate the shipped reasoner, or a candidate, unless that is done already."""
    from medreasoner_infer.models.registry import resolve_model
    from medreasoner_infer.models.store import ReasonerStore
    from medreasoner_infer.segmenters import load_sam2
    from medreasoner_training.evaluation import Measuring, Run, RunSettings, evaluate
    from medreasoner_training.experiments.site_shift.measuring import served
    from medreasoner_training.gate import GateConfig

    if not (folder / "report.json").is_file():
        segmenter = load_sam2(resolve_model("segmenter", "embedded"))
        settings = RunSettings(measuring=Measuring(parts=False, true_prompts=False))
        evaluate(
            Run(source, served(candidate, ReasonerStore()), segmenter, settings, folder),
            GateConfig(),
            told(folder.name),
        )


def train(folder: Path, site: list[Approved], options: Options) -> Progress:
    """Readers ask and approve, then *Train* is pressed; an unfinished run is resumed."""
    from medreasoner_infer.atomic import write_durably
    from monailabel_app.site.paths import HIDDEN_FOLDER
    from monailabel_app.training.folder import TrainingFolder
    from monailabel_app.training.options import known_configs, named_config, overridden

    studies = folder / "studies"
    training = TrainingFolder(studies / HIDDEN_FOLDER)
    finished = training.progress()
    if finished is not None and finished.candidate is not None:
        return finished
    write_site(studies, site)
    config = overridden(named_config("embedded", known_configs()), overrides(options))
    configs = folder / "configs"
    configs.mkdir(exist_ok=True)
    write_durably(configs / f"{CONFIG}.yaml", json.dumps(config.to_dict()))
    arguments = ["--studies", str(studies), "--train-configs", str(configs)]
    with serving(folder / "home", *arguments) as url:
        if not (folder / "approved").is_file():
            ask_and_approve(url, site)
            (folder / "approved").touch()
        follow(url, {"config": CONFIG}, folder / "curve.jsonl")
    last = training.progress()
    if last is None:
        raise SystemExit(f"The server started no training; see {folder / 'home' / 'log'}.")
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


def write_site(studies: Path, site: list[Approved]) -> None:
    """The pictures as files, and whose they are."""
    studies.mkdir(exist_ok=True)
    for case in site:
        (studies / f"{case.image_id}.png").write_bytes(case.picture)
    lines = ["image,patient", *(f"{case.image_id},{case.patient}" for case in site)]
    (studies / "patients.csv").write_text("\n".join(lines) + "\n")


def ask_and_approve(url: str, site: list[Approved]) -> None:
    """As readers do: the question, then the true masks in place of the answer's."""
    import nibabel

    for case in site:
        asked = httpx.post(
            f"{url}/infer/medreasoner",
            params={"image": case.image_id, "output": "json"},
            data={"params": json.dumps({"query": case.question})},
            timeout=_TIMEOUT_S,
        )
        asked.raise_for_status()
        names = list(case.masks)
        labels = np.zeros(case.masks[names[0]].shape, np.uint8)
        for value, name in enumerate(names, start=1):
            labels[case.masks[name]] = value
        info = {
            "inference_id": asked.json()["inference_id"],
            "label_info": [{"name": name, "idx": at} for at, name in enumerate(names, start=1)],
        }
        # Columns are I, as in a picture that is read as an image of one slice.
        content = nibabel.Nifti1Image(labels.T[..., None], np.eye(4)).to_bytes()
        httpx.put(
            f"{url}/datastore/label",
            params={"image": case.image_id, "tag": "final"},
            data={"params": json.dumps(info)},
            files={"label": ("label.nii", content)},
            timeout=_TIMEOUT_S,
        ).raise_for_status()
    print(f"approved {sum(len(case.masks) for case in site)} masks of {len(site)} pictures")


def overrides(options: Options) -> dict[str, Any]:
    """What differs from the shipped settings of the embedded reasoner."""
    return {
        "grpo.steps": options.steps,
        "grpo.prompts_per_step": options.prompts_per_step,
        "grpo.learning_rate": options.learning_rate,
        "run.seed": options.seed,
        "run.trainings": options.trainings,
        "gate.min_patients": options.min_patients,
        "promotion.blend": options.blend,
        "data.replay": "phantoms" if options.replay_share else None,
        "data.replay_share": options.replay_share,
    }


def result(out: Path, folder: Path, last: Progress) -> dict[str, Any]:
    """The comparisons of both parts, with how the run ended."""
    from medreasoner_training.evaluation import compare_reports
    from medreasoner_training.gate import GateConfig

    found: dict[str, Any] = {"decision": last.state.value, "seconds": last.seconds_elapsed}
    for name in (SITE, OTHERS):
        compared = compare_reports(out / f"before-{name}", folder / f"after-{name}", GateConfig())
        found[name] = [asdict(line) for line in compared.overall]
    return found


def summarise(options: Options) -> None:
    """Write table, curves and boxes of the finished runs into the document."""
    from medreasoner_training.embedded.marked_text import write_marked

    out = Path(options.out)
    runs = {path.parent.name.replace("-", " "): path for path in sorted(out.glob("*/result.json"))}
    results = {name: json.loads(path.read_text()) for name, path in runs.items()}
    draw_curves({name: path.with_name("curve.jsonl") for name, path in runs.items()})
    first = next(iter(runs.values())).parent
    draw_boxes(held_out(options)[SITE], out / f"before-{SITE}", first / f"after-{SITE}")
    body = "\n".join([*table(results), "", *by_modality(out, list(runs.values()))])
    pictures = f"![Curves](images/{CURVES.name})\n\n![Boxes](images/{BOXES.name})\n"
    write_marked(DOCUMENT, MODULE, f"{body}\n\n{pictures}")
    print(body)


def table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each run, part and measure."""
    from medreasoner_training.evaluation.summary import WORDS
    from medreasoner_training.markdown import table_lines

    rows = [
        [
            name,
            PART_WORDS[part],
            WORDS[line["metric"]],
            f"{line['live_mean']:.3f}",
            f"{line['candidate_mean']:.3f}",
            f"{line['difference']:+.3f} ({line['low']:+.3f} to {line['high']:+.3f})",
            f"{line['samples']} of {line['patients']}",
        ]
        for part in (SITE, OTHERS)
        for name, result in results.items()
        for line in result[part]
        if line["metric"] in ("box_iou", "dice")
    ]
    rows += [
        [name, "", f"{result['seconds'] / 60:.0f} minutes", "", "", result["decision"], ""]
        for name, result in results.items()
    ]
    header = ["run", "questions about", "measure", "before", "after", "difference", "questions"]
    return table_lines([*header[:-1], "questions, patients"], rows)


def by_modality(out: Path, results: list[Path]) -> list[str]:
    """Mean box IoU of each modality before, and after as the mean of the runs."""
    from medreasoner_training.markdown import table_lines

    rows = []
    for part in (SITE, OTHERS):
        before = _means(out / f"before-{part}")
        after = [_means(path.parent / f"after-{part}") for path in results]
        for modality, (mean, count) in sorted(before.items()):
            runs = [each[modality][0] for each in after]
            spread = f"{np.mean(runs):.3f} ({min(runs):.3f} to {max(runs):.3f})"
            rows.append([modality, PART_WORDS[part], f"{mean:.3f}", spread, count])
    return table_lines(["box IoU", "among", "before", "after, mean and range", "questions"], rows)


def _means(folder: Path) -> dict[str, tuple[float, int]]:
    from medreasoner_training.evaluation.predictions import PREDICTIONS_NAME, read_predictions

    found: dict[str, list[float]] = defaultdict(list)
    for prediction in read_predictions(folder / PREDICTIONS_NAME):
        if prediction.target_present:
            found[prediction.modality].append(prediction.box_iou or 0.0)
    return {modality: (float(np.mean(ious)), len(ious)) for modality, ious in found.items()}


def draw_curves(paths: Mapping[str, Path]) -> None:
    """Reward and box IoU of the validation patients over the steps."""
    from matplotlib.figure import Figure
    from scipy.ndimage import uniform_filter1d

    from medreasoner_infer.atomic import replacing

    figure = Figure(figsize=(10, 4), layout="constrained")
    reward, held_out = figure.subplots(1, 2)
    for name, path in paths.items():
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        points = {line["step"]: line for line in lines if line["step"]}
        known = {
            step: line["reward"] for step, line in points.items() if line["reward"] is not None
        }
        values = uniform_filter1d(np.array(list(known.values()), float), REWARD_WINDOW)
        reward.plot(list(known), values, label=name)
        ious = {step: line["held_out_iou"] for step, line in points.items()}
        ious = {step: value for step, value in ious.items() if value is not None}
        held_out.plot(list(ious), list(ious.values()), label=name)
    reward.set(xlabel="optimiser step", title=f"Reward, mean of {REWARD_WINDOW} steps")
    held_out.set(xlabel="optimiser step", title="Box IoU, validation patients of the site")
    reward.legend()
    with replacing(CURVES) as unfinished:
        figure.savefig(unfinished, dpi=110)


def draw_boxes(source: RowSource, before: Path, after: Path) -> None:
    """True masks and both boxes of a few questions of each modality, drawn by chance.

    The pictures themselves are not shown: not every licence would let them.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from medreasoner_infer.atomic import replacing
    from medreasoner_training.evaluation.predictions import PREDICTIONS_NAME, read_predictions

    found = [
        {each.id: each for each in read_predictions(folder / PREDICTIONS_NAME)}
        for folder in (before, after)
    ]
    by_modality: dict[str, list[EvaluationRow]] = defaultdict(list)
    for row in source.read(range(source.count)):
        if row.mask is not None and row.ground_truth != "null":
            by_modality[row.modality].append(row)
    figure = Figure(figsize=(11, 3 * len(by_modality)), layout="constrained")
    axes = figure.subplots(len(by_modality), SHOWN_PER_MODALITY)
    rng = np.random.default_rng(SHOWN_SEED)
    for line, (modality, rows) in zip(axes, sorted(by_modality.items()), strict=True):
        for axis, at in zip(line, rng.permutation(len(rows))[:SHOWN_PER_MODALITY], strict=True):
            row, told = rows[at], []
            axis.imshow(_mask(row), cmap="Greys", vmax=2)
            for colour, style, predictions in zip(("C3", "C2"), ("--", "-"), found, strict=True):
                prediction = predictions[row.id]
                told.append(f"{prediction.box_iou or 0.0:.2f}")
                if prediction.bbox is not None:
                    x1, y1, x2, y2 = prediction.bbox
                    box = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=colour, ls=style)
                    axis.add_patch(box)
            axis.set(title=f"{modality}: {' to '.join(told)}", xticks=[], yticks=[])
    with replacing(BOXES) as unfinished:
        figure.savefig(unfinished, dpi=90)


def keep_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """A resumed run goes on with the settings that it was begun with.

    Raises:
        SystemExit: ``folder`` holds a run with other ones.
    """
    path = folder / "options.json"
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{folder} holds a run with other options: {path.read_text()}")
    path.write_text(json.dumps(settings))


def told(what: str) -> Callable[[int, int], None]:
    """Prints every tenth of the way."""

    def tell(done: int, total: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            print(f"{what}: {done} of {total}", flush=True)

    return tell


def main() -> None:
    """Parse the command line and run."""
    import torch
    from transformers import HfArgumentParser

    (options,) = HfArgumentParser(Options).parse_args_into_dataclasses()
    torch.set_num_threads(options.threads)
    if not options.out:
        sys.exit("Give --out DIR.")
    summarise(options) if options.summarise else run(options)


if __name__ == "__main__":
    main()
