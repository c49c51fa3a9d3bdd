# SPDX-License-Identifier: Apache-2.0
"""From labels submitted to the app's own server to a data set without patient identifiers."""

from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("datasets")

import monailabel.app
from fastapi.testclient import TestClient
from monailabel.config import settings
from monailabel.interfaces.utils import app as app_registry
from typer.testing import CliRunner

from medreasoner_infer.result import (
    FollowUp,
    InferenceResult,
    MaskSummary,
    PromptRecord,
    SliceChoice,
    SliceRecord,
)
from medreasoner_infer.types import EarlierTarget, ModelIdentity
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.samples import (
    TRAIN,
    VALIDATION,
    DatasetFolderError,
    NoSamplesError,
    SampleDataset,
    SampleSettings,
    TooFewPatientsError,
    open_dataset,
)
from monailabel_app.app import MedReasonerApp
from monailabel_app.cli.app import app as cli
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.export import approved, cases
from monailabel_app.export.exporting import UNREADABLE, ExportSettings, export_studies
from monailabel_app.export.identity import PatientIdentity
from monailabel_app.export.salt import SALT_NAME, site_salt

SHAPE_IJK = (24, 20, 16)
GRID = CtGrid((2.0, 2.0, 5.0), (-20.0, 7.0, 100.0), np.eye(3))
QUERY = "Which organ makes bile?"
PATIENTS = {"4711": "Doe^Johanna", "4712": "Roe^Richard", "4713": "Poe^Edgar"}
TEXTS = {target.name: target for target in known_targets().values()}
SMALL = ExportSettings(0.4, SampleSettings(model_size=112, min_area_px=20, max_slices=4))


class ToyPipeline:
    """Answers every question with a mask of one voxel on slice 9, in a window of its own."""

    def __init__(self) -> None:
        self.asked = 0
        self.understands = True
        self.follow_up = None

    def ask(self, volume, request, hooks) -> InferenceResult:
        self.asked += 1
        mask = np.zeros(volume.shape_ijk, np.uint8)
        mask[5, 5, 9] = self.understands
        model = ModelIdentity("toy", "packaged", None, "ab" * 32, "Apache-2.0")
        return InferenceResult(
            inference_id=f"inference-{self.asked}",
            created_at=f"2026-01-02T03:04:{self.asked:02d}.000+00:00",
            kind="ask",
            query=request.query,
            reasoning="A bright organ on the left of the image.",
            completion=None,
            present=self.understands,
            outcome=None if self.understands else "not_understood",
            confidence=None,
            agreement=None,
            samples=(),
            prompts=PromptRecord(
                (4.0, 7.0, 12.0, 10.0),
                None,
                None,
                "reasoner",
                ((5.0, 8.0),),
                (),
                ((1.0, 2.0, 3.0),),
                (1,),
                ("reader",),
            ),
            slice=SliceRecord(
                "coronal", 9, 20, (16, 24), (2.0, 5.0), (0.0, 0.0, 0.0), "", 60.0, 300.0
            ),
            slice_choice=SliceChoice("index", "Slice 9."),
            propagated=False,
            mask_ijk=mask,
            mask=MaskSummary(1, 20.0, 4.0, (9, 9), 0.9),
            modality=volume.modality,
            reasoner=model,
            segmenter=model,
            timings_s={},
            follow_up=self.follow_up,
        )


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Three patients with a DICOM series each."""
    rng = np.random.default_rng(5)
    for seed, (patient_id, name) in enumerate(PATIENTS.items()):
        hu = rng.integers(-100, 150, SHAPE_IJK[::-1])
        folder = write_ct_series(hu, GRID, tmp_path / "studies" / f"s{seed}", seed)
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            header.PatientID, header.PatientName = patient_id, name
            header.PatientBirthDate = "19610203"
            header.save_as(path)
    return tmp_path / "studies"


@pytest.fixture
def pipeline() -> ToyPipeline:
    return ToyPipeline()


@pytest.fixture
def client(monkeypatch, tmp_path: Path, studies: Path, pipeline: ToyPipeline) -> TestClient:
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
    monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
    monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", str(tmp_path / "app"))
    monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))
    app = MedReasonerApp(str(tmp_path / "app"), str(studies), {}, pipeline=pipeline)
    monkeypatch.setitem(app_registry.apps, f"{tmp_path / 'app'}{studies}", app)
    return TestClient(monailabel.app.app, raise_server_exceptions=False)


@pytest.fixture
def images(studies: Path, client) -> dict[str, str]:
    """Image id of each patient."""
    found = {}
    for path in studies.glob("s*/0001.dcm"):
        header = pydicom.dcmread(path)
        found[str(header.PatientID)] = str(header.SeriesInstanceUID)
    return found


def blob(value: int = 1, at: int = 4) -> np.ndarray:
    """A block of 8 x 6 x 3 voxels with thinner ends, on the slices 5 to 9."""
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[at : at + 8, 3:9, 6:9] = value
    labels[at + 3 : at + 5, 5:7, 5:10] = value
    return labels


def label_file(labels_ijk: np.ndarray, affine_ras: np.ndarray | None = None) -> bytes:
    if affine_ras is None:
        affine_ras = np.diag([-2.0, -2.0, 5.0, 1.0])
        affine_ras[:3, 3] = (20.0, -7.0, 100.0)
    return nibabel.Nifti1Image(labels_ijk, affine_ras).to_bytes()


def submit(client, image, labels_ijk, tag="final", content=None, **info) -> dict:
    response = client.put(
        "/datastore/label",
        params={"image": image, "tag": tag},
        data={"params": json.dumps(info)},
        files={"label": ("label.nii", content or label_file(labels_ijk))},
    )
    assert response.status_code == 200, response.text
    return response.json()


def ask(client, image: str, query: str = QUERY) -> str:
    response = client.post(
        "/infer/medreasoner",
        params={"image": image, "output": "json"},
        data={"params": json.dumps({"query": query})},
    )
    return response.json()["inference_id"]


def named(name: str, value: int = 1) -> list[dict]:
    return [{"name": name, "idx": value}]


def export(studies: Path, out: Path, settings: ExportSettings = SMALL) -> SampleDataset:
    return export_studies(str(studies), out, settings)


def rows_of(dataset: SampleDataset) -> list[dict]:
    return [row for split in dataset.manifest.splits for row in dataset.load(split)]


def left_out(dataset: SampleDataset) -> dict[tuple[str, str], int]:
    return {(e.label_name, e.reason): e.count for e in dataset.manifest.left_out}


@pytest.fixture
def three_livers(client, images) -> None:
    for image in images.values():
        submit(client, image, blob(), label_info=named("Liver"))


def test_final_labels_become_samples_on_the_letterboxed_slice(studies, three_livers, tmp_path):
    dataset = export(studies, tmp_path / "set")
    present = [row for row in rows_of(dataset) if row["extra_info"]["present"]]
    assert len(present) == 3 * 4
    middle = [row for row in present if row["extra_info"]["slice_index"] == 8]
    assert middle
    for row in middle:
        # 24 x 20 pixels in a square of 112: 93 px high, 9 px of padding on top.
        truth = json.loads(row["reward_model"]["ground_truth"])
        assert truth["bbox_2d"] == [19, 23, 56, 51]
        assert row["extra_info"]["plane"] == "axial"
        assert row["extra_info"]["query_source"] == "template"
        assert row["extra_info"]["inference_id"] is None


def test_validation_patients_are_asked_held_out_questions(studies, three_livers, tmp_path):
    dataset = export(studies, tmp_path / "set")
    liver = TEXTS["liver"]
    for split, texts in ((TRAIN, liver.trained), (VALIDATION, liver.held_out)):
        rows = dataset.load(split)
        assert {row["prompt"][0]["content"] for row in rows} <= set(texts)
        assert rows.num_rows


def test_slices_beyond_the_target_are_absent(studies, three_livers, tmp_path):
    dataset = export(studies, tmp_path / "set")
    absent = [row for row in rows_of(dataset) if not row["extra_info"]["present"]]
    assert len(absent) == 3 * 2
    for row in absent:
        assert row["reward_model"]["ground_truth"] == "null"
        assert row["extra_info"]["slice_index"] <= 3 or row["extra_info"]["slice_index"] >= 11


def test_a_label_that_the_reviewer_has_not_approved_is_left_out(
    client, studies, images, three_livers, tmp_path
):
    for patient, status in (("4711", "flagged"), ("4712", "approved")):
        response = client.put(
            "/datastore/label/info",
            params={"label": images[patient], "tag": "final"},
            data={"info": json.dumps({"segmentationMeta": {"status": status, "level": "easy"}})},
        )
        assert response.status_code == 200
    dataset = export(studies, tmp_path / "set")
    assert left_out(dataset) == {("", approved.NOT_APPROVED): 1}
    assert sum(split.patients for split in dataset.manifest.splits.values()) == 2


@pytest.mark.parametrize("status", ["flagged", "segmented", "not segmented"])
def test_only_no_status_and_approved_count(status):
    assert not approved.is_approved({"segmentationMeta": {"status": status}})
    assert approved.is_approved({"segmentationMeta": {"status": "approved"}})
    assert approved.is_approved({"segmentationMeta": {"status": ""}})
    assert approved.is_approved({"label_info": []})


def test_a_label_that_is_not_final_is_not_exported(client, studies, images, tmp_path):
    for image in images.values():
        submit(client, image, blob(), tag="original", label_info=named("Liver"))
    with pytest.raises(TooFewPatientsError, match="no approved label"):
        export(studies, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_label_that_answers_a_question_keeps_question_plane_window_and_reasoning(
    client, studies, images, three_livers, tmp_path
):
    image = images["4711"]
    inference_id = ask(client, image)
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[4:12, 9, 6:9] = 1
    reply = submit(client, image, labels, inference_id=inference_id)
    assert reply["medreasoner"]["joined_by"] == "id"
    joined = [
        row for row in rows_of(export(studies, tmp_path / "set"))
        if row["extra_info"]["inference_id"] == inference_id
    ]  # fmt: skip
    (row,) = joined
    extra = row["extra_info"]
    assert row["prompt"][0]["content"] == QUERY
    assert (extra["query_source"], extra["plane"], extra["slice_index"]) == ("reader", "coronal", 9)
    assert extra["reasoning"] == "A bright organ on the left of the image."
    assert "C 60 / W 300" in extra["window"]
    assert json.loads(extra["prompts"]) == {
        "bbox_xyxy_slice_px": [4.0, 7.0, 12.0, 10.0], "bbox_source": "reasoner",
        "points_xy_slice_px": [[5.0, 8.0]], "point_labels": [1], "point_sources": ["reader"],
    }  # fmt: skip
    # 48 x 80 mm in a square of 112 px: 1.4 px per mm, 67 px wide with 22 px on the left; K = 6...8
    # lies 7 to 10 slices of 7 px below the top.
    truth = json.loads(row["reward_model"]["ground_truth"])
    assert truth["bbox_2d"] == [33, 49, 55, 70]


@pytest.mark.parametrize("marked", [False, True])
def test_a_question_not_understood_never_becomes_an_absent_sample(
    client, studies, images, three_livers, pipeline, tmp_path, marked
):
    pipeline.understands = False
    inference_id = ask(client, images["4711"])
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[4:12, 9, 6:9] = marked
    submit(client, images["4711"], labels, inference_id=inference_id)
    dataset = export(studies, tmp_path / "set", ExportSettings(0.0, SMALL.samples))
    # Not by its words, which a template may have as well.
    rows = [r for r in rows_of(dataset) if r["extra_info"]["query_source"] == "reader"]
    # What the reader has marked instead is present; the trace says that nothing was understood.
    said = [(row["extra_info"]["present"], row["extra_info"]["reasoning"]) for row in rows]
    assert said == [(True, None)] * marked
    assert left_out(dataset) == ({} if marked else {("", cases.EMPTY): 1})


def test_a_question_that_means_nothing_by_itself_is_not_exported(
    client, studies, images, three_livers, pipeline, tmp_path
):
    pipeline.follow_up = FollowUp(EarlierTarget("liver", "coronal", 8), used=True)
    inference_id = ask(client, images["4711"], "And its left lobe?")
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[4:12, 9, 6:9] = 1
    submit(client, images["4711"], labels, inference_id=inference_id, label_info=named("Liver"))
    rows = rows_of(export(studies, tmp_path / "set"))
    assert {row["extra_info"]["query_source"] for row in rows} == {"template"}
    assert all("left lobe" not in row["prompt"][0]["content"] for row in rows)


def test_earlier_questions_about_an_image_are_exported_too(client, studies, images, tmp_path):
    first, second = (ask(client, images["4711"], text) for text in ("Where?", "Which?"))
    labels = np.zeros(SHAPE_IJK, np.uint8)
    labels[4:12, 9, 6:9] = 1
    for inference_id in (first, second):
        submit(client, images["4711"], labels, inference_id=inference_id)
        labels[12:16, 9, 6:9] = 1
    submit(client, images["4712"], blob(), label_info=named("Liver"))
    rows = rows_of(export(studies, tmp_path / "set"))
    texts = {r["extra_info"]["inference_id"]: r["prompt"][0]["content"] for r in rows}
    assert {first: "Where?", second: "Which?"}.items() <= texts.items()


def test_segments_are_targets_of_their_own_and_unknown_names_are_counted(
    client, studies, images, three_livers, tmp_path
):
    labels = blob(2) + np.where(blob(1, at=14) & ~(blob() > 0), 5, 0).astype(np.uint8)
    info = [*named("spleen", 2), *named("vessel tree", 5)]
    submit(client, images["4713"], labels, label_info=info)
    dataset = export(studies, tmp_path / "set")
    assert left_out(dataset) == {("vessel tree", cases.NO_TEMPLATE): 1}
    assert {row["extra_info"]["category"] for row in rows_of(dataset)} == {"Liver", "spleen"}


def test_a_label_on_another_grid_is_placed_by_its_position(client, studies, images, tmp_path):
    for image in images.values():
        affine = np.diag([-2.0, -2.0, 5.0, 1.0])
        affine[:3, 3] = (20.0, -7.0, 100.0 + 5 * 5.0)
        content = label_file(blob()[:, :, 5:10], affine)
        submit(client, image, None, content=content, label_info=named("Liver"))
    rows = rows_of(export(studies, tmp_path / "set"))
    boxes = {
        row["extra_info"]["slice_index"]: json.loads(row["reward_model"]["ground_truth"])
        for row in rows
    }
    assert boxes[8]["bbox_2d"] == [19, 23, 56, 51]


def test_an_empty_label_is_counted(client, studies, images, three_livers, tmp_path):
    submit(client, images["4711"], np.zeros(SHAPE_IJK, np.uint8), label_info=named("Liver"))
    dataset = export(studies, tmp_path / "set", ExportSettings(0.0, SMALL.samples))
    assert left_out(dataset) == {("", cases.EMPTY): 1}
    assert dataset.manifest.splits[TRAIN].patients == 2


def test_a_damaged_label_and_a_damaged_header_stop_nothing(
    client, studies, images, three_livers, tmp_path
):
    (studies / "labels" / "final" / f"{images['4711']}.nii").write_bytes(b"no image")
    (studies / "s1" / "0000.dcm").write_bytes(b"\0" * 128 + b"DICM\x02\0\0\0UL\4")
    dataset = export(studies, tmp_path / "set", ExportSettings(0.0, SMALL.samples))
    assert left_out(dataset) == {("", UNREADABLE): 1}
    assert dataset.manifest.splits[TRAIN].patients == 2


def test_if_nothing_is_usable_the_error_says_why(client, studies, images, tmp_path):
    for image in images.values():
        submit(client, image, blob(), label_info=named("vessel tree"))
    with pytest.raises(NoSamplesError, match=f"3 times: {cases.NO_TEMPLATE}"):
        export(studies, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_no_patient_stands_in_two_splits(client, studies, images, three_livers, tmp_path):
    """A second series of a patient, with other pixels and UIDs, goes where the first one is."""
    for seed, patient in enumerate(PATIENTS, start=10):
        hu = np.random.default_rng(seed).integers(-100, 150, SHAPE_IJK[::-1])
        folder = write_ct_series(hu, GRID, studies / f"s{seed}", seed)
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            header.PatientID = patient
            header.save_as(path)
    store = monailabel_app_instance()
    store.refresh()
    for image in set(store.list_images()) - set(images.values()):
        submit(client, image, blob(), label_info=named("Liver"))
    dataset = export(studies, tmp_path / "set")
    of_split = {
        split: {row["extra_info"]["patient_key"] for row in dataset.load(split)}
        for split in (TRAIN, VALIDATION)
    }
    assert not of_split[TRAIN] & of_split[VALIDATION]
    assert len(of_split[TRAIN] | of_split[VALIDATION]) == 3
    assert len({row["extra_info"]["case_key"] for row in rows_of(dataset)}) == 6


def monailabel_app_instance():
    from monailabel.interfaces.utils.app import app_instance

    return app_instance().datastore()


def test_one_patient_is_too_few_and_a_share_of_nothing_helps(client, studies, images, tmp_path):
    submit(client, images["4711"], blob(), label_info=named("Liver"))
    with pytest.raises(TooFewPatientsError, match="from 1 patient"):
        export(studies, tmp_path / "set")
    dataset = export(studies, tmp_path / "set", ExportSettings(0.0, SMALL.samples))
    assert list(dataset.manifest.splits) == [TRAIN]


# --- privacy -------------------------------------------------------------------------------------


def test_no_identifier_is_anywhere_in_the_folder(client, studies, images, three_livers, tmp_path):
    for patient, image in images.items():
        inference_id = ask(client, image, f"Is this the liver of {PATIENTS[patient][:3]}?")
        submit(client, image, blob(), inference_id=inference_id)
    inference_id = ask(client, images["4711"])
    submit(client, images["4711"], blob(), inference_id=inference_id)
    dataset = export(studies, tmp_path / "set", ExportSettings(0.0, SMALL.samples))
    assert left_out(dataset)[cases.HIDDEN, cases.NAMES_PATIENT] == 3
    forbidden = {"19610203", str(studies), *images.values()}
    forbidden |= {"Doe", "Johanna", "Roe", "Richard", "Poe", "Edgar", *PATIENTS}
    for path in studies.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        forbidden |= {str(header.StudyInstanceUID), str(header.SOPInstanceUID)}
    stored = b"".join(path.read_bytes() for path in dataset.folder.rglob("*") if path.is_file())
    # The columns are compressed on disk, so they are searched as they are read, too.
    texts = json.dumps([{k: v for k, v in row.items() if k not in ("images", "masks")}
                        for row in rows_of(dataset)])  # fmt: skip
    names = " ".join(path.name for path in dataset.folder.rglob("*"))
    for text in forbidden - set(PATIENTS):
        assert text.encode() not in stored
        assert text not in texts + names
    for number in PATIENTS:  # four digits occur in hashes by chance; as words they must not
        assert not PatientIdentity("", (number,)).occurs_in(texts + names)


def test_pictures_hold_pixels_only(studies, three_livers, tmp_path):
    from PIL import Image
    from pyarrow.parquet import read_table

    dataset = export(studies, tmp_path / "set")
    rows = [row for name in dataset.manifest.files
            for row in read_table(dataset.folder / name).to_pylist()]  # fmt: skip
    assert rows
    for row in rows:
        for stored in (*row["images"], *row["masks"]):
            assert stored["path"] is None
            assert Image.open(io.BytesIO(stored["bytes"])).info == {}


def test_pseudonyms_need_the_sites_secret(studies, three_livers, tmp_path):
    first, second = (rows_of(export(studies, tmp_path / name)) for name in ("one", "two"))
    assert [r["extra_info"] for r in first] == [r["extra_info"] for r in second]
    salt = studies / ".medreasoner" / SALT_NAME
    assert salt.stat().st_mode & 0o077 == 0
    salt.unlink()
    third = rows_of(export(studies, tmp_path / "three"))
    keys = [{r["extra_info"]["patient_key"] for r in rows} for rows in (first, third)]
    assert not keys[0] & keys[1]


def test_all_who_ask_for_the_sites_secret_first_get_the_same(tmp_path):
    readers = 16
    for attempt in range(20):
        ready = threading.Barrier(readers)

        def ask(_, folder=tmp_path / str(attempt), ready=ready):
            ready.wait()
            return site_salt(folder)

        with ThreadPoolExecutor(readers) as pool:
            assert len(set(pool.map(ask, range(readers)))) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Where is Johanna's liver?", True),
        ("Patient 4711: which organ makes bile?", True),
        ("born 1961-02-03, which organ?", True),
        ("Which organ weighs 47110 g?", False),
        ("Which organ does it?", False),
        (None, False),
    ],
)
def test_a_text_that_names_the_patient_is_recognised(text, found):
    parts = ("Doe", "Johanna", "4711", "1961-02-03")
    assert PatientIdentity("4711", parts).occurs_in(text) is found


# --- the command ---------------------------------------------------------------------------------


def test_the_command_writes_the_data_set_and_says_what_it_holds(studies, three_livers, tmp_path):
    from typer.testing import CliRunner

    from monailabel_app.cli.app import app

    out = tmp_path / "set"
    options = ["--model-size", "112", "--max-slices", "2", "--max-absent-slices", "0"]
    command = ["export", "--studies", str(studies), "--out", str(out), "--val-share", "0.4"]
    result = CliRunner().invoke(app, [*command, *options])
    assert result.exit_code == 0, result.output
    assert "6 samples written" in result.output.replace("\n", " ")
    assert "Liver" in result.output
    assert open_dataset(out).manifest.rows == 6
    again = CliRunner().invoke(app, [*command, *options])
    assert isinstance(again.exception, DatasetFolderError)


@pytest.mark.slow
def test_a_site_is_evaluated_on_its_own_approved_masks(studies, three_livers, tmp_path):
    out = tmp_path / "report"
    command = ["evaluate", str(studies), "--out", str(out), "--limit", "4", "--resamples", "100"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    assert report["questions"] == 4
    assert [group["name"] for group in report["groups"]["category"]] == ["Liver"]
    (out / "predictions.parquet").unlink()
    written = (out / "data_set" / "manifest.json").stat().st_mtime_ns
    assert CliRunner().invoke(cli, command).exit_code == 0  # goes on with the masks of before
    assert (out / "data_set" / "manifest.json").stat().st_mtime_ns == written
