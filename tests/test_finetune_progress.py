# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes on."""

from __future__ import annotations

import json
import os

import pytest

from medreasoner_training.finetune import Progress, State, read_progress, request_stop
from medreasoner_training.finetune.errors import ProgressError
from medreasoner_training.finetune.progress import clear_stop, stop_requested, write_progress

MOMENT = Progress(State.TRAINING, 3, 10, 2.5, 0.4, 0.5, 12.0, 30.0, "Step 3 of 10.", "c1")


def test_progress_is_read_as_it_was_written(tmp_path):
    write_progress(tmp_path, MOMENT)
    assert read_progress(tmp_path) == MOMENT
    fields = json.loads((tmp_path / "progress.json").read_text())
    assert fields["state"] == "training"
    assert fields["best_iou"] == 0.5


def test_a_crash_before_the_replacement_leaves_the_former_progress(tmp_path, monkeypatch):
    write_progress(tmp_path, MOMENT)

    def crash(*_: object) -> None:
        raise OSError("power loss")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="power loss"):
        write_progress(tmp_path, Progress(State.FAILED))
    assert read_progress(tmp_path) == MOMENT
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_figure_that_json_cannot_hold_replaces_nothing(tmp_path):
    write_progress(tmp_path, MOMENT)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_progress(tmp_path, Progress(State.TRAINING, reward=float("nan")))
    assert read_progress(tmp_path) == MOMENT


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", "{}", '{"state": "sleeping"}', '{"state": "failed", "pace": 1}']
)
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(ProgressError):
        read_progress(tmp_path)


def test_a_run_that_was_not_started_has_no_progress(tmp_path):
    with pytest.raises(ProgressError, match=r"holds no progress\.json"):
        read_progress(tmp_path)


def test_five_states_are_ends():
    ends = {state.value for state in State if state.is_end}
    assert ends == {"promoted", "refused", "stopped", "failed", "finished"}


def test_a_stop_is_seen_until_it_is_cleared(tmp_path):
    assert not stop_requested(tmp_path)
    request_stop(tmp_path)
    request_stop(tmp_path)
    assert stop_requested(tmp_path)
    clear_stop(tmp_path)
    clear_stop(tmp_path)
    assert not stop_requested(tmp_path)
