# SPDX-License-Identifier: Apache-2.0
"""A whole training at a site with a trainer that is not the real one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("datasets")

from medreasoner_infer.errors import InputError
from medreasoner_training.finetune import State, config_from_dict, read_config
from medreasoner_training.samples import NoSamplesError, TooFewPatientsError, open_dataset
from monailabel_app.training import site as site_module
from monailabel_app.training.errors import (
    TooFewHeldOutError,
    TrainerFailedError,
    TrainingRunsError,
    TrainingStoppedError,
)
from monailabel_app.training.folder import INTERRUPTED, TrainingFolder, last_training
from monailabel_app.training.options import TrainOptions, overridden
from monailabel_app.training.processes import ProcessMark
from monailabel_app.training.site import SiteTraining
from monailabel_app.training.stopping import stop_training

FAKE = Path(__file__).with_name("fake_trainer.py")
WAIT_S = 60
OPTIONS = TrainOptions(
    "small", config_from_dict({"gate": {"min_patients": 2}}), val_share=0.5, max_slices=2
)


def write_studies(folder: Path, patients: int = 4) -> Path:
    """A volume with an approved liver for each patient, as MONAI Label's datastore keeps them."""
    (folder / "labels" / "final").mkdir(parents=True)
    rng = np.random.default_rng(3)
    objects = {}
    for number in range(patients):
        affine = np.diag([-4.0, -4.0, 10.0, 1.0])
        hu = rng.integers(-100, 150, (32, 32, 6)).astype(np.int16)
        label = np.zeros(hu.shape, np.uint8)
        label[6:26, 8:20, 1:4] = 1
        for path, array in ((folder, hu), (folder / "labels" / "final", label)):
            nibabel.save(nibabel.Nifti1Image(array, affine), path / f"p{number}.nii.gz")
        objects[f"p{number}"] = {
            "image": {"ext": ".nii.gz", "info": {"Modality": "CT"}},
            "labels": {"final": {"ext": ".nii.gz", "info": {"label_names": {"liver": 1}}}},
        }
    store = {"name": "", "description": "", "images_dir": ".", "objects": objects}
    (folder / "datastore_v2.json").write_text(json.dumps(store))
    # A fixed salt: who validates then does not depend on chance.
    data_dir = folder / ".medreasoner"
    data_dir.mkdir()
    (data_dir / "export.salt").write_bytes(bytes(range(32)))
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))


@pytest.fixture
def studies(tmp_path) -> Path:
    return write_studies(tmp_path / "studies")


def training(studies: Path, mode: str) -> SiteTraining:
    folder = TrainingFolder(studies / ".medreasoner")
    return SiteTraining(str(studies), folder, [sys.executable, str(FAKE), mode])


def nobody(_: object) -> None:
    pass


def starts(run: Path) -> list[str]:
    return [line.split()[1] for line in (run / "starts").read_text().splitlines()]


def until(condition) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_the_trainer_gets_the_exported_samples_and_its_words_are_passed_on(studies):
    site, told = training(studies, "promotes"), []
    last = site.train(OPTIONS, told.append)
    run = site.folder.latest()
    assert (last.state, last.candidate) == (State.PROMOTED, "site-1")
    assert site.folder.progress() == last
    assert told[-1] == last
    assert State.TRAINING in [progress.state for progress in told]
    config = read_config(run / "config.yaml")
    assert replace(config, data=OPTIONS.config.data) == OPTIONS.config
    data_set = open_dataset(run / config.data.folder)
    assert {s.patients for s in data_set.manifest.splits.values()} == {2}
    assert data_set.manifest.settings["model_size"] == 128
    assert not (site.folder.root / "lock.json").exists()
    assert last_training().latest() == run


@pytest.mark.parametrize(
    ("mode", "sentence"),
    [
        ("crash", "No module named 'trl'"),
        ("gpu", "The memory of the GPU ran out"),
        ("disk", "The disk is full"),
        ("killed", "The trainer was killed, most likely because memory ran out"),
        ("fails", "The loss became NaN."),
    ],
)
def test_every_fault_of_the_trainer_ends_in_a_sentence(studies, mode, sentence):
    site = training(studies, mode)
    last = site.train(OPTIONS, nobody)
    assert last.state is State.FAILED
    assert sentence in last.message
    assert site.folder.progress() == last


def test_an_unfinished_run_is_resumed_and_a_decided_one_is_not(studies):
    training(studies, "killed").train(OPTIONS, nobody)
    site = training(studies, "promotes")
    run = site.folder.latest()
    site.train(OPTIONS, nobody)
    assert site.folder.latest() == run
    assert starts(run) == ["new", "resumed"]
    site.train(OPTIONS, nobody)
    assert site.folder.latest().name == f"{run.name}-r2"
    assert len(list(site.folder.datasets.iterdir())) == 1


@pytest.mark.parametrize("change", ["fresh", "options", "data"])
def test_a_fresh_start_and_other_options_or_data_make_a_new_run(studies, change):
    site = training(studies, "killed")
    site.train(OPTIONS, nobody)
    run, options = site.folder.latest(), OPTIONS
    if change == "fresh":
        options = replace(OPTIONS, fresh=True)
    elif change == "options":
        options = replace(OPTIONS, config=overridden(OPTIONS.config, {"grpo.steps": 9}))
    else:
        label = studies / "labels" / "final" / "p1.nii.gz"
        values = np.zeros((32, 32, 6), np.uint8)
        values[3:20, 3:20, 2:5] = 1
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-4.0, -4.0, 10.0, 1.0])), label)
    site.train(options, nobody)
    assert site.folder.latest() != run
    assert starts(site.folder.latest()) == ["new"]


def test_a_second_training_is_refused_and_a_stop_reaches_every_process(studies):
    site, ends = training(studies, "waits"), []
    thread = threading.Thread(target=lambda: ends.append(site.train(OPTIONS, nobody)))
    thread.start()
    until(lambda: (holder := site.folder.lock.holder()) and (holder.folder / "worker").exists())
    run = site.folder.latest()
    with pytest.raises(TrainingRunsError, match="one runs at a time"):
        training(studies, "promotes").train(OPTIONS, nobody)
    assert site.folder.progress().state is State.TRAINING
    asking = threading.Thread(target=stop_training, args=(site.folder,))
    asking.start()
    thread.join(WAIT_S)
    asking.join(WAIT_S)
    assert ends[0].state is State.STOPPED
    # Its parent is gone before it; whoever inherits it may take a moment to reap it.
    until(lambda: not psutil.pid_exists(int((run / "worker").read_text())))
    assert starts(run) == ["new"]
    training(studies, "promotes").train(OPTIONS, nobody)
    assert starts(run) == ["new", "resumed"]


def test_a_run_that_ran_out_of_memory_goes_on_with_smaller_steps(studies):
    training(studies, "gpu").train(OPTIONS, nobody)
    site = training(studies, "promotes")
    run = site.folder.latest()
    smaller = overridden(OPTIONS.config, {"grpo.micro_batch": 8, "sft.micro_batch": 2,
                                          "run.gradient_checkpointing": True})  # fmt: skip
    site.train(replace(OPTIONS, config=smaller), nobody)
    assert site.folder.latest() == run
    assert read_config(run / "config.yaml").grpo.micro_batch == 8


SUPERVISOR = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_train_site import OPTIONS, nobody, training
training(Path(sys.argv[2]), sys.argv[3]).train(OPTIONS, nobody)
"""


def supervised_elsewhere(studies: Path, mode: str) -> tuple[subprocess.Popen, SiteTraining]:
    """A training that another process supervises, once its trainer and worker run."""
    command = [sys.executable, "-c", SUPERVISOR, str(FAKE.parent), str(studies), mode]
    process = subprocess.Popen(command)
    site = training(studies, mode)
    until(lambda: (holder := site.folder.lock.holder()) and (holder.folder / "worker").exists())
    return process, site


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["waits", "stubborn"])
def test_a_trainer_that_outlives_its_killed_server_keeps_the_lock_until_it_is_stopped(
    studies, mode
):
    process, site = supervised_elsewhere(studies, mode)
    process.kill()
    process.wait()
    run = site.folder.latest()
    assert site.folder.progress().state is State.TRAINING
    with pytest.raises(TrainingRunsError):
        training(studies, "promotes").train(OPTIONS, nobody)
    stop_training(site.folder, grace_s=WAIT_S if mode == "waits" else 0.0)
    assert site.folder.progress().state is State.STOPPED
    pids = [int((run / "starts").read_text().split()[0]), int((run / "worker").read_text())]
    until(lambda: not any(map(running, pids)))
    assert training(studies, "promotes").train(OPTIONS, nobody).state is State.PROMOTED
    assert starts(run) == ["new", "resumed"]


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_lock_whose_processes_were_killed_is_taken_over(studies):
    process, site = supervised_elsewhere(studies, "stubborn")
    run = site.folder.latest()
    trainer, worker = (run / "starts").read_text().split()[0], (run / "worker").read_text()
    for pid in (process.pid, int(trainer), int(worker)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    until(lambda: site.folder.lock.holder() is None)
    assert (site.folder.root / "lock.json").exists()
    interrupted = site.folder.progress()
    assert (interrupted.state, interrupted.message) == (State.FAILED, INTERRUPTED)
    assert interrupted.step == 3
    assert training(studies, "promotes").train(OPTIONS, nobody).state is State.PROMOTED
    assert site.folder.latest() == run


def test_another_process_of_the_same_id_does_not_hold_the_lock(studies):
    site = training(studies, "promotes")
    site.folder.root.mkdir(parents=True)
    mark = {"pid": os.getpid(), "started_at_s": psutil.Process().create_time() - 3600}
    text = json.dumps({"folder": "/nowhere", "processes": [mark]})
    (site.folder.root / "lock.json").write_text(text)
    assert site.folder.lock.holder() is None
    assert site.train(OPTIONS, nobody).state is State.PROMOTED


def test_too_few_labels_are_told_before_anything_is_trained(tmp_path):
    one = training(write_studies(tmp_path / "one", patients=1), "promotes")
    with pytest.raises(TooFewPatientsError, match=r"1 patient\(s\)") as refused:
        one.train(OPTIONS, nobody)
    assert one.folder.progress().state is State.FAILED
    assert one.folder.progress().message == str(refused.value)
    none = training(write_studies(tmp_path / "none", patients=0), "promotes")
    with pytest.raises((TooFewPatientsError, NoSamplesError)):
        none.train(OPTIONS, nobody)
    few = training(write_studies(tmp_path / "few"), "promotes")
    strict = replace(OPTIONS, config=config_from_dict({}))
    with pytest.raises(TooFewHeldOutError, match=r"hold out 2 patient\(s\); the gate needs 20"):
        few.train(strict, nobody)


def test_a_full_disk_is_a_sentence_and_loses_nothing(studies, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    site = training(studies, "promotes")
    with monkeypatch.context() as patch:
        patch.setattr(site_module, "export_data_set", full)
        with pytest.raises(TrainerFailedError, match="disk is full"):
            site.train(OPTIONS, nobody)
    assert "disk is full" in site.folder.progress().message
    assert site.train(OPTIONS, nobody).state is State.PROMOTED


def test_a_stop_before_the_trainer_starts_is_obeyed(studies):
    site = training(studies, "promotes")

    def stop_at_once(_: object) -> None:
        (site.folder.preparing / "stop").touch()

    with pytest.raises(TrainingStoppedError):
        site.train(OPTIONS, stop_at_once)
    assert site.folder.progress().state is State.STOPPED
    assert not list(site.folder.datasets.glob(".exporting-*"))


def test_a_trainer_that_does_not_exist_is_a_sentence(studies):
    site = replace(training(studies, "promotes"), command=["/nowhere/python"])
    with pytest.raises(InputError, match="train_command"):
        site.train(OPTIONS, nobody)
    assert site.folder.progress().state is State.FAILED


def test_a_training_of_another_machine_holds_the_lock_and_is_never_signalled(studies):
    """Its process cannot be looked at from here; one of this machine may have its number."""
    site = training(studies, "promotes")
    site.folder.root.mkdir(parents=True)
    started = subprocess.Popen(["sleep", "600"], start_new_session=True)
    mark = {**asdict(ProcessMark.of(started.pid)), "host": "another-machine"}
    text = json.dumps({"folder": "/somewhere/run-1", "processes": [mark]})
    (site.folder.root / "lock.json").write_text(text)
    with pytest.raises(TrainingRunsError, match=r"on another-machine.*remove lock\.json"):
        site.train(OPTIONS, nobody)
    (held,) = site.folder.lock.holder().processes
    held.signal_group(signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.5)
    ProcessMark.of(started.pid).signal_group(signal.SIGKILL)
    assert started.wait(60) == -signal.SIGKILL
