# SPDX-License-Identifier: Apache-2.0
"""The same request gives the same record, whether the command line, ``/infer`` or a stream asks."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("monailabel")

import monailabel.app
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils import app as app_registry
from support.bright import BRIGHT_IJK, SHAPE_IJK, BrightReasoner, BrightSegmenter

from medreasoner_infer.errors import InputError
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.types import EarlierTarget
from monailabel_app.app import MedReasonerApp
from monailabel_app.cli.app import app as cli
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.inference.batch import Batch
from monailabel_app.inference.params import InferParams

QUERY = "Where is it bright?"
VOLATILE = ("inference_id", "created_at", "timings_s")
SERIES = "1.2.826.0.1.3680043.10.1338"


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """A NIfTI, a picture and a DICOM series, each with a bright block."""
    studies = tmp_path / "studies"
    studies.mkdir()
    values = np.full(SHAPE_IJK, -500, np.int16)
    values[BRIGHT_IJK] = 900
    affine = np.diag([-2.0, -1.5, 4.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values, affine), studies / "ct.nii.gz")
    Image.fromarray(np.where(values[..., 4].T > 0, 255, 0).astype(np.uint8)).save(
        studies / "photo.png"
    )
    grid = CtGrid((2.0, 1.5, 4.0), (0, 0, 0), np.eye(3))
    series = write_ct_series(values.transpose(2, 1, 0), grid, studies / "series", seed=3)
    return {"ct": studies / "ct.nii.gz", "photo": studies / "photo.png", "series": series}


@pytest.fixture
def client(monkeypatch, tmp_path: Path, images) -> TestClient:
    pipeline = Pipeline(BrightReasoner, BrightSegmenter)
    monkeypatch.setattr(Pipeline, "from_registry", classmethod(lambda *_, **__: pipeline))
    studies, folder = str(tmp_path / "studies"), str(tmp_path / "app")
    for name, value in (
        ("DATASTORE_AUTO_RELOAD", False), ("SESSION_PATH", str(tmp_path / "sessions")),
        ("APP_DIR", folder), ("STUDIES", studies),
    ):  # fmt: skip
        monkeypatch.setattr(settings, f"MONAI_LABEL_{name}", value)
    app = MedReasonerApp(folder, studies, {}, pipeline=pipeline)
    monkeypatch.setitem(app_registry.apps, f"{folder}{studies}", app)
    return TestClient(monailabel.app.app, raise_server_exceptions=False)


def image_id(client: TestClient, name: str) -> str:
    listed = client.get("/datastore/?output=all").json()["objects"]
    return next(i for i in listed if i == name or (name == "series" and i[0].isdigit()))


def by_infer(client: TestClient, image: str, values: dict, model: str) -> dict:
    answer = client.post(
        f"/infer/{model}",
        params={"image": image, "output": "json"},
        data={"params": json.dumps(values)},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["medreasoner"]


def by_stream(client: TestClient, image: str, values: dict, route: str = "ask") -> dict:
    answer = client.post(f"/medreasoner/streams/{route}", params={"image": image}, json=values)
    events = [block.split("\n") for block in answer.text.split("\n\n") if block]
    name, data = events[-1]
    assert name == "event: record", answer.text
    return json.loads(data.removeprefix("data: "))["medreasoner"]


def by_command(tmp_path: Path, image: Path, *arguments: str) -> dict:
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, [arguments[0], str(image), *arguments[1:], "--out", str(out)])
    assert result.exit_code == 0, result.output
    return json.loads((out / "answer.json").read_text())


def lasting(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in VOLATILE}


QUESTIONS = [
    pytest.param("ct", {"slice": 4}, ["--slice", "4"], id="slice"),
    pytest.param(
        "ct", {"position": [10, 9, 12], "propagate": True, "samples": 3},
        ["--position", "10,9,12", "--propagate", "--samples", "3"], id="position and volume",
    ),
    pytest.param("ct", {"plane": "coronal"}, ["--plane", "coronal"], id="search"),
    pytest.param("ct", {"slice": 0, "window": "40/400"}, ["--slice", "0", "--window", "40/400"],
                 id="absent"),
    pytest.param("photo", {}, [], id="picture"),
    pytest.param("photo", {"propagate": True}, ["--propagate"], id="a picture has no volume"),
    pytest.param("series", {"slice": 3, "propagate": True}, ["--slice", "3", "--propagate"],
                 id="DICOM"),
]  # fmt: skip


@pytest.mark.parametrize(("image", "values", "arguments"), QUESTIONS)
def test_a_question_gives_one_record_on_all_three_ways(
    client, images, tmp_path, image, values, arguments
) -> None:
    values = {"query": QUERY, **values}
    inferred = by_infer(client, image_id(client, image), values, "medreasoner")
    streamed = by_stream(client, image_id(client, image), values)
    commanded = by_command(tmp_path, images[image], "ask", QUERY, *arguments)
    assert lasting(inferred) == lasting(streamed) == lasting(commanded)
    assert inferred["present"] is (values.get("slice") != 0)


@pytest.mark.parametrize("used", [True, False])
def test_a_follow_up_gives_one_record_on_all_three_ways(
    client, images, tmp_path, monkeypatch, used
) -> None:
    monkeypatch.setattr(BrightReasoner, "takes_follow_ups", used)
    first = by_command(tmp_path, images["ct"], "ask", "Where is the liver?", "--slice", "4")
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(first))
    about = {
        "name": "liver", "plane": "axial", "slice": 4,
        "box": first["prompts"]["bbox_xyxy_slice_px"],
    }  # fmt: skip
    values = {"query": "Where is the spleen?", "slice": 5, "about": about}
    inferred = by_infer(client, "ct", values, "medreasoner")
    streamed = by_stream(client, "ct", values)
    arguments = ["Where is the spleen?", "--slice", "5", "--about", str(earlier)]
    commanded = by_command(tmp_path, images["ct"], "ask", *arguments)
    assert lasting(inferred) == lasting(streamed) == lasting(commanded)
    assert inferred["follow_up"]["used"] is used
    assert inferred["follow_up"]["target"]["name"] == "liver"
    said = [text for text in inferred["warnings"] if "by itself" in text]
    assert len(said) == (0 if used else 1)
    kept = client.get(f"/medreasoner/inferences/{inferred['inference_id']}").json()
    assert kept["result"]["follow_up"] == inferred["follow_up"]


@pytest.mark.parametrize("content", ["{", "[]", '{"query": "Where?"}'])
def test_the_command_line_follows_up_on_answers_only(client, images, tmp_path, content) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(content)
    asked = ["ask", str(images["ct"]), "And here?", "--about", str(earlier)]
    result = CliRunner().invoke(cli, asked)
    assert result.exit_code == 2
    assert "is no answer.json" in " ".join(result.output.replace("│", " ").split())


def test_a_batch_follows_up_on_nothing() -> None:
    params = InferParams(query="And here?", about=EarlierTarget("liver", "axial", 4))
    with pytest.raises(InputError, match="a batch asks many"):
        Batch("medreasoner", ["ct"], params, "original")


def test_what_is_not_a_question_follows_up_on_nothing(client) -> None:
    about = {"name": "liver", "plane": "axial", "slice": 4}
    clicks = {"foreground": [[8, 6, 3]], "about": about}
    form = {"params": json.dumps(clicks)}
    inferred = client.post("/infer/medreasoner_click?image=ct&output=json", data=form)
    drawn = {"inside": [[16, 9, 16]], "about": about}
    streamed = client.post("/medreasoner/streams/segment?image=ct", json=drawn)
    for answer in (inferred, streamed):
        assert "'about' goes with a question" in answer.text


CLICKS = {"foreground": [[8, 6, 3], [9, 7, 6]], "background": [[1, 1, 3], [2, 2, 6]]}


@pytest.mark.parametrize(("slice_index", "read"), [(None, 6), (3, 3), (5, 6)])
def test_clicks_on_two_slices_are_answered_on_one_and_the_same(client, slice_index, read) -> None:
    """A stream refused them, and ``/infer`` did not."""
    values = {"query": QUERY, **CLICKS, "slice": slice_index}
    inferred = by_infer(client, "ct", values, "medreasoner_click")
    streamed = by_stream(client, "ct", values)
    assert lasting(inferred) == lasting(streamed)
    assert inferred["slice"]["index"] == read
    assert inferred["prompts"]["point_sources"].count("reader") == 2


@pytest.mark.parametrize("propagate", [False, True])
def test_own_points_give_one_record_on_all_three_ways(client, images, tmp_path, propagate) -> None:
    """Voxel (8, 6) of slice 4 lies at pixel (8.5, 6.5) and at L 16, P 9, S 16 mm."""
    clicks = {"foreground": [[8, 6, 4]], "background": [[1, 1, 4]], "propagate": propagate}
    inferred = by_infer(client, "ct", clicks, "medreasoner_click")
    drawn = {"inside": [[16, 9, 16]], "outside": [[2, 1.5, 16]], "propagate": propagate}
    streamed = by_stream(client, "ct", drawn, "segment")
    arguments = ["--slice", "4", "--point", "8.5,6.5", "--background", "1.5,1.5"]
    commanded = by_command(
        tmp_path, images["ct"], "segment", *arguments, *(["--propagate"] if propagate else [])
    )
    chosen = {record.pop("slice_choice")["method"] for record in (inferred, streamed, commanded)}
    assert chosen == {"click", "index"}  # only how the slice was named differs
    order = sorted(range(2), key=lambda n: inferred["prompts"]["point_labels"][n], reverse=True)
    for key in ("points_xy_slice_px", "points_ijk", "points_lps_mm", "point_labels"):
        inferred["prompts"][key] = [inferred["prompts"][key][n] for n in order]
    assert lasting(inferred) == lasting(streamed) == lasting(commanded)
    assert inferred["mask"]["slice_range"] == ([2, 6] if propagate else [4, 4])


def test_a_box_gives_one_record_on_the_stream_and_the_command_line(
    client, images, tmp_path
) -> None:
    """Pixel edges (5, 3) and (15, 13) lie half a voxel beside the voxels' centres."""
    corners = [[9, 3.75, 16], [29, 18.75, 16]]
    streamed = by_stream(client, "ct", {"box": corners}, "segment")
    commanded = by_command(tmp_path, images["ct"], "segment", "--slice", "4", "--box", "5,3,15,13")
    assert lasting(streamed) == lasting(commanded)


LIST = "Segment liver, spleen and both kidneys"
MADE = ["Segment liver", "Segment spleen", "Segment left kidney", "Segment right kidney"]


def test_one_answer_to_a_list_says_which_questions_to_ask_one_by_one(client) -> None:
    image, values = image_id(client, "series"), {"query": LIST, "slice": 4}
    inferred = by_infer(client, image, values, "medreasoner")
    assert lasting(inferred) == lasting(by_stream(client, image, values))
    assert inferred["query"] == LIST
    (warning,) = inferred["warnings"]
    assert warning.startswith("The question names 4 targets, and an answer marks one")
    assert warning.endswith("; ".join(MADE))


@pytest.mark.parametrize(("query", "made"), [(LIST, MADE), (QUERY, [QUERY]), ("", [""])])
def test_viewers_are_told_which_questions_a_text_makes(client, query, made) -> None:
    answer = client.post("/medreasoner/questions", json={"query": query})
    assert answer.json() == {"questions": made, "follows_up": False}


@pytest.mark.parametrize("body", [{}, {"query": 1}, {"query": "a" * 2001}, {"query": "a", "b": 1}])
def test_what_is_no_question_is_refused_without_being_repeated(client, body) -> None:
    answer = client.post("/medreasoner/questions", json=body)
    assert answer.status_code == 422
    assert "aaa" not in answer.text


def test_the_command_line_asks_a_list_one_by_one_and_lists_the_answers(
    client, images, tmp_path
) -> None:
    out = tmp_path / "out"
    asked = ["ask", str(images["series"]), LIST, "--slice", "4", "--out", str(out)]
    result = CliRunner().invoke(cli, asked)
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "answers.json").read_text())
    assert summary["question"] == LIST
    assert [row["question"] for row in summary["answers"]] == MADE
    for row in summary["answers"]:
        answer = json.loads((out / row["answer"]).read_text())
        assert (answer["query"], answer["warnings"]) == (row["question"], [])
        values = {"query": row["question"], "slice": 4}
        single = by_infer(client, image_id(client, "series"), values, "medreasoner")
        assert lasting(answer) == lasting(single)
        assert row["present"] is answer["present"] is True
        assert nibabel.load(out / row["mask"]).get_fdata().any()
        assert Image.open(out / row["overlay"]).width > 100
    assert len(list(out.iterdir())) == 13
