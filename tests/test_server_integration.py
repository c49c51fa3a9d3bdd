# SPDX-License-Identifier: Apache-2.0
"""The sample app in a real server on real images, asked through MONAI Label's own client."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

pytest.importorskip("monailabel")

from monailabel.client import MONAILabelClient
from support.servers import ServerProcess, free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
BATCH_TIMEOUT_S = 180.0
QUERY = "Which organ makes bile and fills the right upper abdomen?"


@dataclass(frozen=True)
class Server:
    """A running server; ``studies`` holds a NIfTI CT ``ct``, and two DICOM series."""

    url: str
    studies: Path
    log: Path
    scratch: Path

    @property
    def client(self) -> MONAILabelClient:
        return MONAILabelClient(self.url, tmpdir=str(self.scratch), client_id="test")

    def infer(self, model: str, image: str, output: str, **params: object) -> httpx.Response:
        return httpx.post(
            f"{self.url}/infer/{model}", params={"image": image, "output": output},
            data={"params": json.dumps(params)}, timeout=300,
        )  # fmt: skip


def make_studies(folder: Path, shared: Path) -> None:
    from monailabel_app.cli.quickstart_study import write_quickstart_study

    folder.mkdir()
    shutil.copyfile(shared / "totalsegmentator" / "example_ct.nii.gz", folder / "ct.nii.gz")
    shutil.copytree(shared / "totalsegmentator" / "example_ct_dicom", folder / "real" / "ct")
    write_quickstart_study(folder)


class AppServer(ServerProcess):
    """MONAI Label's own command with an app."""

    def __init__(self, app: Path, studies: Path | str, log: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app)]
        command += ["--studies", str(studies), "--host", "127.0.0.1", "--port", str(port)]
        super().__init__(command, f"http://127.0.0.1:{port}", "/info/", log)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """With the environment's programs, which MONAI Label looks for on the path."""
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        super().start({"PATH": programs, **(environment or {})})


@pytest.fixture(scope="module")
def server(shared_data: Path, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    ignored = shutil.ignore_patterns("logs", "model", "lib", "bin", "__pycache__")
    shutil.copytree(ROOT / "sample_apps" / "quickstart", folder / "app", ignore=ignored)
    make_studies(folder / "studies", shared_data)
    (folder / "scratch").mkdir()
    process = AppServer(folder / "app", folder / "studies", folder / "log")
    process.start({"MEDREASONER_ADMIN_ROUTES": "1"})
    yield Server(process.url, folder / "studies", folder / "log", folder / "scratch")
    process.stop()


def dicom_images(server: Server) -> dict[str, dict]:
    objects = server.client.datastore()["objects"]
    return {
        i: o["image"]["info"] for i, o in objects.items() if "dicom_folder" in o["image"]["info"]
    }


def phantom_id(server: Server) -> str:
    images = dicom_images(server)
    return next(i for i, info in images.items() if info["dicom_folder"].startswith("phantom"))


def assert_same_grid(mask: Path | str, image: Path | str) -> None:
    mask_image, reference = sitk.ReadImage(str(mask)), sitk.ReadImage(str(image))
    assert mask_image.GetSize() == reference.GetSize()
    np.testing.assert_allclose(mask_image.GetOrigin(), reference.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(mask_image.GetSpacing(), reference.GetSpacing(), atol=1e-5)
    np.testing.assert_allclose(mask_image.GetDirection(), reference.GetDirection(), atol=1e-5)


def centre_of(image: Path | str) -> list[int]:
    return [size // 2 for size in sitk.ReadImage(str(image)).GetSize()]


def test_the_list_holds_the_file_and_both_series(server) -> None:
    objects = server.client.datastore()["objects"]
    assert "ct" in objects
    assert len(dicom_images(server)) == 2


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz"])
def test_a_question_about_a_nifti_is_answered_on_its_grid(server, extension) -> None:
    params = {"query": QUERY, "result_extension": extension, "result_dtype": "uint8"}
    mask, body = server.client.infer("medreasoner", "ct", params)
    assert_same_grid(mask, server.studies / "ct.nii.gz")
    values = sitk.GetArrayFromImage(sitk.ReadImage(mask))
    assert set(np.unique(values)) <= {0, 1}
    result = body["medreasoner"]
    assert result["query"] == QUERY
    assert result["reasoning"]
    assert result["mask"]["voxels"] == values.sum()
    assert result["present"] == bool(values.any())


def test_every_output_of_a_question_about_a_dicom_series(server) -> None:
    image_id = phantom_id(server)
    copy = server.scratch / "phantom.nii.gz"
    copy.write_bytes(
        httpx.get(f"{server.url}/datastore/image", params={"image": image_id}, timeout=60).content
    )
    body = server.infer("medreasoner", image_id, "json", query=QUERY).json()
    assert body["medreasoner"]["modality"] == "CT"
    assert body["medreasoner"]["slice"]["window_width"]
    image = server.infer("medreasoner", image_id, "image", query=QUERY, result_extension=".nrrd")
    mask = server.scratch / "phantom_mask.nrrd"
    mask.write_bytes(image.content)
    assert_same_grid(mask, copy)
    combined = server.infer("medreasoner", image_id, "all", query=QUERY)
    assert combined.headers["content-type"].startswith("multipart/form-data")
    assert b'"present"' in combined.content


def test_a_dicom_segmentation_refers_to_the_series_and_claims_no_organ(server) -> None:
    image_id = phantom_id(server)
    source = server.studies / dicom_images(server)[image_id]["dicom_folder"]
    response = server.infer(
        "medreasoner_click", image_id, "dicom_seg", foreground=[[80, 128, 60]], background=[]
    )
    assert response.status_code == 200, response.text
    path = server.scratch / "seg.dcm"
    path.write_bytes(response.content)
    segmentation = pydicom.dcmread(path)
    assert segmentation.SOPClassUID.name == "Segmentation Storage"
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == image_id
    assert (
        segmentation.FrameOfReferenceUID
        == pydicom.dcmread(
            next(source.iterdir()), specific_tags=["FrameOfReferenceUID"]
        ).FrameOfReferenceUID
    )
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert segmentation.pixel_array.any()


def test_clicks_segment_on_the_clicked_slice_alone(server) -> None:
    i, j, k = centre_of(server.studies / "ct.nii.gz")
    params = {"foreground": [[i, j, k]], "background": [], "result_extension": ".nii.gz"}
    mask, body = server.client.infer("medreasoner_click", "ct", params)
    assert_same_grid(mask, server.studies / "ct.nii.gz")
    values = np.asarray(nibabel.load(mask).dataobj)
    assert np.unique(np.nonzero(values)[2]).tolist() == [k]
    assert body["medreasoner"]["prompts"]["points_ijk"] == [[i, j, k]]
    assert body["reasoning"] is None


def test_a_position_in_the_patient_chooses_the_slice(server) -> None:
    image = sitk.ReadImage(str(server.studies / "ct.nii.gz"))
    position = image.TransformIndexToPhysicalPoint((50, 50, 33))
    text = ",".join(f"{value:.3f}" for value in position)
    body = server.infer("medreasoner", "ct", "json", query=QUERY, position=text, plane="axial")
    assert body.json()["medreasoner"]["slice"]["index"] == 33


def test_a_real_series_with_empty_identifiers_is_answered(server) -> None:
    image_id = next(i for i in dicom_images(server) if i.startswith("series-"))
    body = server.infer("medreasoner", image_id, "json", query=QUERY, slice=10).json()
    assert body["medreasoner"]["slice"]["index"] == 10
    assert any("empty" in warning for warning in body["warnings"])


def test_the_server_answers_while_it_infers(server) -> None:
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(
            server.infer("medreasoner", phantom_id(server), "json", query=QUERY, propagate=True)
        )

    thread = threading.Thread(target=ask)
    thread.start()
    answered_meanwhile = 0
    while thread.is_alive():
        httpx.get(f"{server.url}/info/", timeout=60).raise_for_status()
        answered_meanwhile += not answers
    assert answers[0].status_code == 200
    assert answered_meanwhile > 1


def test_a_submitted_label_is_joined_to_its_inference(server) -> None:
    mask, body = server.client.infer(
        "medreasoner_click", "ct", {"foreground": [[50, 60, 56]], "background": []}
    )
    reply = server.client.save_label("ct", mask, "final", {"label_info": body["label_info"]})
    assert reply["medreasoner"]["inference_id"] == body["inference_id"]
    assert reply["medreasoner"]["joined_by"] == "id"
    record = httpx.get(f"{server.url}/medreasoner/inferences/{body['inference_id']}").json()
    assert record["task"] == "medreasoner_click"
    assert [label["tag"] for label in record["labels"]] == ["final"]
    listed = httpx.get(f"{server.url}/medreasoner/inferences", params={"image": "ct"}).json()
    assert body["inference_id"] in [entry["inference_id"] for entry in listed]


def test_faults_of_the_caller_are_sentences(server) -> None:
    refused = server.infer("medreasoner", "ct", "json", query=QUERY, slice=9999)
    assert refused.status_code == 422
    assert "9999" in refused.json()["detail"]
    assert server.infer("medreasoner", "../ct", "json", query=QUERY).status_code == 422


def test_the_log_holds_no_question(server) -> None:
    server.infer("medreasoner", "ct", "json", query="purple elephant under the diaphragm?")
    assert "Uvicorn running" in server.log.read_text()
    assert "elephant" not in server.log.read_text()


def test_a_batch_asks_one_question_of_every_image_without_logging_it(server) -> None:
    request = {"query": "Which organ hides the purple elephant?", "save_label": True}
    httpx.post(f"{server.url}/batch/infer/medreasoner", json=request).raise_for_status()
    deadline = time.monotonic() + BATCH_TIMEOUT_S
    status = {"status": "RUNNING"}
    while status["status"] in {"SUBMITTED", "RUNNING"} and time.monotonic() < deadline:
        time.sleep(1)
        status = httpx.get(f"{server.url}/batch/infer").json()
    assert status["status"] == "DONE"
    objects = server.client.datastore()["objects"]
    assert all("original" in entry["labels"] for entry in objects.values())
    assert "elephant" not in server.log.read_text()


def test_records_outlive_a_killed_server(server, tmp_path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    shutil.copyfile(server.studies / "ct.nii.gz", studies / "ct.nii.gz")
    app = tmp_path / "app"
    shutil.copytree(ROOT / "sample_apps" / "quickstart", app)
    process = AppServer(app, studies, tmp_path / "log")
    process.start()
    click = {"foreground": [[50, 60, 56]], "background": []}
    mortal = Server(process.url, studies, tmp_path / "log", tmp_path)
    inference_id = mortal.infer("medreasoner_click", "ct", "json", **click).json()["inference_id"]
    process.kill()
    process.start()
    try:
        record = httpx.get(f"{process.url}/medreasoner/inferences/{inference_id}").json()
        assert record["mask_kept"] is True
    finally:
        process.stop()


def test_a_series_in_a_pacs_is_asked_about_and_its_label_stored_there(orthanc, tmp_path) -> None:
    from monailabel_app.cli.quickstart_study import write_quickstart_study

    app = tmp_path / "app"
    shutil.copytree(ROOT / "sample_apps" / "quickstart", app)
    for path in write_quickstart_study(tmp_path / "study").iterdir():
        orthanc.store(path.read_bytes())
    process = AppServer(app, orthanc.dicom_web, tmp_path / "log")
    home, cache = str(tmp_path / "home"), str(tmp_path / "cache")
    process.start({"MEDREASONER_HOME": home, "MONAI_LABEL_DICOMWEB_CACHE_PATH": cache})
    try:
        image_id = str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID)
        server = Server(process.url, tmp_path, tmp_path / "log", tmp_path)
        params = {"query": QUERY, "result_extension": ".nii.gz"}
        mask, body = server.client.infer("medreasoner", image_id, params)
        assert body["present"] is True
        copy = tmp_path / "copy.nii.gz"
        copy.write_bytes(
            httpx.get(f"{process.url}/datastore/image", params={"image": image_id}).content
        )
        assert_same_grid(mask, copy)
        submitted = {"label_info": body["label_info"]}
        reply = server.client.save_label(image_id, mask, "final", submitted)
        assert reply["medreasoner"]["inference_id"] == body["inference_id"]
        query = {"Level": "Series", "Query": {"Modality": "SEG"}, "Expand": True}
        (stored,) = httpx.post(f"{orthanc.url}/tools/find", json=query).json()
        content = httpx.get(f"{orthanc.url}/instances/{stored['Instances'][0]}/file").content
        segmentation = pydicom.dcmread(io.BytesIO(content))
        assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == image_id
        assert segmentation.pixel_array.sum() == body["medreasoner"]["mask"]["voxels"]
        assert server.infer("medreasoner", "1.2.3", "json", query=QUERY).status_code == 404
    finally:
        process.stop()
