# SPDX-License-Identifier: Apache-2.0
"""Training and measuring the arms one after the other; what is done already is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

from medreasoner_infer.atomic import write_durably
from medreasoner_infer.models.loading import load_reasoner, load_segmenter
from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.models.store import ReasonerStore, load_candidate
from medreasoner_infer.reasoners import Reasoner
from medreasoner_training.ablations.config import (
    UNTOUCHED,
    AblationConfig,
    arm_config,
    recorded_ablation,
)
from medreasoner_training.ablations.errors import AblationConfigError, ArmUnfinishedError
from medreasoner_training.evaluation import (
    Measuring,
    Prediction,
    Run,
    RunSettings,
    open_rows,
)
from medreasoner_training.evaluation.protocols import require_asked
from medreasoner_training.evaluation.rows import RowSource
from medreasoner_training.evaluation.running import OnAnswered, predict
from medreasoner_training.finetune import CONFIG_FILE, Progress, State
from medreasoner_training.finetune.tunable import locate_reasoner
from medreasoner_training.learning import LearningSettings, learning_set, require_same_data
from medreasoner_training.samples import open_dataset

CONFIG_RECORD, DATA_FOLDER, STORE_FOLDER = "ablation.json", "dataset", "store"
Train = Callable[[Path], Progress]
OnArm = Callable[[str], OnAnswered]


@dataclass(frozen=True)
class Ablation:
    """An ablation in its folder.

    Attributes:
        config: what is compared.
        origin: folder of the configuration's file, from which its paths count.
        out: folder of everything that is made.
        device: of the measurement.
    """

    config: AblationConfig
    origin: Path
    out: Path
    device: str = "auto"

    @property
    def data(self) -> str:
        """The data set; a name that is no path beside the file is passed on as it is."""
        beside = self.origin / Path(self.config.data).expanduser()
        return str(beside) if beside.exists() else self.config.data

    @property
    def questions(self) -> Path | None:
        """The table of questions, if there is one."""
        table = self.config.questions
        return None if table is None else self.origin / table

    def run_folder(self, arm: str, seed: int) -> Path:
        """Of the training of an arm."""
        return self.out / f"{arm}-seed{seed}"

    def report_folder(self, arm: str, seed: int | None) -> Path:
        """Of the answers of an arm; the untouched model has no seed."""
        return self.out / (f"{arm}-answers" if seed is None else f"{arm}-seed{seed}-answers")


def run_ablation(
    ablation: Ablation, train: Train, on_arm: OnArm
) -> dict[str, list[list[Prediction]]]:
    """Carry out what is still to be done; the predictions of each arm, one list for each seed.

    Args:
        ablation: what and where.
        train: carries out or resumes the training in a run's folder.
        on_arm: is told what begins, and gives what is told (questions done, all questions).

    Raises:
        AblationConfigError: the folder holds another ablation.
        EvaluationRunError: no test question is of a held-out super-category.
        ArmUnfinishedError: a training failed or was stopped; the same call goes on.
        MedReasonerError: data or models cannot be used.
    """
    _require_held_out(ablation)
    _require_same(ablation)
    _make_learning_set(ablation, on_arm)
    config, device = ablation.config, ablation.device
    start = resolve_model("reasoner", config.start)
    answers = {
        UNTOUCHED: [
            _answers(
                ablation, UNTOUCHED, None, partial(load_reasoner, start, device=device), on_arm
            )
        ]
    }
    for arm, seed in _trainings(config):
        _train(ablation, arm, seed, train, on_arm)
        store = ReasonerStore(ablation.run_folder(arm, seed) / STORE_FOLDER)
        trained = partial(load_candidate, store, store.candidate(arm), device=device)
        answers.setdefault(arm, []).append(_answers(ablation, arm, seed, trained, on_arm))
    return answers


def _trainings(config: AblationConfig) -> Iterator[tuple[str, int]]:
    return ((arm, seed) for seed in config.seeds for arm in config.arms)


def _require_held_out(ablation: Ablation) -> None:
    """Refuse a super-category that no test question is of: a mistyped one would be learnt from."""
    config = ablation.config
    if config.held_out_super_categories:
        held_out = config.held_out_super_categories
        require_asked(_test_rows(ablation), config.limit, held_out, whose="test split")


def _test_rows(ablation: Ablation) -> RowSource:
    split = ablation.config.test_split or "test"
    return open_rows(ablation.data, questions=ablation.questions, split=split)


def _require_same(ablation: Ablation) -> None:
    """Refuse a folder of another ablation; arms and seeds may be added to what is there."""
    path, now = ablation.out / CONFIG_RECORD, ablation.config
    ablation.out.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        before = recorded_ablation(path.read_bytes())
        kept = {
            "arms": all(now.arms.get(name) == arm for name, arm in before.arms.items()),
            "seeds": set(before.seeds) <= set(now.seeds),
        }
        refused = [
            each.name
            for each in fields(now)
            if getattr(before, each.name) != getattr(now, each.name)
            and not kept.get(each.name, False)
        ]
        if refused:
            raise AblationConfigError(
                f"The folder holds an ablation with other {' and '.join(refused)}. Restore the "
                "file, or give a new folder; arms and seeds may be added."
            )
    elif any(ablation.out.iterdir()):
        raise AblationConfigError(
            "The output folder holds something that is no ablation. Give a new folder."
        )
    write_durably(path, json.dumps(asdict(now), indent=1) + "\n")


def _make_learning_set(ablation: Ablation, on_arm: OnArm) -> None:
    out, config = ablation.out / DATA_FOLDER, ablation.config
    any_arm = arm_config(
        config, next(iter(config.arms)), config.seeds[0], ablation.origin, f"../{DATA_FOLDER}"
    )
    start = locate_reasoner(any_arm.model, ReasonerStore(ablation.out / STORE_FOLDER))
    settings = LearningSettings(
        start.settings.input_size,
        config.val_share,
        config.train_split,
        config.held_out_super_categories,
    )
    if out.is_dir():
        require_same_data(open_dataset(out), ablation.data, settings, ablation.questions)
        return
    learning_set(
        ablation.data, out, settings, questions=ablation.questions, on_row=on_arm("learning set")
    )


def _train(ablation: Ablation, arm: str, seed: int, train: Train, on_arm: OnArm) -> None:
    run = ablation.run_folder(arm, seed)
    if arm in ReasonerStore(run / STORE_FOLDER).names():
        return
    on_arm(f"{run.name}, training")
    run.mkdir(exist_ok=True)
    config = arm_config(ablation.config, arm, seed, ablation.origin, f"../{DATA_FOLDER}")
    write_durably(run / CONFIG_FILE, config.to_yaml())
    ended = train(run)
    if ended.state is not State.FINISHED:
        raise ArmUnfinishedError(
            f"The training of {run.name} has {ended.state.value}: {ended.message} The same command "
            "goes on with it once nothing is in its way; other settings want a new folder."
        )


def _answers(
    ablation: Ablation,
    arm: str,
    seed: int | None,
    load: Callable[[], Reasoner],
    on_arm: OnArm,
) -> list[Prediction]:
    config, folder = ablation.config, ablation.report_folder(arm, seed)
    source = _test_rows(ablation)
    segmenter = load_segmenter(resolve_model("segmenter", config.segmenter), device=ablation.device)
    settings = RunSettings(config.limit, measuring=Measuring(parts=False, true_prompts=False))
    return predict(Run(source, load(), segmenter, settings, folder), on_arm(folder.name))
