# SPDX-License-Identifier: Apache-2.0
"""How far the calibrated probability of *not present* holds where the kind of picture tells less.

Run: ``medreasoner models calibrate embedded DATA_SET``, then ``python benchmarks/absence.py
--data FOLDER_OF_PUBLIC_IMAGES``. It prints a JSON line for each part. It asks for what the kind can
show, so that the slice alone decides whether it is there: organs of the public CT volumes, where
they are, and more than ``--apart_mm`` beyond their last section; and targets of synthetic torsos.
The probabilities are those of the calibration that was kept. With ``--rows DATA_SET`` it measures
at last what ``models calibrate`` does, as if no row told the modality of its image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.imaging import choose_window, default_plane
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.reasoners import Reasoner, prepare_image
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import ReasonerRequest
from medreasoner_training.calibrating import Judged, figures, judged_answer, out_of_fold
from medreasoner_training.embedded.end_to_end.cases import MIN_SECTION_PX, real_organs
from medreasoner_training.embedded.phantom.scanner import sample_image
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.embedded.reasoner.modelling import question_by_name
from medreasoner_training.embedded.reasoner.samples import SIZE_PX
from medreasoner_training.embedded.reasoner.targets import visible_targets
from medreasoner_training.embedded.required import command_line
from medreasoner_training.evaluation.judging import judge_rows
from medreasoner_training.evaluation.readers.opening import open_rows
from medreasoner_training.evaluation.rows import RowSource

SEED = 980_000
_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """Command line."""

    model: str = field(default="embedded", metadata={"help": "registry name, or a model folder"})
    rows: str = field(default="", metadata={"help": "data set, as for models calibrate"})
    data: str = field(default="", metadata={"help": "folder with totalsegmentator/"})
    phantoms: int = field(default=300, metadata={"help": "synthetic torsos"})
    each: int = field(default=2, metadata={"help": "targets that are there, and not, of each"})
    every: int = field(default=4, metadata={"help": "slices of a CT between two that are asked"})
    dump: str = field(default="", metadata={"help": "JSON lines of the answers, to be written"})
    apart_mm: float = field(default=15.0, metadata={"help": "from the last section"})


@dataclass(frozen=True)
class Trial:
    """A question about what the picture's kind can show; only whether it is there is judged."""

    request: ReasonerRequest
    is_there: bool


def without_modality(source: RowSource) -> RowSource:
    """The rows, as if nobody told what their images were taken with."""

    def read(places: Sequence[int]) -> Iterator:
        return (replace(row, modality="") for row in source.read(places))

    return replace(source, read=read)


def phantom_trials(settings: Settings, encoding: str) -> Iterator[Trial]:
    """Targets of torsos by name; a section that is too small to be seen is neither."""
    rng = np.random.default_rng(SEED)
    for _ in range(settings.phantoms):
        image = sample_image(rng, SIZE_PX)
        seen, drawn = visible_targets(image.labels), set(np.unique(image.labels))
        absent = [label for label in known_targets() if label not in drawn]
        square = prepare_image(image.grey, encoding)
        for labels, is_there in ((list(seen), True), (absent, False)):
            for at in rng.permutation(len(labels))[: settings.each]:
                query = question_by_name(known_targets()[labels[at]].name)
                yield Trial(ReasonerRequest(square, query, ""), is_there)


def ct_trials(settings: Settings, reasoner: Reasoner) -> Iterator[Trial]:
    """Organs of the public CT volumes by name, where they are, and where they certainly are not."""
    for organ in real_organs(Path(settings.data)):
        volume, plane = organ.volume, default_plane(organ.volume)
        areas = organ.truth_khw.sum(axis=(1, 2))
        far = _far_from(areas > 0, settings.apart_mm / volume.spacing_ijk_mm[2])
        for index in range(0, len(areas), settings.every):
            if areas[index] < MIN_SECTION_PX and not far[index]:
                continue
            window = choose_window(volume)
            shown = DisplayedSlice.of(volume, plane, index, window, model_size=reasoner.input_size)
            request = shown.request(question_by_name(organ.name), reasoner.image_encoding)
            yield Trial(replace(request, image_key=""), bool(areas[index] > 0))


def _far_from(shown: NDArray[np.bool_], slices: float) -> NDArray[np.bool_]:
    at, places = np.flatnonzero(shown), np.arange(len(shown))
    return np.abs(places[:, None] - at[None]).min(1) > slices


def judge(reasoner: Reasoner, trials: Sequence[Trial]) -> list[Judged]:
    """The answers "not present"; each is right where the target is not there."""
    found = []
    for start in range(0, len(trials), _BATCH):
        part = trials[start : start + _BATCH]
        answers = reasoner.answer_batch([trial.request for trial in part])
        for trial, answer in zip(part, answers, strict=True):
            if answer.grounding.outcome == "absent":
                truth = (0.0, 0.0, 1.0, 1.0) if trial.is_there else None
                found.append(judged_answer(answer, None, truth))
    return [each for each in found if each is not None]


def within_kind(answers: Sequence[Judged], trials: Sequence[Trial]) -> dict:
    """Figures of *not present*, and the AUROC of how surely the trace turned to it alone."""
    alone = [replace(each, confidence=each.evidence.turn_log_odds) for each in answers]
    there = sum(trial.is_there for trial in trials)
    line = {"there": there, "not_there": len(trials) - there} | figures(answers)["absent"]
    return line | {"auroc_of_turn": figures(alone)["absent"]["auroc"]}


def parts(settings: Settings, reasoner: Reasoner) -> Iterator[tuple[str, dict]]:
    """Each part's name and figures."""
    trials = {"phantoms": list(phantom_trials(settings, reasoner.image_encoding))}
    if settings.data:
        trials = {"ct": list(ct_trials(settings, reasoner))} | trials
    for name, asked in trials.items():
        answers = judge(reasoner, asked)
        if settings.dump:
            with Path(settings.dump).open("a", encoding="utf-8") as lines:
                lines.writelines(json.dumps({"part": name} | asdict(e)) + "\n" for e in answers)
        yield name, within_kind(answers, asked)
    if settings.rows:
        judged = judge_rows(reasoner, without_modality(open_rows(settings.rows)))
        yield "without_modality", figures(out_of_fold(judged))


def main() -> None:
    """Command line entry point."""
    settings = command_line(Settings)
    reasoner = Pipeline.from_registry(settings.model, device="cpu").reasoner
    for name, found in parts(settings, reasoner):
        print(json.dumps({name: found}), flush=True)


if __name__ == "__main__":
    main()
