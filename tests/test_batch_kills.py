# SPDX-License-Identifier: Apache-2.0
"""Runs over many studies that are killed, or whose processes die: each pair is answered once."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("monailabel")

from support import batches
from support.batches import (
    DIE_AT,
    WithToys,
    answers_by_key,
    lines_of,
    run,
    settings_of,
    write_studies,
)

from monailabel_app.batch.engines import Processes, Ray
from monailabel_app.batch.results import Results
from monailabel_app.batch.work import WorkerSettings
from monailabel_app.store import RecordStore

IMAGES = 6
LIST = "question,slice\nWhere is it bright?,4\nWhere is it bright?,0\n"
PAIRS = 2 * IMAGES
# Killed while the models are being loaded, then after so many answers of the whole run.
MOMENTS = (0, 1, 3, 6, 9)
_LOAD_TIMEOUT_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def skip_without_ray() -> None:
    """Without importing it: Ray reads its environment then, which the engine sets before."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is absent; install the extra 'ray'")


@pytest.fixture
def path_of_tests(monkeypatch) -> None:
    """So that processes find the models that take no time."""
    known = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *known]))


def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    path.write_text(LIST)
    return path


def begin(tmp_path: Path, engine: str) -> subprocess.Popen:
    command = [
        sys.executable, batches.__file__, str(tmp_path / "list.csv"), str(tmp_path / "studies"),
        str(tmp_path / "out"), Results.DATASET.value, engine,
    ]  # fmt: skip
    with (tmp_path / "log").open("a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def kill_after(process: subprocess.Popen, out: Path, answers: int, files: int) -> None:
    """Kill the process and its children once there are so many answers, and new files of lines."""
    deadline = time.monotonic() + _LOAD_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it was killed"
        begun = len(list((out / "journal").glob("*.jsonl")))
        if begun > files and sum(answers_by_key(out).values()) >= answers:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.01)
    raise AssertionError("it answered nothing in time")


@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_a_run_that_is_killed_five_times_answers_each_pair_once(
    tmp_path, path_of_tests, engine
) -> None:
    if engine == "ray":
        skip_without_ray()
    studies, out = write_studies(tmp_path / "studies", IMAGES), tmp_path / "out"
    listed(tmp_path)
    for answers in MOMENTS:
        files = len(list((out / "journal").glob("*.jsonl")))
        kill_after(begin(tmp_path, engine), out, answers, files)
    last = begin(tmp_path, engine)
    assert last.wait(_LOAD_TIMEOUT_S) == 0, (tmp_path / "log").read_text()[-3000:]
    answered = answers_by_key(out)
    assert len(answered) == PAIRS
    assert set(answered.values()) == {1}
    assert len([line for line in lines_of(out) if "kept" in line]) == PAIRS
    records = RecordStore(studies / ".medreasoner")
    for number in range(IMAGES):
        found = records.list_for_image(f"ct{number}")
        assert sorted(record.result.slice.index for record in found) == [0, 4]
        assert all(len(record.labels) == 1 for record in found)
    assert len(list((studies / "labels").rglob("*.nii.gz"))) == PAIRS


@pytest.mark.parametrize("moment", ["begun", "answered", "ct1"])
def test_a_process_that_dies_takes_no_answer_along(
    tmp_path, path_of_tests, monkeypatch, moment
) -> None:
    monkeypatch.setenv(DIE_AT, moment)
    studies = write_studies(tmp_path / "studies", 2)
    settings = settings_of(studies, tmp_path / "out", Results.DATASET)
    report = run(listed(tmp_path), settings, WithToys(Processes(settings, 2)))
    fatal = 2 if moment == "ct1" else 0
    assert report.failed == ({"ProcessEnded": fatal} if fatal else {})
    assert report.outcomes.total() == 4 - fatal
    records = RecordStore(settings.data_dir)
    assert len(records.list_for_image("ct0") + records.list_for_image("ct1")) == 4 - fatal
    assert set(answers_by_key(settings.out).values()) == {1}


def listening(settings: WorkerSettings, others: frozenset[int]) -> set[str]:
    """Addresses that processes of Ray listen on, seen from one of them.

    Args:
        settings: unused.
        others: process identifiers that were children of Ray's parent before it began.
    """
    raylet = psutil.Process().parent()
    assert raylet is not None
    siblings = raylet.parent().children(recursive=True)
    found = [process for process in siblings if process.pid not in others]
    assert raylet in found
    connections = [each for process in found for each in process.net_connections("inet")]
    return {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}


def test_an_instance_of_ray_is_reached_from_this_machine_only(tmp_path, path_of_tests) -> None:
    skip_without_ray()
    settings = settings_of(tmp_path, tmp_path / "out")
    others = frozenset(each.pid for each in psutil.Process().children(recursive=True))
    with Ray(settings, "local", 1) as engine:
        ((_, addresses),) = engine.map(listening, [others])
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
