# SPDX-License-Identifier: Apache-2.0
"""Bringing results to the archive: a folder, one that fails, and the real Orthanc."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import requests
from requests.adapters import HTTPAdapter

pytest.importorskip("monailabel")
pytest.importorskip("highdicom")

from support.conformance import assert_dciodvfy_finds_no_error

from medreasoner_infer.imaging import Plane, load_volume, write_mask
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.archive import FolderArchive
from monailabel_app.dicom.dicomweb import DicomWebArchive
from monailabel_app.dicom.encoding import to_bytes
from monailabel_app.dicom.errors import ArchiveRefusedError
from monailabel_app.dicom.history import read_record
from monailabel_app.dicom.recording import ResultRecorder
from monailabel_app.dicom.submitting import wait_before_try
from monailabel_app.errors import PacsUnreachableError
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.store import (
    Decision,
    JoinedBy,
    LabelSubmission,
    Outcome,
    PacsState,
    RecordStore,
    Target,
)

GRID = CtGrid((1.5, 2.0, 3.0), (-20.5, 7.25, 100.0), np.eye(3))
SHAPE_IJK = (12, 10, 6)
SEND_TIMEOUT_S = 120.0


@dataclasses.dataclass
class Study:
    """A CT series in a folder, a question about it, and the reader's label."""

    folder: Path
    image: ImageSource
    label: Path
    inference_id: str = "inference-1"

    @property
    def study_uid(self) -> str:
        return str(self.image.study_uid)

    def submission(self, **info: object) -> LabelSubmission:
        entry = {"name": "Liver", "idx": 1, "inference_id": self.inference_id}
        given = {"label_info": [entry], **info}
        return LabelSubmission(str(self.image.image_id), "final", self.label, given)


@pytest.fixture
def study(tmp_path: Path, answered) -> Study:
    hu = np.arange(np.prod(SHAPE_IJK)).reshape(SHAPE_IJK[::-1]) - 300
    folder = write_ct_series(hu, GRID, tmp_path / "studies" / "ct", seed=1)
    header = pydicom.dcmread(folder / "0001.dcm")
    uid = str(header.SeriesInstanceUID)
    image = ImageSource(
        folder, uid, "CT", series_uid=uid, dicom_folder=folder,
        study_uid=str(header.StudyInstanceUID),
    )  # fmt: skip
    volume = load_volume(folder)
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[3:7, 4:8, 1:4] = 1
    label = write_mask(mask, volume, tmp_path / "label.nii.gz")
    with_store = RecordStore(tmp_path / "records")
    result = answered(volume, Plane.AXIAL, 2, mask)
    with_store.add_inference(
        result, task="medreasoner", image_id=uid, study_uid=image.study_uid,
        write_mask=lambda path: shutil.copyfile(label, path),
    )  # fmt: skip
    with_store.close()
    return Study(tmp_path / "studies", image, label)


class Archive(FolderArchive):
    """A folder that can be made to fail, and counts what it is asked to store."""

    def __init__(self, study: Study) -> None:
        super().__init__(study.folder, study.folder / ".medreasoner" / "dicom")
        self.error: Exception | None = None
        self.offered: list[list[str]] = []

    def store(self, objects) -> None:
        headers = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)) for content in objects]
        self.offered.append([str(header.SOPInstanceUID) for header in headers])
        if self.error is not None:
            raise self.error
        super().store(objects)


@pytest.fixture
def records(tmp_path: Path, study: Study) -> Iterator[RecordStore]:
    store = RecordStore(tmp_path / "records")
    yield store
    store.close()


def keeper_of(records: RecordStore, study: Study, archive) -> ResultRecorder:
    return ResultRecorder(records, lambda _: study.image, VolumeCache(1 << 24), archive)


def test_a_label_reaches_the_archive_and_reads_back_as_it_was(records, study) -> None:
    archive = Archive(study)
    label, document = keeper_of(records, study, archive).label(study.submission())
    assert document.state is PacsState.SENT
    record = records.get(study.inference_id)
    assert record.decision.outcome is Outcome.ACCEPTED
    assert [entry.state for entry in record.pacs] == [PacsState.SENT]
    history = read_record(archive, study.study_uid)
    assert history.unreadable == ()
    (stored,) = history.results
    np.testing.assert_array_equal(stored.mask_ijk, np.asarray(nibabel.load(label.file).dataobj))
    assert stored.record.query == record.query
    assert stored.record.decision.outcome is Outcome.ACCEPTED


def test_an_edited_label_becomes_the_newest_version_and_names_its_predecessor(
    records, study, tmp_path
) -> None:
    archive = Archive(study)
    archive.remove = lambda *uids: False
    keeper = keeper_of(records, study, archive)
    _, first = keeper.label(study.submission())
    volume = load_volume(study.image.path)
    smaller = np.zeros(SHAPE_IJK, np.uint8)
    smaller[4:6, 5:7, 2] = 1
    study.label = write_mask(smaller, volume, tmp_path / "smaller.nii.gz")
    _, second = keeper.label(study.submission(outcome_reason="Too large."))
    assert (first.version, second.version) == (1, 2)
    reports = archive.reports(study.study_uid)
    assert len(reports) == 2
    (newest,) = [report for report in reports if report.InstanceNumber == 2]
    predecessor = newest.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    reference = predecessor.ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.report_instance_uid
    (stored,) = read_record(archive, study.study_uid).results
    np.testing.assert_array_equal(stored.mask_ijk, smaller)
    assert stored.record.decision.outcome is Outcome.EDITED
    assert stored.record.result.mask.voxels == 4


def test_an_archive_that_can_delete_keeps_one_version(records, study) -> None:
    archive = Archive(study)
    keeper = keeper_of(records, study, archive)
    keeper.label(study.submission())
    keeper.label(study.submission(outcome_reason="Looked at again."))
    assert [report.InstanceNumber for report in archive.reports(study.study_uid)] == [2]


def test_a_rejected_answer_is_a_report_with_the_reason_and_no_mask(records, study) -> None:
    archive = Archive(study)
    now = datetime.now(timezone.utc)
    decision = Decision(Outcome.REJECTED, "It is the spleen.", now)
    record = keeper_of(records, study, archive).decision(study.inference_id, decision)
    assert record.decision == decision
    assert [entry.seg_instance_uid for entry in record.pacs] == [None]
    (stored,) = read_record(archive, study.study_uid).results
    assert stored.record.decision.reason == "It is the spleen."
    assert not stored.mask_ijk.any()


def test_what_fails_now_is_sent_after_a_restart_with_the_same_uids(
    records, study, tmp_path
) -> None:
    archive = Archive(study)
    archive.error = PacsUnreachableError("The DICOMweb server did not answer; try again.")
    _, document = keeper_of(records, study, archive).label(study.submission())
    assert (document.state, document.tries) == (PacsState.PENDING, 1)
    assert document.next_try_at > datetime.now(timezone.utc)
    assert "did not answer" in document.error
    records.close()
    archive.error = None
    again = RecordStore(tmp_path / "records")
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    assert [entry.id for entry in again.pacs.due(later)] == [document.id]
    sent = keeper_of(again, study, archive)._submitter.send(document.id)
    again.close()
    assert (sent.state, sent.tries, sent.error) == (PacsState.SENT, 2, None)
    assert archive.offered[0] == archive.offered[1]
    assert list((tmp_path / "records" / "outbox").iterdir()) == []


def test_what_the_archive_refuses_is_not_tried_again(records, study) -> None:
    archive = Archive(study)
    archive.error = ArchiveRefusedError("The PACS refuses the result with HTTP 415.")
    _, document = keeper_of(records, study, archive).label(study.submission())
    assert document.state is PacsState.FAILED
    assert "415" in document.error
    assert records.pacs.due(datetime.now(timezone.utc) + timedelta(days=1)) == []


def test_a_series_that_cannot_be_referred_to_says_why_and_keeps_the_label(records, study) -> None:
    for path in study.image.path.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID = ""
        dataset.save_as(path)
    label, document = keeper_of(records, study, Archive(study)).label(study.submission())
    assert document.state is PacsState.FAILED
    assert "Study Instance UID" in document.error
    assert label.file.is_file()


def test_a_newer_version_takes_the_place_of_one_that_waits(records, study) -> None:
    archive = Archive(study)
    archive.error = PacsUnreachableError("down")
    keeper = keeper_of(records, study, archive)
    keeper.label(study.submission())
    archive.error = None
    _, second = keeper.label(study.submission(outcome_reason="Looked at again."))
    states = [entry.state for entry in records.get(study.inference_id).pacs]
    assert states == [PacsState.SUPERSEDED, PacsState.SENT]
    assert second.version == 2


def test_an_uncertain_label_is_a_mask_without_a_claim(records, study, answered) -> None:
    """Joined by time to the latest of several answers, it may not be about that one."""
    volume = load_volume(study.image.path)
    other = answered(volume, Plane.AXIAL, 3, np.ones(SHAPE_IJK, np.uint8), name="inference-2")
    records.add_inference(other, task="medreasoner", image_id=str(study.image.image_id))
    archive = Archive(study)
    label = write_mask(np.ones(SHAPE_IJK, np.uint8), volume, study.label)
    submission = LabelSubmission(str(study.image.image_id), "final", label, {})
    _, document = keeper_of(records, study, archive).label(submission)
    assert document.state is PacsState.SENT
    assert document.report_instance_uid is None
    assert document.seg_instance_uid is not None
    assert records.get("inference-2").decision is None


def descriptions(archive: Archive, study_uid: str) -> set[tuple[str, str]]:
    """Modality and description of each series of results of a study."""
    headers = [pydicom.dcmread(path) for path in (archive._results / study_uid).iterdir()]
    return {(str(header.Modality), str(header.SeriesDescription)) for header in headers}


def test_targets_of_one_study_are_told_apart_in_the_archive(records, study, answered) -> None:
    archive = Archive(study)
    keeper = keeper_of(records, study, archive)
    volume = load_volume(study.image.path)
    nothing = np.zeros(volume.shape_ijk, np.uint8)
    other = answered(volume, Plane.AXIAL, 2, nothing, name="inference-2")
    records.add_inference(other, task="medreasoner", image_id=study.image.image_id)
    entry = {"name": "Liver", "idx": 1, "color": [1, 2, 3], "inference_id": study.inference_id}
    keeper.label(study.submission(label_info=[entry], outcome="accepted"))
    decision = Decision(Outcome.REJECTED, "No.", datetime.now(timezone.utc))
    keeper.decision("inference-2", decision, Target("Cyst", (9, 9, 9)))
    assert descriptions(archive, study.study_uid) == {
        ("SEG", "MedReasoner: Liver, accepted"),
        ("SR", "MedReasoner: Liver, accepted"),
        ("SR", "MedReasoner: Cyst, rejected"),
    }
    assert records.get(study.inference_id).to_dict()["target"] == {
        "name": "Liver",
        "color": [1, 2, 3],
    }
    assert records.get("inference-2").target == Target("Cyst", (9, 9, 9))


def test_a_replaced_mask_is_named_by_the_one_that_replaces_it(records, study, tmp_path) -> None:
    archive = Archive(study)
    archive.remove = lambda *uids: False
    keeper = keeper_of(records, study, archive)
    _, first = keeper.label(study.submission(outcome="accepted"))
    _, second = keeper.label(study.submission(outcome="edited"))
    newest = archive.segmentation(study.study_uid, second.seg_instance_uid)
    assert newest.SeriesDescription == "MedReasoner: Liver, edited, version 2"
    (replaced,) = newest.ReferencedImageSequence
    assert replaced.ReferencedSOPInstanceUID == first.seg_instance_uid
    assert replaced.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert replaced.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Replaced by this version"
    images, before = newest.ReferencedSeriesSequence
    assert images.SeriesInstanceUID == study.image.series_uid
    assert before.SeriesInstanceUID == first.seg_series_uid
    assert_dciodvfy_finds_no_error(to_bytes(newest), tmp_path)
    report = next(r for r in archive.reports(study.study_uid) if r.InstanceNumber == 2)
    (study_,) = report.PredecessorDocumentsSequence
    reference = study_.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert reference.ReferencedSOPInstanceUID == first.report_instance_uid
    assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert len(archive.reports(study.study_uid)) == 2


def test_a_label_of_a_stock_client_finds_the_answer_that_it_covers(
    records, study, answered, tmp_path
) -> None:
    """Not the latest one; an untouched neighbour, and a label elsewhere, are joined to none."""
    volume = load_volume(study.image.path)
    elsewhere = np.zeros(volume.shape_ijk, np.uint8)
    elsewhere[9:12, :3, 4:] = 1
    other = answered(volume, Plane.AXIAL, 3, elsewhere, name="inference-2")
    image = str(study.image.image_id)
    records.add_inference(
        other, task="medreasoner", image_id=image,
        write_mask=lambda path: write_mask(elsewhere, volume, path),
    )  # fmt: skip
    edited = np.zeros(volume.shape_ijk, np.uint8)
    edited[3:6, 4:8, 1:4] = 7
    archive = Archive(study)
    keeper = keeper_of(records, study, archive)

    def saved(mask: np.ndarray):
        file = write_mask(mask, volume, tmp_path / "stock.nii.gz")
        info = {"label_info": [{"name": "MedReasoner target", "idx": 7}]}
        return keeper.label(LabelSubmission(image, "final", file, info))

    label, document = saved(edited)
    assert (label.inference_id, label.joined_by) == (study.inference_id, JoinedBy.OVERLAP)
    assert label.joined_by.confidence == "probable"
    assert records.get(study.inference_id).decision.outcome is Outcome.EDITED
    segment = archive.segmentation(study.study_uid, document.seg_instance_uid).SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert segment.SegmentAlgorithmName == "MedReasoner"
    nowhere = np.zeros(volume.shape_ijk, np.uint8)
    nowhere[0, 9, 0] = 7
    label, document = saved(nowhere)
    assert (label.inference_id, label.joined_by) == (None, JoinedBy.NOTHING)
    unknown = archive.segmentation(study.study_uid, document.seg_instance_uid)
    assert unknown.SegmentSequence[0].SegmentAlgorithmName == "source unknown"
    assert unknown.SeriesDescription == "MedReasoner: MedReasoner target, source unknown"


def test_waiting_doubles_up_to_a_quarter_of_an_hour() -> None:
    waits = [wait_before_try(tries).total_seconds() for tries in (0, 1, 2, 30)]
    assert waits == [5, 10, 20, 900]


def test_the_same_label_once_more_is_the_same_record_and_document(records, study) -> None:
    """A client that did not get the reply submits again."""
    archive = Archive(study)
    keeper = keeper_of(records, study, archive)
    first, sent = keeper.label(study.submission())
    again, resent = keeper.label(study.submission())
    assert (again.id, resent.id) == (first.id, sent.id)
    assert len(archive.offered) == 1
    assert [path.name for path in first.file.parent.iterdir()] == [first.file.name]


def test_the_same_decision_once_more_is_one_document(records, study) -> None:
    archive = Archive(study)
    keeper = keeper_of(records, study, archive)
    for _ in range(2):
        now = datetime.now(timezone.utc)
        keeper.decision(study.inference_id, Decision(Outcome.REJECTED, "Wrong organ.", now))
    assert len(records.get(study.inference_id).pacs) == 1
    keeper.decision(study.inference_id, Decision(Outcome.REJECTED, "Wrong side.", now))
    assert len(records.get(study.inference_id).pacs) == 2


def test_a_document_put_off_before_the_clock_was_set_back_is_due(records, study) -> None:
    archive = Archive(study)
    archive.error = PacsUnreachableError("down")
    _, document = keeper_of(records, study, archive).label(study.submission())
    now = datetime.now(timezone.utc)
    assert records.pacs.due(now) == []
    two_hours_back = now - timedelta(hours=2)
    assert [waiting.id for waiting in records.pacs.due(two_hours_back)] == [document.id]


# The real archive.


@pytest.fixture
def orthanc(orthanc, study: Study):
    """Orthanc with the study."""
    for path in study.image.path.iterdir():
        orthanc.store(path.read_bytes())
    return orthanc


def connect(orthanc, tmp_path: Path, monkeypatch, delete: bool) -> DicomWebArchive:
    from monailabel_app.framework import settings
    from monailabel_app.studies.pacs import PacsStudies

    monkeypatch.setattr(settings, "MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    studies = PacsStudies.connect(orthanc.dicom_web)
    return studies.archive(orthanc.url if delete else None)


class PowerCut(HTTPAdapter):
    """Kills the archive during the first request that stores: in its body, or before the answer."""

    def __init__(self, orthanc, in_the_body: bool) -> None:
        super().__init__()
        self._orthanc = orthanc
        self._in_the_body = in_the_body
        self.happened = False

    def send(self, request, **kwargs):
        if request.method != "POST" or self.happened:
            return super().send(request, **kwargs)
        self.happened = True
        if self._in_the_body:
            request.body = self._half_of(request.body)
        super().send(request, **kwargs)
        self._orthanc.kill()
        raise requests.ConnectionError("The connection was reset.")

    def _half_of(self, body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        self._orthanc.kill()
        yield body[len(body) // 2 :]


@pytest.mark.slow
@pytest.mark.parametrize("in_the_body", [True, False])
def test_a_power_cut_of_orthanc_in_mid_submit_loses_and_doubles_nothing(
    orthanc, study, records, tmp_path, monkeypatch, in_the_body
) -> None:
    """Cut before the answer, Orthanc has both objects already and is sent both again."""
    archive = connect(orthanc, tmp_path, monkeypatch, delete=False)
    cut = PowerCut(orthanc, in_the_body)
    archive._client._session.mount("http://", cut)
    keeper = keeper_of(records, study, archive)
    _, document = keeper.label(study.submission())
    assert cut.happened
    assert document.state is PacsState.PENDING
    orthanc.start()
    left = {"CT": SHAPE_IJK[2]} if in_the_body else {"CT": SHAPE_IJK[2], "SEG": 1, "SR": 1}
    assert orthanc.instances() == left
    keeper.start()  # its thread sends what waits, as after a restart of the server
    deadline = time.monotonic() + SEND_TIMEOUT_S
    while records.pacs.get(document.id).state is PacsState.PENDING:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    keeper.stop()
    assert records.pacs.get(document.id).state is PacsState.SENT
    assert orthanc.instances() == {"CT": SHAPE_IJK[2], "SEG": 1, "SR": 1}
    shutil.rmtree(study.folder)
    history = read_record(archive, study.study_uid)
    assert history.unreadable == ()
    (stored,) = history.results
    assert stored.mask_ijk.sum() == 4 * 4 * 3
    assert stored.record.query.startswith("Which organ makes bile")


@pytest.mark.slow
@pytest.mark.parametrize(("delete", "left"), [(True, 1), (False, 2)])
def test_orthanc_keeps_one_version_where_it_may_delete(
    orthanc, study, records, tmp_path, monkeypatch, delete, left
) -> None:
    archive = connect(orthanc, tmp_path, monkeypatch, delete)
    keeper = keeper_of(records, study, archive)
    keeper.label(study.submission())
    _, second = keeper.label(study.submission(outcome_reason="Looked at again."))
    assert orthanc.instances() == {"CT": SHAPE_IJK[2], "SEG": left, "SR": left}
    (stored,) = read_record(archive, study.study_uid).results
    assert stored.header.instance_uid == second.report_instance_uid


@pytest.mark.slow
def test_the_history_is_redrawn_from_orthanc_alone(
    orthanc, study, records, tmp_path, monkeypatch
) -> None:
    from typer.testing import CliRunner

    from monailabel_app.cli.app import app

    archive = connect(orthanc, tmp_path, monkeypatch, delete=False)
    keeper_of(records, study, archive).label(study.submission())
    shutil.rmtree(study.folder)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    out = tmp_path / "out"
    arguments = ["history", study.study_uid, "--studies", orthanc.dicom_web, "--out", str(out)]
    run = CliRunner().invoke(app, arguments, env={**os.environ, "COLUMNS": "80"})
    assert run.exit_code == 0, run.output
    assert "accepted" in run.output
    assert re.search(r" 1 +│ \d{4}-\d\d-\d\d \d\d:\d\d ", run.output), run.output
    answer = json.loads((out / "answer_1.json").read_text())
    assert answer["reasoning"] == "The liver does.\nIt is large."
    assert (out / "overlay_1.png").stat().st_size > 10_000
    assert np.asarray(nibabel.load(out / "mask_1.nii.gz").dataobj).sum() == 4 * 4 * 3
