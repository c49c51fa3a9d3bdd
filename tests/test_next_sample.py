# SPDX-License-Identifier: Apache-2.0
"""The next image to label, asked for as 3D Slicer's and OHIF's clients of MONAI Label do."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

pytest.importorskip("monailabel")

import monailabel.app
import monailabel.interfaces.utils.app as app_registry
from fastapi.testclient import TestClient
from monailabel.client.client import MONAILabelClient
from monailabel.config import settings
from support.results import make_result

from medreasoner_infer.doubt_record import Doubt
from medreasoner_infer.imaging import Plane
from medreasoner_training.next_case import Strategy
from monailabel_app.app import MedReasonerApp
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.site.opening import open_records
from monailabel_app.site.paths import SitePaths
from monailabel_app.store import RecordStore
from monailabel_app.strategies.looks import FOLDER_NAME
from monailabel_app.strategies.sorting import Sorts, target_of

OURS = [strategy.value for strategy in Strategy]
SHAPE = (12, 10, 4)
LOOKED_S = 120


class OnePipeline:
    """Answers as it is told to, by the image's mean value."""

    def __init__(self, answered) -> None:
        self._answered = answered
        self.asked = 0

    def ask(self, volume, request, hooks):
        import dataclasses

        self.asked += 1
        mask = np.zeros(volume.shape_ijk, np.uint8)
        mask[2:5, 2:6, 1:3] = 1
        answer = self._answered(volume, Plane.AXIAL, 2, mask, name=f"inference-{self.asked}")
        share = float(volume.array.mean()) / 1000
        return dataclasses.replace(
            answer, query=request.query, confidence=share, agreement=share, calibrated=True
        )


class Site:
    """A folder of studies behind a server in this process."""

    def __init__(self, folder: Path, app: MedReasonerApp, client: TestClient) -> None:
        self.folder = folder
        self.app = app
        self.client = client

    def next(self, strategy: str, **body: object) -> dict:
        answer = self.client.post(f"/activelearning/{strategy}", json=body)
        answer.raise_for_status()
        return answer.json()

    def look(self) -> None:
        """Ask once, so that the images are looked at, and wait; nothing is known of offers then."""
        self.next("combined")
        assert self.app.services.next_cases.looking.wait(LOOKED_S)
        self.app.services.next_cases._offered.clear()
        self.app.services.next_cases._last_patients.clear()

    def ask(self, image: str, query: str = "Segment the liver.") -> str:
        answer = self.client.post(
            f"/infer/medreasoner?image={image}&output=json",
            data={"params": json.dumps({"query": query})},
        )
        answer.raise_for_status()
        return answer.json()["inference_id"]

    def approve(self, image: str, **info: object) -> None:
        mask = nibabel.Nifti1Image(np.ones(SHAPE, np.uint8), np.eye(4)).to_bytes()
        self.client.put(
            f"/datastore/label?image={image}&tag=final",
            data={"params": json.dumps(info)},
            files={"label": ("label.nii", mask)},
        ).raise_for_status()


@pytest.fixture
def site(tmp_path: Path, monkeypatch, answered):
    """Opens a site on a folder of NIfTI files whose mean values are given, by image id."""
    made: list[MedReasonerApp] = []

    def open_site(means: dict[str, float] | None = None, patients: str = "") -> Site:
        studies, folder = tmp_path / "studies", str(tmp_path / "app")
        studies.mkdir(exist_ok=True)
        for name, mean in (means or {}).items():
            array = np.full(SHAPE, mean, np.float32)
            array[:2], array[-2:] = mean + 50, mean - 50
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), studies / f"{name}.nii.gz")
        if patients:
            (studies / "patients.csv").write_text(patients)
        monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
        monkeypatch.setattr(settings, "MONAI_LABEL_SESSION_PATH", str(tmp_path / "sessions"))
        monkeypatch.setattr(settings, "MONAI_LABEL_APP_DIR", folder)
        monkeypatch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))
        app = MedReasonerApp(folder, str(studies), {}, pipeline=OnePipeline(answered))
        monkeypatch.setitem(app_registry.apps, f"{folder}{studies}", app)
        made.append(app)
        return Site(studies, app, TestClient(monailabel.app.app, raise_server_exceptions=False))

    yield open_site
    for app in made:
        assert app.services.next_cases.looking.wait(LOOKED_S)
        app.site.results.stop()
        app.site.records.close()


def test_clients_see_all_strategies_and_random_first(site) -> None:
    told = site({"a": 1}).client.get("/info/").json()["strategies"]
    assert list(told) == ["random", *OURS]
    assert all(entry["description"] for entry in told.values())


@pytest.mark.parametrize("strategy", ["random", *OURS])
def test_slicers_client_gets_the_stock_fields_and_ours_a_reason(
    site, monkeypatch, strategy
) -> None:
    opened = site({"a": 1})
    sent = []

    def through_client(method, server, selector, body=None, headers=None, **_):
        sent.append(body)
        answer = opened.client.request(method, selector, json=body)
        return answer.status_code, answer.content, None, answer.headers

    monkeypatch.setattr(
        "monailabel.client.client.MONAILabelUtils.http_method", staticmethod(through_client)
    )
    found = MONAILabelClient("http://server", client_id="a client").next_sample(strategy, {})
    assert sent == [{"client_id": "a client"}]
    assert found["id"] == "a"
    assert found["path"].endswith("a.nii.gz")
    assert ("reason" in found) == (strategy != "random")
    if strategy != "random":
        assert found["strategy"] == strategy
        assert found["reason"].endswith(".")


@pytest.mark.parametrize("body", [None, {}, {"client_id": "c", "labels": ["x"], "label_tag": 1}])
def test_what_clients_say_beside_the_strategy_changes_nothing(site, body) -> None:
    opened = site({"a": 1})
    assert opened.client.post("/activelearning/combined", json=body).json()["id"] == "a"


def test_an_unknown_strategy_is_refused_with_those_that_there_are(site) -> None:
    answer = site({"a": 1}).client.post("/activelearning/nothing", json={})
    assert answer.status_code == 404
    assert all(name in answer.json()["detail"] for name in ("random", *OURS))


def test_without_an_image_that_waits_nothing_is_offered(site) -> None:
    opened = site({"a": 1})
    opened.approve("a")
    assert opened.next("combined") == {}


def test_readers_who_ask_at_the_same_time_get_different_images(site) -> None:
    opened = site({f"image{n}": n for n in range(8)})
    ready = threading.Barrier(8)

    def ask(number: int) -> str:
        ready.wait()
        return opened.next(OURS[number % len(OURS)])["id"]

    with ThreadPoolExecutor(8) as readers:
        found = list(readers.map(ask, range(8)))
    assert sorted(found) == sorted(f"image{n}" for n in range(8))


def test_what_was_answered_with_doubt_comes_first_and_what_was_not_read_says_so(site) -> None:
    opened = site({"sure": 950, "doubtful": 100, "unread": 500})
    for image in ("sure", "doubtful"):
        opened.ask(image)
    first, second, third = (opened.next("uncertainty") for _ in range(3))
    assert [each["id"] for each in (first, second, third)] == ["doubtful", "unread", "sure"]
    assert "probability of 10%" in first["reason"]
    assert second["reason"].startswith("The model has not read it yet")


def test_an_answer_that_a_reader_has_decided_upon_is_no_doubt_any_more(site) -> None:
    opened = site({"decided": 100, "open": 400})
    name = opened.ask("decided")
    opened.client.put(
        f"/medreasoner/inferences/{name}/decision", json={"outcome": "accepted"}
    ).raise_for_status()
    opened.ask("open")
    assert opened.next("disagreement")["id"] == "open"


def test_the_support_for_an_answer_is_found_in_any_database(tmp_path, records_address) -> None:
    store = RecordStore(tmp_path, address=records_address)
    doubt = Doubt(readings=8, agreement=0.9, named=(), support=0.25)
    for image, found in (("backed", replace(doubt, support=0.9)), ("alone", doubt), ("old", None)):
        result = replace(make_result(image), agreement=0.95, doubt=found, query="Where?")
        store.add_inference(result, task="t", image_id=image)
    figures = {each.image_id: (each.agreement, each.support) for each in store.answer_figures()}
    store.close()
    assert figures == {"backed": (0.95, 0.9), "alone": (0.95, 0.25), "old": (0.95, None)}


def test_what_little_speaks_for_comes_first_though_its_samples_agree(site) -> None:
    opened = site({"agreed": 900, "alone": 950})
    opened.ask("agreed")
    opened.app.site.records.add_inference(
        replace(
            make_result("alone"),
            agreement=0.95,
            doubt=Doubt(readings=8, agreement=0.9, named=(), support=0.25),
        ),
        task="t",
        image_id="alone",
    )
    offer = opened.next("disagreement")
    assert offer["id"] == "alone"
    assert offer["reason"] == "The support for the answer about it is 25%."


def test_approved_targets_are_counted_and_named_by_the_vocabulary(site) -> None:
    opened = site({"a": 100, "b": 200, "c": 300})
    opened.approve("a", inference_id=opened.ask("a", "Segment the liver."))
    opened.ask("b", "Segment the liver.")
    opened.ask("c", "Bitte markiere die Milz von Frau Muster.")
    opened.ask("c", "Segment the spleen.")
    opened.look()
    offer = opened.next("coverage")
    assert offer["id"] == "c"
    assert offer["reason"] == "Nothing of target spleen is approved or with a reader."


def test_a_copy_of_an_approved_image_is_offered_after_one_that_looks_otherwise(site) -> None:
    opened = site({"approved": 100, "copy": 100})
    stripes = np.zeros(SHAPE, np.float32)
    stripes[:, ::2] = 900
    nibabel.save(nibabel.Nifti1Image(stripes, np.eye(4)), opened.folder / "other.nii.gz")
    opened.app.site.studies.refresh()
    opened.approve("approved")
    opened.look()
    offer = opened.next("novelty")
    assert offer["id"] == "other"
    assert offer["reason"].startswith("It looks unlike")


def test_no_patient_is_offered_twice_in_a_row_while_others_wait(site) -> None:
    table = "image,patient\na1,Anna\na2,Anna\na3,Anna\nb1,Bert\n"
    opened = site(dict.fromkeys(("a1", "a2", "a3", "b1"), 1), table)
    found = [opened.next("combined")["id"] for _ in range(3)]
    assert found.count("b1") == 1
    assert found[0] == "b1" or found[1] == "b1"


def test_what_is_kept_of_images_names_nobody_and_goes_with_them(site) -> None:
    opened = site({"Muster^Anna": 1, "b": 2}, "image,patient\nMuster^Anna,AnnaMuster\n")
    opened.look()
    kept = opened.app.site.paths.data_dir / FOLDER_NAME
    assert len(list(kept.glob("*.json"))) == 2
    assert kept.stat().st_mode & 0o077 == 0
    for path in kept.iterdir():
        assert "Muster" not in path.name + path.read_text()
    opened.app.site.studies.remove_image("b")
    opened.look()
    assert len(list(kept.glob("*.json"))) == 1


def test_an_image_is_looked_at_once_and_again_when_it_changes(site, monkeypatch) -> None:
    from monailabel_app.strategies import looking

    opened = site({"a": 1, "b": 2})
    seen = []
    read = looking.read_volume
    monkeypatch.setattr(
        looking, "read_volume", lambda source: (seen.append(source.image_id), read(source))[1]
    )
    opened.look()
    opened.look()
    assert sorted(seen) == ["a", "b"]
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4)),
        opened.folder / "a.nii.gz",
    )
    opened.look()
    assert sorted(seen) == ["a", "a", "b"]


def test_no_image_is_read_within_the_request(site, monkeypatch) -> None:
    from monailabel_app.strategies import looking

    opened = site({"a": 1})
    held = threading.Event()

    def read(source):
        held.wait(LOOKED_S)
        raise looking.MedReasonerError("never read")

    monkeypatch.setattr(looking, "read_volume", read)
    assert opened.next("novelty")["id"] == "a"
    assert not opened.app.services.next_cases.looking.wait(0.01)
    held.set()


def test_an_image_that_cannot_be_read_is_offered_all_the_same(site) -> None:
    opened = site({"a": 1})
    (opened.folder / "a.nii.gz").write_bytes(b"no image")
    opened.look()
    assert opened.next("novelty")["id"] == "a"


def test_a_series_is_told_by_its_header(site, tmp_path) -> None:
    for number, maker in enumerate(("Maker A", "Maker A", "Maker B")):
        folder = tmp_path / "studies" / f"ct{number}"
        grid = CtGrid((1, 1, 2), (0, 0, 0), np.eye(3))
        write_ct_series(np.zeros((4, 7, 8)), grid, folder, seed=number)
        for path in folder.iterdir():
            header = pydicom.dcmread(path)
            header.Manufacturer, header.BodyPartExamined = maker, "CHEST"
            header.PatientID = f"patient {number}"
            header.save_as(path)
    opened = site()
    images = sorted(opened.app.site.studies.list_images())
    opened.look()
    cases = opened.app.services.next_cases
    scanners = [cases.looking.look(image).sorts.scanner for image in images]
    assert len(set(scanners)) == 2
    assert {cases.looking.look(image).sorts.body_part for image in images} == {"CHEST"}
    assert {cases.looking.look(image).sorts.modality for image in images} == {"CT"}
    offer = opened.next("coverage")
    assert offer["StudyInstanceUID"]
    assert offer["Modality"] == "CT"
    assert "aker" not in offer["reason"]


def test_what_is_no_code_is_left_out_of_the_sorts() -> None:
    found = Sorts.of({"Modality": "Anna Muster", "BodyPartExamined": "Frau Müller, links"})
    assert found == Sorts()
    assert Sorts.of({"Modality": "ct", "BodyPartExamined": " chest "}) == Sorts("CT", "CHEST")


def test_a_readers_words_become_names_of_the_vocabulary_or_nothing() -> None:
    assert target_of("Bitte markiere die Leber.") == "liver"
    assert target_of("Frau Muster, geb. 1950") == ""


def test_the_latest_answer_to_a_question_counts(site) -> None:
    opened = site({"a": 100})
    opened.ask("a", "Segment the liver.")
    opened.ask("a", "Segment the spleen.")
    opened.ask("a", "Segment the liver.")
    records = open_records(SitePaths.of(str(opened.folder)))
    figures = records.answer_figures()
    records.close()
    assert len(figures) == 2
    assert [each.probability for each in figures] == pytest.approx([0.1, 0.1])
    assert not any(each.settled for each in figures)
