# SPDX-License-Identifier: Apache-2.0
"""The gate both ways on real answers: a spoiled model stays out, a better one replaces it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

pytest.importorskip("monailabel")
pytest.importorskip("datasets")

from medreasoner_infer.models.registry import resolve_model
from medreasoner_infer.models.store import ReasonerStore
from medreasoner_infer.reasoners.picture_kind import KINDS_FILE
from medreasoner_training.experiments.site_shift.datastore import write_site
from medreasoner_training.experiments.site_shift.measuring import Measured, measure, served
from medreasoner_training.experiments.site_shift.site import USUAL
from medreasoner_training.gate import GateConfig, decide
from medreasoner_training.samples import SampleSettings
from monailabel_app.cli.app import app
from monailabel_app.export.exporting import ExportSettings, export_studies

pytestmark = pytest.mark.slow

SPOILED, SOUND = "spoiled", "sound"
LENIENT = GateConfig(min_patients=2, resamples=500)


def run(*arguments: object):
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def disturbed_copy(folder: Path) -> Path:
    """The embedded reasoner with noise on the projections of its language model."""
    own = shutil.ignore_patterns(KINDS_FILE)  # of the undisturbed weights
    shutil.copytree(resolve_model("reasoner", "embedded").source, folder, ignore=own)
    path = folder / "model.safetensors"
    weights, generator = load_file(path), torch.Generator().manual_seed(0)
    for name, value in weights.items():
        if name.startswith("model.layers.") and value.ndim == 2:
            noise = torch.randn(value.shape, generator=generator)
            weights[name] = value + 0.5 * value.std() * noise.to(value.dtype)
    path.chmod(0o644)
    save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, Measured]:
    """Both models' real answers to questions on three patients; both are candidates."""
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDREASONER_HOME", str(folder / "home"))
        patch.setattr("medreasoner_training.experiments.site_shift.site.Z_RANGE_MM", (240.0, 330.0))
        studies = write_site(folder / "studies", USUAL, 0, range(3))
        settings = ExportSettings(0.0, SampleSettings(128, 1, 0, min_area_px=80))
        export_studies(str(studies), folder / "data", settings, data_dir=folder / "records")
        sound = Path(resolve_model("reasoner", "embedded").source)
        for name, source in ((SPOILED, disturbed_copy(folder / "model")), (SOUND, sound)):
            assert run("add", source, "--name", name, "--data", folder / "data").exit_code == 0
        store = ReasonerStore()
        found = {name: measure(folder / "data", served(name, store)) for name in (SPOILED, SOUND)}
        yield {"home": folder / "home", **found}


def report(answers, candidate: str, live: str, live_name: str, path: Path) -> Path:
    decided = decide(
        answers[live].held_out,
        answers[candidate].scores,
        type(answers[live].scores)(**{**vars(answers[live].scores), "name": live_name}),
        LENIENT,
    )
    path.write_text(json.dumps(decided.to_dict()))
    return path


def test_a_spoiled_model_is_refused_with_reasons_and_a_sound_one_replaces_it(
    answers, tmp_path, monkeypatch
):
    monkeypatch.setenv("MEDREASONER_HOME", str(answers["home"]))
    monkeypatch.setenv("COLUMNS", "200")
    store = ReasonerStore()
    present = answers[SOUND].held_out.present
    assert answers[SOUND].scores.box_iou[present].mean() > 0.4
    path = report(answers, SPOILED, SOUND, "embedded", tmp_path / "refused.json")
    refused = run("promote", SPOILED, "--report", path, "--by", "test")
    assert refused.exit_code == 1
    assert store.live() is None
    run("promote", SPOILED, "--without-gate", "to be replaced", "--by", "test")
    path = report(answers, SOUND, SPOILED, SPOILED, tmp_path / "promoted.json")
    assert run("promote", SOUND, "--report", path, "--by", "test").exit_code == 0
    assert store.live().name == SOUND
    history = run("history").output
    assert "refused" in history
    assert "Box IoU is" in history
