# SPDX-License-Identifier: Apache-2.0
"""A list of questions put to studies: each answered once, what is bad set aside, all of it told."""

from __future__ import annotations

import csv
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("monailabel")
pytest.importorskip("highdicom")

import pydicom
from filelock import FileLock
from support.batches import (
    InThisProcess,
    answers_by_key,
    run,
    settings_of,
    toys,
    write_series,
    write_studies,
)
from support.bright import BrightReasoner
from typer.testing import CliRunner

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.pipeline import Pipeline
from monailabel_app.batch.errors import BatchFolderError, BatchRunningError
from monailabel_app.batch.journal import ProcessJournal
from monailabel_app.batch.keeping import Recorded
from monailabel_app.batch.results import Results
from monailabel_app.cli.app import app
from monailabel_app.errors import FolderInUseError, StudiesAwayError
from monailabel_app.site.opening import SiteLimits, hold_folders, open_site
from monailabel_app.site.paths import SitePaths
from monailabel_app.store import RecordStore

LIST = "question,slice\nWhere is it bright?,4\nWhere is it bright?,0\n"


@pytest.fixture(autouse=True)
def models(monkeypatch) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", toys)


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """What the reasoner was asked, question by question."""
    questions: list[str] = []
    sample = BrightReasoner._sample

    def noted(self, request, *rest):
        questions.append(request.query)
        return sample(self, request, *rest)

    monkeypatch.setattr(BrightReasoner, "_sample", noted)
    return questions


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    return write_studies(tmp_path / "studies", 2)


def listed(tmp_path: Path, text: str = LIST) -> Path:
    path = tmp_path / "list.csv"
    path.write_text(text)
    return path


def table(out: Path) -> list[dict[str, str]]:
    with (out / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_files_are_those_of_ask_and_the_table_tells_where_they_lie(tmp_path, studies) -> None:
    out = tmp_path / "out"
    report = run(listed(tmp_path), settings_of(studies, out))
    assert report.outcomes == {"present": 2, "absent": 2}
    assert not report.has_failed
    rows = table(out)
    assert [(row["image"], row["row"]) for row in rows] == [
        ("ct0", "1"), ("ct0", "2"), ("ct1", "1"), ("ct1", "2"),
    ]  # fmt: skip
    for row in rows:
        folder = out / row["place"]
        answer = json.loads((folder / "answer.json").read_text())
        assert answer["inference_id"] == row["inference_id"]
        assert answer["slice"]["index"] == (4 if row["row"] == "1" else 0)
        mask = np.asarray(nibabel.load(folder / "mask.nii.gz").dataobj)
        assert mask.any() == (row["outcome"] == "present")
        assert (folder / "overlay.png").is_file()
    told = json.loads((out / "report.json").read_text())
    assert (told["pairs"], told["answered"], told["failed"]) == (4, 4, {})
    assert 0 < told["seconds"]["median"] <= told["seconds"]["p95"]


def test_files_leave_the_studies_as_they_were_and_are_their_owner_s_only(tmp_path, studies) -> None:
    before = sorted(path.name for path in studies.rglob("*"))
    run(listed(tmp_path), settings_of(studies, tmp_path / "out"))
    assert sorted(path.name for path in studies.rglob("*")) == before
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_the_same_command_again_asks_nothing_and_tells_the_same(tmp_path, studies, asked) -> None:
    out = tmp_path / "out"
    first = run(listed(tmp_path), settings_of(studies, out))
    assert len(asked) == 4
    again = run(listed(tmp_path), settings_of(studies, out))
    assert len(asked) == 4
    assert again.pairs == first.pairs


def test_a_longer_list_asks_what_is_new_alone(tmp_path, studies, asked) -> None:
    out = tmp_path / "out"
    run(listed(tmp_path), settings_of(studies, out), limit=1)
    assert len(asked) == 1
    run(listed(tmp_path, LIST + "And here?,3\n"), settings_of(studies, out))
    assert len(asked) == 6
    assert set(answers_by_key(out).values()) == {1}


def test_other_weights_are_another_pair(tmp_path, studies, asked, monkeypatch) -> None:
    from dataclasses import replace

    out = tmp_path / "out"
    run(listed(tmp_path), settings_of(studies, out))
    other = replace(BrightReasoner.identity, weights_sha256="cd" * 32)
    monkeypatch.setattr(BrightReasoner, "identity", other)
    run(listed(tmp_path), settings_of(studies, out))
    assert len(asked) == 8


def test_a_row_that_asks_the_same_is_asked_once_and_told(tmp_path, studies, asked) -> None:
    text = "question,image,slice\nWhere?,,4\nWhere?,ct1,4\nWhere?,ct1.nii.gz,4\n"
    report = run(listed(tmp_path, text), settings_of(studies, tmp_path / "out"))
    assert len(asked) == 2
    assert report.duplicates == 2


def test_bad_studies_are_set_aside_with_a_sentence_and_the_rest_goes_on(tmp_path, studies) -> None:
    content = (studies / "ct0.nii.gz").read_bytes()
    (studies / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    (studies / "empty.nii.gz").touch()
    (studies / "text.nii.gz").write_text("no image")
    report = run(listed(tmp_path), settings_of(studies, tmp_path / "out"))
    assert report.outcomes == {"present": 2, "absent": 2}
    assert report.has_failed
    failed = {pair.image_id: pair for pair in report.pairs if pair.failed is not None}
    assert set(failed) == {"cut", "empty", "text"}
    assert all(pair.reason.endswith(".") for pair in failed.values())
    assert sum(report.failed.values()) == 6
    faults = json.loads((tmp_path / "out" / "report.json").read_text())["faults"]
    assert len(faults) == 6


def test_a_study_that_was_mended_is_asked_by_the_next_run(tmp_path, studies, asked) -> None:
    out = tmp_path / "out"
    whole = (studies / "ct0.nii.gz").read_bytes()
    (studies / "ct0.nii.gz").write_bytes(b"cut")
    assert run(listed(tmp_path), settings_of(studies, out)).has_failed
    assert len(asked) == 2
    (studies / "ct0.nii.gz").write_bytes(whole)
    assert not run(listed(tmp_path), settings_of(studies, out)).has_failed
    assert len(asked) == 4


class Deleting(InThisProcess):
    """Deletes an image once the run has begun."""

    def __init__(self, settings, image: Path) -> None:
        super().__init__(settings)
        self._image = image

    def map(self, work, tasks):
        for task, told in super().map(work, tasks):
            self._image.unlink(missing_ok=True)
            yield task, told


def test_an_image_that_is_deleted_meanwhile_is_told_of(tmp_path, studies) -> None:
    settings = settings_of(studies, tmp_path / "out")
    engine = Deleting(settings, studies / "ct1.nii.gz")
    report = run(listed(tmp_path), settings, engine)
    assert {pair.image_id for pair in report.pairs if pair.failed} == {"ct1"}
    assert report.outcomes.total() == 2


def test_a_fault_of_the_program_takes_one_pair_and_repeats_nothing_of_it(
    tmp_path, studies, monkeypatch
) -> None:
    sample = BrightReasoner._sample

    def faulty(self, request, *rest):
        if request.query.startswith("Break"):
            raise KeyError("Patient^Name")
        return sample(self, request, *rest)

    monkeypatch.setattr(BrightReasoner, "_sample", faulty)
    text = "question,slice\nBreak?,4\nWhere?,4\n"
    report = run(listed(tmp_path, text), settings_of(studies, tmp_path / "out"))
    assert (report.failed, report.outcomes) == ({"KeyError": 2}, {"present": 2})
    assert "Patient" not in (tmp_path / "out" / "report.json").read_text()


def test_a_row_whose_image_is_not_there_fails_alone(tmp_path, studies) -> None:
    text = "question,image,series,study,slice\nWhere?,ct9,,,4\nWhere?,,1.2,,4\nWhere?,,,1.3,4\n"
    text += "Where?,ct0,,,4\nWhere?,ct0,,,99\n"
    report = run(listed(tmp_path, text), settings_of(studies, tmp_path / "out"))
    assert report.outcomes == {"present": 1}
    assert report.failed == {"UnknownImageError": 3, "SliceOutOfRangeError": 1}
    named = [pair.image_id for pair in report.pairs if pair.failed == "UnknownImageError"]
    assert named == ["ct9", "1.2", "1.3"]


def test_a_series_is_found_by_its_study_and_left_out_by_what_its_header_says(tmp_path) -> None:
    studies = tmp_path / "studies"
    folder = write_series(studies / "a")
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.BodyPartExamined = "ABDOMEN"
        header.save_as(path)
    write_series(studies / "b", seed=4)
    study = pydicom.dcmread(next(folder.iterdir())).StudyInstanceUID
    text = (
        "question,slice,study,modality,body_part\n"
        f"Of the study?,4,{study},,\nOf the abdomen?,4,,ct,abdomen\nOf an MR?,4,,MR,\n"
    )
    report = run(listed(tmp_path, text), settings_of(studies, tmp_path / "out"))
    answered = [pair.question.text for pair in report.pairs if pair.outcome is not None]
    assert answered.count("Of the study?") == answered.count("Of the abdomen?") == 1
    assert report.left_out == {"body_part": 1, "modality": 2}
    again = run(listed(tmp_path, text), settings_of(studies, tmp_path / "out"))
    assert again.pairs == report.pairs


def test_two_runs_on_one_folder_are_refused(tmp_path, studies) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(BatchRunningError, match="Another batch works"):
        run(listed(tmp_path), settings_of(studies, out))


def test_a_run_waits_for_the_processes_of_a_killed_one(tmp_path, studies, monkeypatch) -> None:
    out = tmp_path / "out"
    run(listed(tmp_path), settings_of(studies, out))
    monkeypatch.setattr("monailabel_app.batch.journal._PATIENCE_S", 0.1)
    with (
        ProcessJournal(out).at_work(),
        pytest.raises(BatchRunningError, match="Processes of an earlier run"),
    ):
        run(listed(tmp_path), settings_of(studies, out))


def test_a_folder_with_anything_else_is_refused(tmp_path, studies) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").touch()
    with pytest.raises(BatchFolderError, match="no batch"):
        run(listed(tmp_path), settings_of(studies, other))
    with pytest.raises(BatchFolderError, match="lies in the studies"):
        run(listed(tmp_path), settings_of(studies, studies / "out"))
    with pytest.raises(StudiesAwayError, match="There is no folder"):
        run(listed(tmp_path), settings_of(tmp_path / "away", tmp_path / "out"))


def test_a_folder_keeps_to_its_studies_and_its_kind_of_results(tmp_path, studies) -> None:
    out = tmp_path / "out"
    run(listed(tmp_path), settings_of(studies, out), limit=1)
    with pytest.raises(BatchFolderError, match="other studies, or with other results"):
        run(listed(tmp_path), settings_of(studies, out, Results.DATASET))
    more = write_studies(tmp_path / "more", 1)
    with pytest.raises(BatchFolderError, match="other studies"):
        run(listed(tmp_path), settings_of(more, out))


def inferences(studies: Path) -> list:
    records = RecordStore(studies / ".medreasoner")
    return [each for image in ("ct0", "ct1") for each in records.list_for_image(image)]


def test_drafts_are_recorded_and_joined_and_nobody_has_accepted_them(tmp_path, studies) -> None:
    report = run(listed(tmp_path), settings_of(studies, tmp_path / "out", Results.DATASET))
    assert report.outcomes == {"present": 2, "absent": 2}
    index = json.loads((studies / "datastore_v2.json").read_text())["objects"]
    found = inferences(studies)
    assert len(found) == 4
    for record in found:
        assert record.decision is None
        (label,) = record.labels
        assert label.joined_by.confidence == "certain"
        assert label.tag.startswith("original-")
        listed_label = index[record.image_id]["labels"][label.tag]
        file = studies / "labels" / label.tag / f"{record.image_id}{listed_label['ext']}"
        mask = np.asarray(nibabel.load(file).dataobj)
        assert mask.any() == record.present
        assert listed_label["info"]["inference_id"] == record.id
    assert {pair.place for pair in report.pairs} == set(index["ct0"]["labels"])


class Killed(BaseException):
    """As a kill: nothing may catch it."""


@pytest.mark.parametrize("results", [Results.DATASET, Results.SEG])
@pytest.mark.parametrize("moment", ["begun", "recorded", "answered"])
def test_what_was_recorded_before_a_kill_is_kept_and_not_asked_again(
    tmp_path, asked, monkeypatch, results, moment
) -> None:
    studies = tmp_path / "studies"
    write_series(studies / "a")
    settings = settings_of(studies, tmp_path / "out", results)

    def killed(*_: object) -> None:
        raise Killed

    place = {
        "begun": (ProcessJournal, "begun"),
        "recorded": (Recorded, "_kept"),
        "answered": (ProcessJournal, "answered"),
    }[moment]
    with monkeypatch.context() as at_once:
        at_once.setattr(*place, killed)
        with pytest.raises(Killed):
            run(listed(tmp_path), settings)
    report = run(listed(tmp_path), settings)
    assert report.outcomes == {"present": 1, "absent": 1}
    # Killed as the answer was about to be recorded, it is lost and asked for once more.
    assert len(asked) == (3 if moment == "begun" else 2)
    series = report.pairs[0].image_id
    records = RecordStore(settings.data_dir).list_for_image(series)
    assert len(records) == 2
    assert all(len(record.labels) == 1 for record in records)
    assert set(answers_by_key(settings.out).values()) == {1}
    documents = [document for record in records for document in record.pacs]
    assert len(documents) == (2 if results is Results.SEG else 0)


def test_a_segmentation_says_that_nobody_has_reviewed_it(tmp_path) -> None:
    studies = tmp_path / "studies"
    write_series(studies / "a")
    settings = settings_of(studies, tmp_path / "out", Results.SEG)
    text = "question,slice\nWhere is the liver?,4\nWhere is the spleen?,0\n"
    report = run(listed(tmp_path, text), settings)
    assert report.archived == {"sent": 2}
    made = [pydicom.dcmread(path) for path in (settings.data_dir / "dicom").rglob("*.dcm")]
    named = sorted((each.Modality, each.SeriesDescription) for each in made)
    assert named == [
        ("SEG", "MedReasoner: liver, not reviewed"),
        ("SR", "MedReasoner: liver, not reviewed"),
        ("SR", "MedReasoner: spleen, not reviewed"),
    ]
    assert {each.VerificationFlag for each in made if each.Modality == "SR"} == {"UNVERIFIED"}
    (segmentation,) = (each for each in made if each.Modality == "SEG")
    assert np.count_nonzero(segmentation.pixel_array) == 8 * 8
    assert segmentation.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    history = open_site(SitePaths.of(str(studies)), SiteLimits(1 << 20, 1 << 20)).results.history(
        str(segmentation.StudyInstanceUID)
    )
    assert len(history.results) == 2
    assert all(stored.record.decision is None for stored in history.results)


def test_a_picture_file_has_no_place_in_an_archive(tmp_path, studies, asked) -> None:
    report = run(listed(tmp_path), settings_of(studies, tmp_path / "out", Results.SEG))
    assert report.failed == {"InputError": 4}
    assert not asked
    assert "no DICOM series" in report.pairs[0].reason


def test_results_for_an_archive_are_refused_beside_a_server(tmp_path, studies) -> None:
    paths = SitePaths.of(str(studies))
    paths.data_dir.mkdir()
    lock = paths.data_dir / ".medreasoner-server.lock"
    command = ["flock", "--no-fork", str(lock), "sh", "-c", "echo held; exec sleep 600"]
    holding = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert holding.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUseError, match="Another server uses"):
            run(listed(tmp_path), settings_of(studies, tmp_path / "out", Results.SEG))
    finally:
        holding.kill()
        holding.wait()
    hold_folders(paths).release()


def command(*arguments: object):
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


@pytest.fixture
def in_process(monkeypatch) -> None:
    monkeypatch.setattr(
        "monailabel_app.batch.engines.Processes", lambda settings, _: InThisProcess(settings)
    )


def test_the_exit_status_tells_whether_anything_failed(tmp_path, studies, in_process) -> None:
    arguments = (listed(tmp_path), "--studies", studies, "--out", tmp_path / "out")
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    assert "4 of 4" in result.output
    (studies / "bad.nii.gz").write_text("no image")
    result = command(*arguments)
    assert result.exit_code == 1, result.output
    assert "4 of 6" in result.output
    assert "bad: The file is named as NIfTI" in result.output


def test_a_cluster_takes_no_results_that_records_hold(tmp_path, studies) -> None:
    result = command(
        listed(tmp_path), "--studies", studies, "--out", tmp_path / "out", "--results", "seg",
        "--ray", "10.0.0.1:6379",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "lie on one machine" in " ".join(result.output.replace("│", " ").split())


def test_without_ray_the_extra_is_named(tmp_path, studies, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    result = command(
        listed(tmp_path), "--studies", studies, "--out", tmp_path / "out", "--ray", "local"
    )
    assert isinstance(result.exception, MissingExtraError)
    assert "[ray]" in str(result.exception)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_series_that_is_cut_off_is_set_aside_in_its_list(tmp_path) -> None:
    studies = tmp_path / "studies"
    folder = write_series(studies / "a")
    write_series(studies / "b", seed=4)
    shutil.copy(folder / "0001.dcm", studies / "cut.dcm")
    os.truncate(studies / "cut.dcm", 200)
    report = run(listed(tmp_path), settings_of(studies, tmp_path / "out"))
    assert report.outcomes.total() == 4
    assert [one.name for one in report.set_aside] == ["cut.dcm"]
    assert report.has_failed
