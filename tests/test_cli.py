# SPDX-License-Identifier: Apache-2.0
"""The command line as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medreasoner_infer.imaging import Plane, load_volume
from medreasoner_infer.output import overlay_content
from medreasoner_infer.pipeline import Pipeline
from monailabel_app.cli.app import app
from monailabel_app.web.server import ServerOptions, app_conf, prepare_app_folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def disc_image(tmp_path):
    """A CT-like NIfTI, RAS, 2 mm: fat with a bright disc of radius 20 mm in the middle."""
    y, x = np.mgrid[:96, :96]
    disc = (x - 47.5) ** 2 + (y - 47.5) ** 2 < 10**2
    values = np.where(disc, 160, -80).astype(np.int16)
    volume = np.repeat(values.T[:, :, None], 5, axis=2)
    path = tmp_path / "disc.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


def test_models_lists_every_entry_with_its_licence():
    output = run("models").output
    for name in ("embedded", "lingshu-7b", "medsam2", "litemedsam", "sam2.1-large"):
        assert name in output
    assert "Apache-2.0" in output


def test_doctor_finds_the_needed_packages_and_the_embedded_weights():
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "reasoner embedded" in result.output
    assert "segmenter litemedsam" in result.output
    assert "revision: not pinned" in " ".join(result.output.split())
    assert "monailabel" in result.output


def test_position_must_be_three_numbers(disc_image):
    result = run("ask", disc_image, "Where?", "--position", "1,2")
    assert result.exit_code == 2
    assert "expected 3 numbers" in result.output


def test_error_is_one_sentence_without_a_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "monailabel_app.cli",
        "ask",
        str(tmp_path / "no.nii"),
        "Where?",
    ]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("Error: ")
    assert "Traceback" not in process.stderr


def test_server_listens_on_this_machine_only_unless_told_otherwise():
    assert ServerOptions(studies="/data").host == "127.0.0.1"


def test_the_apps_folder_is_its_owners_only_also_if_it_was_not(tmp_path, monkeypatch):
    (tmp_path / "app" / "logs").mkdir(parents=True)
    (tmp_path / "app" / "logs" / "app.log").touch(0o644)
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path))
    folder = prepare_app_folder()
    assert (folder / "main.py").is_file()
    for path in (tmp_path, folder, folder / "logs"):
        assert path.stat().st_mode & 0o777 == 0o700
    assert (folder / "logs" / "app.log").stat().st_mode & 0o777 == 0o600


def test_addresses_reach_the_server_only_if_they_are_given():
    conf = app_conf(ServerOptions(studies="/data", orthanc_url="http://orthanc:8042"))
    assert conf["orthanc_url"] == "http://orthanc:8042"
    assert "reasoner_url" not in conf


@pytest.mark.slow
def test_segment_writes_answer_mask_and_overlay_on_the_image_s_grid(disc_image, tmp_path):
    out = tmp_path / "out"
    prompts = ("--box", "37,37,59,59", "--point", "48,48")
    result = run("segment", disc_image, "--slice", 2, *prompts, "--out", out)
    assert result.exit_code == 0, result.output
    mask = nibabel.load(out / "mask.nii.gz")
    np.testing.assert_allclose(mask.affine, nibabel.load(disc_image).affine)
    values = np.asarray(mask.dataobj)
    y, x = np.mgrid[:96, :96]
    disc = (x - 47.5) ** 2 + (y - 47.5) ** 2 < 10**2
    dice = 2 * (values[:, :, 2].T.astype(bool) & disc).sum() / (values[:, :, 2].sum() + disc.sum())
    assert dice > 0.9
    assert not values[:, :, [0, 1, 3, 4]].any()
    answer = json.loads((out / "answer.json").read_text())
    assert answer["kind"] == "segment"
    assert len(answer["segmenter"]["weights_sha256"]) == 64
    assert Image.open(out / "overlay.png").width > 500


@pytest.mark.parametrize(
    ("outcome", "told", "drawn"),
    [
        (
            "absent",
            "The target is not present on this slice.",
            "Target not present on this slice.",
        ),
        (
            "not_understood",
            "The question was not understood; nothing is said about a target.",
            "Question not understood: nothing is said about a target.",
        ),
    ],
)
def test_ask_tells_what_was_not_understood_from_what_is_not_present(
    disc_image, tmp_path, monkeypatch, answered, outcome, told, drawn
):
    made = []

    class Known:
        def ask(self, volume, request, hooks):
            empty = np.zeros(volume.shape_ijk, np.uint8)
            made.append(answered(volume, Plane.AXIAL, 2, empty, present=False, outcome=outcome))
            return made[-1]

    monkeypatch.setattr(Pipeline, "from_registry", lambda *names, **options: Known())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mask.nii.gz").write_bytes(b"of an earlier question")
    volume = load_volume(disc_image)
    earlier = answered(volume, Plane.AXIAL, 2, np.ones(volume.shape_ijk, np.uint8))
    (tmp_path / "out" / "answer.json").write_text(json.dumps(earlier.to_dict()))
    result = run("ask", disc_image, "The florb?", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert told in said
    assert ("not present" in said) == (outcome == "absent")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert ("mask.nii.gz" in written) == (outcome == "absent")
    assert written - {"mask.nii.gz"} == {"answer.json", "overlay.png"}
    assert ("No mask was written" in said) == (outcome == "not_understood")
    if outcome == "absent":
        assert not np.asarray(nibabel.load(tmp_path / "out" / "mask.nii.gz").dataobj).any()
    answer = json.loads((tmp_path / "out" / "answer.json").read_text())
    assert (answer["present"], answer["outcome"]) == (False, outcome)
    content = overlay_content(made[0], made[0].mask_ijk, load_volume(disc_image))
    assert content.outcome == drawn
    assert (content.present, content.understood) == (False, outcome == "absent")


@pytest.mark.slow
def test_ask_answers_a_picture_and_writes_a_picture_mask(tmp_path):
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((80, 120, 3), 90, np.uint8)).save(picture)
    result = run("ask", picture, "Which organ makes bile?", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["query"] == "Which organ makes bile?"
    assert answer["reasoner"]["notice"].endswith("Not for clinical use.")
    assert Image.open(tmp_path / "mask.png").size == (120, 80)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["example_ct.nii.gz", "example_mr_sm.nii.gz", "example_ct_dicom"])
def test_ask_answers_real_images(shared_data, tmp_path, name):
    image = shared_data / "totalsegmentator" / name
    result = run("ask", image, "Which organ makes bile?", "--slice", 10, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["slice"]["index"] == 10
    assert answer["reasoning"]
    mask = np.asarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj)
    assert mask.any() == answer["present"]
