# SPDX-License-Identifier: Apache-2.0
"""The app in MONAI Label's own server, asked over HTTP; a toy pipeline stands for the models."""

from __future__ import annotations

import asyncio
import email
import gzip
import hashlib
import html
import importlib.metadata
import io
import json
import logging
import re
import threading
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from medreasoner_infer.errors import (
    AnswerError,
    CancelledError,
    InputError,
    ModelUnavailableError,
    OutOfMemoryError,
)
from medreasoner_infer.imaging import Volume
from medreasoner_infer.request import AskRequest, SegmentRequest
from medreasoner_infer.result import InferenceResult, MaskSummary, SliceChoice, SliceRecord
from medreasoner_infer.types import ModelIdentity

pytest.importorskip("monailabel")

import monailabel.app
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils import app as app_registry

from medreasoner_infer.hooks import Hooks
from monailabel_app.app import MedReasonerApp
from monailabel_app.errors import ConflictError, UnknownTaskError
from monailabel_app.inference.batch import Batch
from monailabel_app.inference.call import ASK_TASK, Call
from monailabel_app.inference.params import InferParams
from monailabel_app.web.routes.infer import require_model
from monailabel_app.web.routes.serving import run_in_thread

WAIT_S = 20
QUERY = "Which organ stores the bile?"
SHAPE_IJK = (6, 5, 4)
# Oblique on purpose: an axis permutation or a lost sign cannot pass.
AFFINE_RAS = np.array(
    [[-1.9, 0.1, 0.0, 30.0], [0.1, 1.9, 0.2, -20.0], [0.0, -0.3, 2.8, 7.0], [0.0, 0.0, 0.0, 1.0]]
)
AFFINE_RAS[:3, :3] = np.linalg.qr(AFFINE_RAS[:3, :3])[0] @ np.diag([2.0, 1.5, 3.0])


class ToyPipeline:
    """Marks voxel (1, 2, 3); a test may have it fail or hold it."""

    def __init__(self) -> None:
        self.asked: list[AskRequest | SegmentRequest] = []
        self.volumes: list[Volume] = []
        self.error: Exception | None = None
        self.present = True
        self.answered = lambda: None
        self.started = threading.Event()
        self.proceed = threading.Event()
        self.proceed.set()

    def ask(self, volume, request, hooks) -> InferenceResult:
        return self._answer(volume, request, "ask", request.query)

    def segment(self, volume, request, hooks) -> InferenceResult:
        return self._answer(volume, request, "segment", None)

    def _answer(self, volume, request, kind, query) -> InferenceResult:
        self.asked.append(request)
        self.volumes.append(volume)
        self.started.set()
        assert self.proceed.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        self.answered()
        return toy_result(volume, kind, query, self.present, len(self.asked))


def toy_result(volume, kind, query, present, number) -> InferenceResult:
    mask = np.zeros(volume.shape_ijk, dtype=np.uint8)
    if present:
        mask[1, 2, min(3, mask.shape[2] - 1)] = 1
    model = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")
    return InferenceResult(
        inference_id=f"inference-{number}",
        created_at=f"2026-01-02T03:04:{number:02d}.000+00:00",
        kind=kind,
        query=query,
        reasoning=None if query is None else "The gallbladder stores it.",
        completion=None,
        present=present,
        confidence=None,
        agreement=None,
        samples=(),
        prompts=None,
        slice=SliceRecord("axial", 3, 4, (5, 6), (2.0, 1.5), (0.0, 0.0, 0.0), "soft", 40.0, 400.0),
        slice_choice=SliceChoice("index", "Slice 3."),
        propagated=False,
        mask_ijk=mask,
        mask=MaskSummary(int(mask.sum()), 9.0, 3.0, (3, 3), 0.9),
        modality=volume.modality,
        reasoner=None if query is None else model,
        segmenter=model,
        timings_s={"reason": 0.25, "segment": 0.5},
    )


@pytest.fixture
def pipeline() -> ToyPipeline:
    return ToyPipeline()


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    voxels = np.arange(np.prod(SHAPE_IJK), dtype=np.int16).reshape(SHAPE_IJK)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE_RAS), folder / "case.nii.gz")
    return folder


@pytest.fixture
def make_app(monkeypatch, tmp_path: Path, studies: Path, pipeline: ToyPipeline):
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(tmp_path / "app"))
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))

    def make(**conf: str) -> MedReasonerApp:
        app = MedReasonerApp(str(tmp_path / "app"), str(studies), conf, pipeline=pipeline)
        monkeypatch.setitem(app_registry.apps, f"{tmp_path / 'app'}{studies}", app)
        return app

    return make


@pytest.fixture
def client(make_app) -> TestClient:
    make_app()
    return TestClient(monailabel.app.app, raise_server_exceptions=False)


def ask(client: TestClient, model="medreasoner", image="case", output=None, files=None, **params):
    params = {"query": QUERY, **params}
    query = {"image": image} | ({"output": output} if output else {})
    return client.post(
        f"/infer/{model}", params=query, data={"params": json.dumps(params)}, files=files
    )


def parts_of(response) -> dict[str, tuple[str | None, bytes]]:
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content)
    return {
        part.get_param("name", header="content-disposition"): (
            part.get_filename(),
            part.get_payload(decode=True),
        )
        for part in message.get_payload()
    }


def affine_ras_of(path: Path) -> np.ndarray:
    """Affine of any ITK image, in NIfTI's RAS."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


# --- what clients see ----------------------------------------------------------------------------


def test_info_lists_both_models_with_their_options(client, tmp_path) -> None:
    told = client.get("/info/")
    assert str(tmp_path) not in told.text
    software = {"name": "medreasoner", "version": importlib.metadata.version("medreasoner")}
    assert told.json()["software"] == software
    models = told.json()["models"]
    assert {name: (m["type"], m["dimension"]) for name, m in models.items()} == {
        "medreasoner": ("segmentation", 3),
        "medreasoner_click": ("deepgrow", 2),
    }
    assert set(models["medreasoner"]["config"]) == {
        "query", "plane", "window", "slice", "position", "propagate", "samples", "removal_test",
    }  # fmt: skip


def test_json_output_holds_the_whole_result_and_the_conveniences(client) -> None:
    params = ask(client, output="json").json()
    assert params["medreasoner"]["query"] == QUERY
    assert params["medreasoner"]["schema_version"] == 1
    assert "mask_ijk" not in params["medreasoner"]
    assert params["inference_id"] == "inference-1"
    assert params["reasoning"] == "The gallbladder stores it."
    assert params["present"] is True
    assert params["label_names"] == {"MedReasoner target": 1}
    assert params["label_info"][0]["inference_id"] == "inference-1"
    assert params["latencies"]["total"] == 0.75


@pytest.mark.parametrize("extension", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_image_output_is_the_mask_on_the_images_own_grid(client, tmp_path, extension) -> None:
    response = ask(client, output="image", result_extension=extension)
    assert response.status_code == 200
    path = tmp_path / f"mask{extension}"
    path.write_bytes(response.content)
    np.testing.assert_allclose(affine_ras_of(path), AFFINE_RAS, atol=1e-4)
    image = sitk.ReadImage(str(path))
    assert image.GetSize() == SHAPE_IJK
    assert image.GetPixelIDValue() == sitk.sitkUInt8
    assert image.GetPixel(1, 2, 3) == 1
    assert sitk.GetArrayViewFromImage(image).sum() == 1


def test_without_an_output_params_and_image_come_together(client) -> None:
    for output in (None, "all"):
        response = ask(client, output=output, result_extension=".nrrd")
        parts = parts_of(response)
        assert json.loads(parts["params"][1])["present"] is True
        name, content = parts["image"]
        assert name is not None
        assert name.endswith(".nrrd")
        assert content.startswith(b"NRRD")


def test_nrrd_is_raw_unless_compression_is_asked_for(client) -> None:
    for compress, encoding in ((False, b"encoding: raw"), (True, b"encoding: gzip")):
        response = ask(client, output="image", result_extension=".nrrd", result_compress=compress)
        assert encoding in response.content


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz"])
def test_the_dtype_is_honoured(client, tmp_path, extension) -> None:
    response = ask(client, output="image", result_extension=extension, result_dtype="int16")
    path = tmp_path / f"mask{extension}"
    path.write_bytes(response.content)
    assert sitk.ReadImage(str(path)).GetPixelIDValue() == sitk.sitkInt16


def test_a_target_that_is_not_present_gives_an_empty_mask(client, pipeline, tmp_path) -> None:
    pipeline.present = False
    response = ask(client, output="image", result_extension=".nii.gz")
    (tmp_path / "m.nii.gz").write_bytes(response.content)
    mask = nibabel.load(tmp_path / "m.nii.gz")
    assert mask.shape == SHAPE_IJK
    assert not np.asarray(mask.dataobj).any()


def test_an_uploaded_image_is_answered_and_leaves_no_file(client, studies, tmp_path) -> None:
    with (studies / "case.nii.gz").open("rb") as file:
        response = ask(client, image="", output="json", files={"file": ("x.nii.gz", file)})
    assert response.status_code == 200
    assert client.get("/medreasoner/inferences/inference-1").json()["image_id"] is None


def test_temporary_files_go_after_the_answer_and_after_a_fault(
    client, pipeline, studies, tmp_path, monkeypatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    content = (studies / "case.nii.gz").read_bytes()
    for output in ("image", "json", "all"):
        assert ask(client, output=output, files={"file": ("x.nii.gz", content)}).status_code == 200
    pipeline.error = InputError("refused")
    assert ask(client, files={"file": ("x.nii.gz", content)}).status_code == 422
    assert [path.name for path in scratch.iterdir() if path.is_file()] == []


def test_a_session_holds_an_image_for_several_questions(client, studies, pipeline) -> None:
    with (studies / "case.nii.gz").open("rb") as file:
        created = client.put("/session/", files={"files": ("x.nii.gz", file)})
    session = created.json()["session_id"]
    for _ in range(2):
        response = client.post(
            "/infer/medreasoner", params={"session_id": session, "output": "json"},
            data={"params": json.dumps({"query": QUERY})},
        )  # fmt: skip
        assert response.status_code == 200
    assert pipeline.volumes[0] is pipeline.volumes[1]


def test_a_study_asked_twice_is_read_once(client, pipeline) -> None:
    ask(client)
    ask(client)
    assert pipeline.volumes[0] is pipeline.volumes[1]


# --- clicks --------------------------------------------------------------------------------------


def test_clicks_alone_run_the_segmenter(client, pipeline) -> None:
    response = ask(
        client, "medreasoner_click", output="json", query="",
        foreground=[[1, 1, 0], [2, 2, 3]], background=[[0, 0, 3]],
    )  # fmt: skip
    assert response.status_code == 200
    (request,) = pipeline.asked
    assert isinstance(request, SegmentRequest)
    assert [(click.position_ijk, click.positive) for click in request.clicks] == [
        ((0, 0, 3), False), ((1, 1, 0), True), ((2, 2, 3), True),
    ]  # fmt: skip


def test_a_question_with_clicks_is_asked_with_the_clicks_added(client, pipeline) -> None:
    ask(client, "medreasoner_click", foreground=[[2, 2, 3]], background=[])
    (request,) = pipeline.asked
    assert isinstance(request, AskRequest)
    assert [click.position_ijk for click in request.clicks] == [(2, 2, 3)]


def test_clicks_join_the_answer_that_a_client_names(client, pipeline) -> None:
    inference_id = ask(client, output="json").json()["inference_id"]
    response = ask(
        client, "medreasoner_click", output="json", query="", inference_id=inference_id,
        foreground=[], background=[[1, 2, 3]],
    )  # fmt: skip
    assert response.status_code == 200, response.text
    _, request = pipeline.asked
    assert isinstance(request, SegmentRequest)
    assert np.argwhere(request.last_mask_ijk).tolist() == [[1, 2, 3]]
    assert [(click.position_ijk, click.positive) for click in request.clicks] == [
        ((1, 2, 3), False)
    ]
    assert request.selection.index == 3


def test_a_question_that_names_an_earlier_answer_is_asked_anew(client, pipeline) -> None:
    inference_id = ask(client, output="json").json()["inference_id"]
    ask(client, inference_id=inference_id)
    assert isinstance(pipeline.asked[1], AskRequest)


def test_an_answer_that_is_not_there_or_of_another_image_is_not_joined(client, studies) -> None:
    click = {"query": "", "foreground": [[1, 1, 1]], "background": []}
    unknown = ask(client, "medreasoner_click", output="json", inference_id="nobody", **click)
    assert unknown.status_code == 404
    inference_id = ask(client, output="json").json()["inference_id"]
    with (studies / "case.nii.gz").open("rb") as file:
        opened = client.put("/session/", files={"files": ("sent.nii.gz", file)})
    other = client.post(
        "/infer/medreasoner_click",
        params={"session_id": opened.json()["session_id"], "output": "json"},
        data={"params": json.dumps({**click, "inference_id": inference_id})},
    )
    assert other.status_code == 422
    assert "another image" in other.json()["detail"]


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (InputError("The slice is outside."), 422, "The slice is outside."),
        (ModelUnavailableError("No weights."), 503, "No weights."),
        (OutOfMemoryError("Out of memory."), 503, "Out of memory."),
        (AnswerError("No answer block."), 502, "No answer block."),
        (CancelledError("Cancelled."), 499, "Cancelled."),
        (PermissionError(13, "denied", "/secret/path"), 503, "cannot read or write"),
        (ZeroDivisionError("oh"), 500, "tell the administrator the reference"),
    ],
)
def test_every_fault_is_json_with_a_sentence(client, pipeline, error, status, said) -> None:
    pipeline.error = error
    response = ask(client)
    assert response.status_code == status
    assert said in response.json()["detail"]
    assert "/secret" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        ({"model": "no_such_model"}, 404, "medreasoner, medreasoner_click"),
        ({"image": "nobody"}, 404, "no image of this id"),
        ({"image": ""}, 404, "names no image"),
        ({"query": ""}, 422, "question is missing"),
        ({"plane": "axal"}, 422, "axial"),
        ({"samples": 99}, 422, "'samples': Input should be less than or equal to 16"),
        ({"query": "x" * 3000}, 422, "at most 2000"),
        ({"model": "medreasoner_click", "query": ""}, 422, "point inside"),
        ({"output": "dicom_seg"}, 422, "DICOM series"),
        ({"output": "hologram"}, 422, "dicom_seg"),
    ],
)
def test_what_a_caller_can_cause_is_never_a_plain_500(client, call, status, said) -> None:
    response = ask(client, **call)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert said in response.text


@pytest.mark.parametrize("params", ["{", "[1]", '"query"', "null"])
def test_params_that_are_no_object_are_refused(client, params) -> None:
    response = client.post("/infer/medreasoner?image=case", data={"params": params})
    assert response.status_code == 422
    assert "expected an object" in response.json()["detail"]


def test_an_unreadable_upload_is_refused_with_a_sentence(client) -> None:
    response = ask(client, image="", files={"file": ("x.nii.gz", b"not an image")})
    assert response.status_code == 422
    assert response.json()["detail"].endswith(".")


def test_an_unknown_session_is_not_found(client) -> None:
    response = client.post("/infer/medreasoner?session_id=gone", data={"params": "{}"})
    assert response.status_code == 404


# --- staying inside ------------------------------------------------------------------------------


@pytest.fixture
def secret(studies: Path, tmp_path: Path) -> Path:
    path = tmp_path / "secret.nii.gz"
    path.write_bytes((studies / "case.nii.gz").read_bytes())
    return path


@pytest.mark.parametrize("name", ["{path}", "../secret", "../secret.nii.gz", "..", "file://{path}"])
def test_an_image_outside_the_studies_is_refused(client, secret, pipeline, name) -> None:
    response = ask(client, image=name.format(path=secret))
    assert response.status_code == 422
    assert "'image'" in response.json()["detail"]
    assert pipeline.asked == []


def test_params_cannot_name_the_image_or_forge_the_servers_word(client, secret, pipeline) -> None:
    forged = {"image": str(secret), "model": "x", "session": {"image": str(secret)}}
    response = client.post(
        "/infer/medreasoner?image=case", data={"params": json.dumps({"query": QUERY, **forged})}
    )
    assert response.status_code == 200
    assert [volume.source.name for volume in pipeline.volumes] == ["case.nii.gz"]


@pytest.mark.parametrize("key", ["medreasoner_call", "bundle_path", "propogate", "source", "__"])
def test_an_unknown_option_is_refused_by_name(client, pipeline, key) -> None:
    response = ask(client, **{"query": QUERY, key: True})
    assert response.status_code == 422
    assert f"'{key}'" in response.json()["detail"]
    assert pipeline.asked == []


def test_a_label_tag_in_the_params_cannot_climb_out(client, tmp_path) -> None:
    response = ask(client, save_label="true", label_tag="../../x")
    assert response.status_code == 422
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/datastore/label?image=case&tag=../../x"),
        ("PUT", "/datastore/label?image=../case&tag=final"),
        ("PUT", "/datastore/image?image=../x"),
        ("GET", "/datastore/label?label=case&tag=..%2f.."),
        ("GET", "/datastore/image?image=%2fetc%2fpasswd"),
        ("GET", "/proxy/dicom/wado/%2e%2e/system"),
        ("GET", "/proxy/dicom/wado/%252e%252e/system"),
        ("GET", "/session/..%5c..%5cx"),
        ("POST", "/infer/medreasoner?session_id=..%2fx"),
    ],
)
def test_names_that_climb_out_are_refused_everywhere(client, tmp_path, method, path) -> None:
    before = sorted(tmp_path.rglob("*"))
    response = client.request(method, path, files={"file": ("a.nii.gz", b"x"), "label": ("a", b"")})
    assert response.status_code == (404 if "proxy" in path else 422)
    assert "detail" in response.json()
    assert sorted(tmp_path.rglob("*")) == before


def test_whole_slide_routes_do_not_open_paths(client, secret) -> None:
    response = client.post(f"/infer/wsi_v2/medreasoner?image={secret.name}", json={})
    assert response.status_code == 404


# --- the log -------------------------------------------------------------------------------------


def test_questions_stay_out_of_the_log(client, pipeline, caplog, studies) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("monailabel", "monailabel_app"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    ask(client)
    with (studies / "case.nii.gz").open("rb") as file:
        client.put(
            "/datastore/label?image=case",
            data={"params": json.dumps({"query": QUERY})}, files={"label": ("l.nii.gz", file)},
        )  # fmt: skip
    pipeline.error = KeyError(f"no such thing: {QUERY}")
    assert ask(client).status_code == 500
    assert "KeyError" in caplog.text
    assert "bile" not in caplog.text


# --- the event loop and the line -----------------------------------------------------------------


def test_info_answers_while_an_inference_runs(client, pipeline) -> None:
    pipeline.proceed.clear()
    answers = []
    with client:  # one event loop for all requests
        thread = threading.Thread(target=lambda: answers.append(ask(client, output="json")))
        thread.start()
        assert pipeline.started.wait(WAIT_S)
        assert client.get("/info/").status_code == 200
        assert answers == []  # the inference is still held, and info has answered
        pipeline.proceed.set()
        thread.join(WAIT_S)
    assert answers[0].status_code == 200


def test_concurrent_questions_queue_and_a_full_line_says_so(make_app, pipeline) -> None:
    line = make_app(parallel_questions="1", max_waiting="1").answering._questions
    client = TestClient(monailabel.app.app, raise_server_exceptions=False)
    pipeline.proceed.clear()
    answers = []
    with client:
        threads = []
        for waiting in (0, 1):
            threads.append(
                threading.Thread(target=lambda: answers.append(ask(client, output="json")))
            )
            threads[-1].start()
            assert pipeline.started.wait(WAIT_S)
            for _ in range(WAIT_S * 100):
                if line.waiting == waiting:
                    break
                threading.Event().wait(0.01)
        refused = ask(client)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert "waiting" in refused.json()["detail"]
        pipeline.proceed.set()
        for thread in threads:
            thread.join(WAIT_S)
    assert [answer.status_code for answer in answers] == [200, 200]


def test_a_client_that_leaves_cancels_its_inference() -> None:
    class Gone:
        async def is_disconnected(self) -> bool:
            return True

    noticed = threading.Event()

    def work(cancelled) -> None:
        for _ in range(WAIT_S * 100):
            if cancelled():
                noticed.set()
                raise CancelledError("The inference was cancelled.")
            threading.Event().wait(0.01)

    with pytest.raises(CancelledError):
        asyncio.run(run_in_thread(Gone(), work))
    assert noticed.is_set()


def test_an_answer_that_its_reader_did_not_wait_for_is_not_recorded(make_app, pipeline) -> None:
    app, left = make_app(), threading.Event()

    pipeline.answered = left.set
    call = Call(ASK_TASK, app.site.image_source("case"), InferParams(query=QUERY))
    with pytest.raises(CancelledError):
        app.answering.answer(call, Hooks(cancelled=left.is_set))
    assert len(pipeline.asked) == 1
    listed = TestClient(monailabel.app.app).get("/medreasoner/inferences", params={"image": "case"})
    assert listed.json() == []


def test_the_routes_are_installed_once_however_often_the_app_is_built(make_app) -> None:
    make_app()
    count = len(monailabel.app.app.router.routes)
    make_app()
    assert len(monailabel.app.app.router.routes) == count


# --- records and labels --------------------------------------------------------------------------


def test_every_inference_can_be_read_back(client) -> None:
    ask(client)
    ask(client, "medreasoner_click", query="", foreground=[[1, 1, 1]])
    listed = client.get("/medreasoner/inferences", params={"image": "case"}).json()
    assert [(record["inference_id"], record["task"]) for record in listed] == [
        ("inference-2", "medreasoner_click"), ("inference-1", "medreasoner"),
    ]  # fmt: skip
    record = client.get("/medreasoner/inferences/inference-1").json()
    assert record["result"]["query"] == QUERY
    assert record["mask_kept"] is True


def test_the_recorded_mask_is_the_one_that_was_given(client, tmp_path) -> None:
    ask(client)
    (tmp_path / "m.nii.gz").write_bytes(
        client.get("/medreasoner/inferences/inference-1/mask").content
    )
    mask = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(mask.affine, AFFINE_RAS, atol=1e-4)
    assert np.argwhere(np.asarray(mask.dataobj)).tolist() == [[1, 2, 3]]


def test_an_unknown_record_is_not_found(client) -> None:
    response = client.get("/medreasoner/inferences/nobody")
    assert response.status_code == 404
    assert "recorded" in response.json()["detail"]


def test_a_submitted_label_is_joined_and_the_reply_says_how(client, make_app, tmp_path) -> None:
    mask = ask(client, output="image", result_extension=".nii.gz").content
    ask(client)
    for params, joined in (
        ({"label_info": [{"name": "x"}], "client_id": "slicer"}, ("inference-2", "overlap")),
        ({"inference_id": "inference-1"}, ("inference-1", "id")),
    ):
        reply = client.put(
            "/datastore/label?image=case&tag=final",
            data={"params": json.dumps(params)}, files={"label": ("l.nii.gz", mask)},
        ).json()  # fmt: skip
        assert reply["label"] == "case"
        # The one voxel (1, 2, 3) of a grid of 6 x 5 x 4 is number 103, I fastest.
        told = hashlib.sha256(b"103,1,16").hexdigest()
        assert reply["medreasoner"]["voxels_sha256"] == told
        assert (reply["medreasoner"]["inference_id"], reply["medreasoner"]["joined_by"]) == joined
    record = client.get("/medreasoner/inferences/inference-1").json()
    assert record["labels"][0]["tag"] == "final"
    (by_overlap, by_id) = make_app().site.records.labels_for_training()
    assert by_id.label_file.read_bytes() == mask
    assert by_overlap.label.joined_by.confidence == "probable"


@pytest.mark.parametrize(
    ("image", "params", "status"), [("nobody", "{}", 404), ("case", "{", 422), ("case", "[]", 422)]
)
def test_a_label_that_cannot_be_saved_says_why(client, image, params, status) -> None:
    response = client.put(
        f"/datastore/label?image={image}", data={"params": params},
        files={"label": ("l.nii.gz", b"x")},
    )  # fmt: skip
    assert response.status_code == status
    assert response.json()["detail"]


def test_many_labels_at_once_are_all_recorded(client, make_app) -> None:
    def label(number: int) -> bytes:
        mask = np.full(SHAPE_IJK, number + 1, np.uint8)
        return gzip.compress(nibabel.Nifti1Image(mask, AFFINE_RAS).to_bytes(), mtime=0)

    def submit(number: int) -> None:
        client.put(
            "/datastore/label?image=case", data={"params": json.dumps({"number": number})},
            files={"label": ("l.nii.gz", label(number))},
        )  # fmt: skip

    ask(client)
    with client:
        threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
    labels = make_app().site.records.get("inference-1").labels
    assert sorted((label.info["number"], label.file.read_bytes()) for label in labels) == [
        (number, label(number)) for number in range(8)
    ]


def test_an_image_is_downloaded_by_its_id_alone(client, studies) -> None:
    content = client.get("/datastore/image?image=case").content
    assert content == (studies / "case.nii.gz").read_bytes()
    assert client.get("/datastore/image?image=nobody").status_code == 404


def test_the_records_are_no_images_of_the_studies(client, studies) -> None:
    ask(client)
    assert (studies / ".medreasoner" / "records.sqlite").is_file()
    assert list(client.get("/datastore/?output=all").json()["objects"]) == ["case"]


def test_an_answer_is_saved_as_a_label_when_params_ask_for_it(client, studies) -> None:
    assert ask(client, save_label=True, label_tag="original").status_code == 200
    assert (studies / "labels" / "original" / "case.nii.gz").is_file()


def wait_for_batch(app) -> dict:
    deadline = time.monotonic() + WAIT_S
    while app.services.batch.status()["status"] == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.05)
    return app.services.batch.status()


def test_a_batch_asks_every_image_and_saves_the_answers(make_app, studies) -> None:
    (studies / "other.nii.gz").write_bytes((studies / "case.nii.gz").read_bytes())
    app = make_app()
    images = ["case", "gone", "other"]
    app.services.batch.start(Batch("medreasoner", images, InferParams(query=QUERY), "original"))
    status = wait_for_batch(app)
    assert status["status"] == "DONE"
    assert [line.split(":")[0] for line in status["details"]] == ["1 of 3", "2 of 3", "3 of 3"]
    assert "no image of this id" in status["details"][1]
    assert QUERY not in json.dumps(status)
    for image_id in ("case", "other"):
        info = app.datastore().get_label_info(image_id, "original")
        assert info["params"]["medreasoner"]["query"] == QUERY


def test_a_batch_can_be_stopped_and_runs_once_at_a_time(make_app, pipeline, studies) -> None:
    (studies / "other.nii.gz").write_bytes((studies / "case.nii.gz").read_bytes())
    app = make_app()
    batch = Batch("medreasoner", ["case", "other"], InferParams(query=QUERY), "original")
    pipeline.proceed.clear()
    app.services.batch.start(batch)
    assert pipeline.started.wait(WAIT_S)
    with pytest.raises(ConflictError):
        app.services.batch.start(batch)
    app.services.batch.stop()
    pipeline.proceed.set()
    assert wait_for_batch(app)["status"] == "STOPPED"
    assert len(pipeline.asked) == 1


def test_a_model_of_another_name_is_refused(make_app) -> None:
    with pytest.raises(UnknownTaskError, match="medreasoner, medreasoner_click"):
        require_model(make_app().services, "nothing")


# --- pages without a PACS ------------------------------------------------------------------------


def test_the_start_of_a_server_on_a_folder_leads_to_its_images(client) -> None:
    page = client.get("/")  # the client follows redirections
    assert page.status_code == 200
    assert page.url.path == "/medreasoner/studies"
    assert "case" in page.text
    assert "OHIF viewer needs a PACS" in page.text
    assert re.findall(r"https?://(?!…)", page.text) == []  # nothing comes from elsewhere
    (thumbnail,) = re.findall(r'src="(/medreasoner/studies/thumbnail[^"]+)"', page.text)
    picture = Image.open(io.BytesIO(client.get(html.unescape(thumbnail)).content))
    # 6 x 2 mm by 5 x 1.5 mm.
    assert picture.size == (320, 200)


def test_a_question_is_asked_on_the_page_of_an_image_and_the_answer_drawn(client) -> None:
    address = "/medreasoner/studies/image?image=case"
    assert "Nothing has been asked yet." in client.get(address).text
    page = client.post(address, data={"query": "<b>Bile?</b>"})
    assert page.status_code == 200
    assert page.history[0].status_code == 303
    assert "&lt;b&gt;Bile?" in page.text
    assert "<b>Bile" not in page.text
    assert "The gallbladder stores it." in page.text
    overlay = client.get("/medreasoner/studies/overlay?inference=inference-1")
    assert overlay.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(overlay.content)).width > 200


def test_a_question_that_fails_is_answered_on_the_page(client, pipeline) -> None:
    pipeline.error = ModelUnavailableError("The model is not here.")
    page = client.post("/medreasoner/studies/image?image=case", data={"query": "Bile?"})
    assert page.status_code == 422
    assert "The model is not here." in page.text
    assert client.get("/medreasoner/studies/image?image=nobody").status_code == 404
