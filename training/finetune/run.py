# SPDX-License-Identifier: Apache-2.0
"""A whole run: train a candidate, compare it with the live reasoner, promote or refuse it.

Each stage leaves a folder or file that the next one starts from, so that the same command resumes
a run wherever it ended.
"""

from __future__ import annotations

import gc
from enum import IntEnum
from pathlib import Path

from medreasoner_infer.errors import MedReasonerError
from medreasoner_training.finetune.blending import blend
from medreasoner_training.finetune.comparison import compare_with_live, finish_candidate
from medreasoner_training.finetune.failures import typed_faults
from medreasoner_training.finetune.preparation import Prepared, plan, prepare
from medreasoner_training.finetune.progress import State, clear_stop
from medreasoner_training.finetune.progress_writer import ProgressWriter
from medreasoner_training.finetune.stage import Stage, is_main_process, trained_reasoner
from medreasoner_training.finetune.tunable import TunableReasoner


class ExitCode(IntEnum):
    """What the command ends with; 2 is the shell's own code of a wrong command line."""

    OK = 0
    FAILED = 1
    REFUSED = 3
    STOPPED = 4


def run(run_dir: Path) -> ExitCode:
    """Carry out or resume the run whose ``config.yaml`` lies in ``run_dir``.

    Every end is written into ``progress.json``; a failure leaves the last good checkpoint and the
    live model as they are.
    """
    progress = ProgressWriter(run_dir, is_main_process())
    try:
        with typed_faults(run_dir):
            return _run(run_dir, progress)
    except MedReasonerError as error:
        progress.report(State.FAILED, str(error), seconds_left=None)
        return ExitCode.FAILED
    except BaseException as error:
        kind = type(error).__name__
        progress.report(State.FAILED, f"The run ended unexpectedly ({kind}); see its log.")
        raise


def _run(run_dir: Path, progress: ProgressWriter) -> ExitCode:
    progress.report(State.PREPARING, "Checking settings, data and model.")
    clear_stop(run_dir)
    prepared = prepare(run_dir)
    trainings = plan(prepared)
    progress.report(
        State.PREPARING,
        f"{prepared.power.sentence} Loading the model.",
        total_steps=sum(stage.steps for stages in trainings for stage in stages),
    )
    trained = []
    for number, stages in enumerate(trainings):
        ended_with = _trained(prepared.for_training(number), stages, progress)
        if ended_with is None:
            progress.report(State.STOPPED, "Stopped on request; the same command resumes the run.")
            return ExitCode.STOPPED
        trained.append(ended_with)
    if not is_main_process():
        return ExitCode.OK
    share = prepared.config.promotion.blend
    if share < 1 or len(trained) > 1:
        progress.report(State.COMPARING, "Taking the mean of the weights.", seconds_left=None)
    blended = blend(prepared.start, trained, share, run_dir / "blended")
    return _judge(prepared, blended, progress)


def _trained(
    prepared: Prepared, stages: tuple[Stage, ...], progress: ProgressWriter
) -> TunableReasoner | None:
    """What one training ends with; ``None`` if it was stopped before."""
    trained = prepared.start
    for stage in stages:
        if not stage.model_folder.is_dir() and not _train(prepared, stage, trained, progress):
            return None
        trained = trained_reasoner(trained, stage)
    return trained


def _train(
    prepared: Prepared, stage: Stage, start: TunableReasoner, progress: ProgressWriter
) -> bool:
    from medreasoner_training.finetune.training import train_stage

    done = train_stage(prepared, stage, start, progress)
    free_memory()
    return done


def free_memory() -> None:
    """Let go of a trainer and its model, which refer to each other; scoring needs their memory."""
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    gc.collect()
    torch.cuda.empty_cache()
    unset_hf_deepspeed_config()  # while it is set, models are loaded in shards


def _judge(prepared: Prepared, candidate: TunableReasoner, progress: ProgressWriter) -> ExitCode:
    progress.report(State.COMPARING, "Comparing with the live reasoner.", seconds_left=None)
    report = compare_with_live(prepared, candidate, progress)
    name = finish_candidate(prepared, candidate, report)
    verdict = " ".join(reason.sentence for reason in report.reasons if not reason.passed)
    if not prepared.config.promotion.promote:
        told = verdict or "The gate would promote it."
        progress.report(State.FINISHED, f"{name} was compared only. {told}", candidate=name)
        return ExitCode.OK
    if not report.promote:
        progress.report(State.REFUSED, f"{name} was refused. {verdict}", candidate=name)
        return ExitCode.REFUSED
    progress.report(State.PROMOTED, f"{name} is live.", candidate=name)
    return ExitCode.OK
