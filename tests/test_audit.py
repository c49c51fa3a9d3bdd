# SPDX-License-Identifier: Apache-2.0
"""The audit of a site, whose records are made by the service that answers and stores."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import nibabel
import numpy as np
import pytest
from matplotlib.dates import date2num
from safetensors.numpy import save_file

pytest.importorskip("monailabel")
pytest.importorskip("highdicom")

from support.bright import BRIGHT_IJK, SHAPE_IJK, BrightReasoner, BrightSegmenter
from support.results import make_result
from typer.testing import CliRunner

from medreasoner_infer.doubt_record import Doubt
from medreasoner_infer.models.store import Provenance, ReasonerStore
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import SliceSelection
from monailabel_app.audit.answers import OTHER_TARGET
from monailabel_app.audit.collecting import collect
from monailabel_app.audit.control import WeekSums, control_chart
from monailabel_app.audit.drawing import chart_figure
from monailabel_app.audit.figures import MEASURES, charts, weekly
from monailabel_app.cli.app import app
from monailabel_app.dicom.archive import FolderArchive
from monailabel_app.dicom.recording import ResultRecorder
from monailabel_app.images.source import ImageSource
from monailabel_app.images.volumes import VolumeCache
from monailabel_app.inference.call import ASK_TASK, Call
from monailabel_app.inference.device import Device
from monailabel_app.inference.measures import Measures
from monailabel_app.inference.params import InferParams
from monailabel_app.inference.service import AnsweringService
from monailabel_app.store import Decision, LabelSubmission, Outcome, RecordStore, Target
from monailabel_app.store.reading import DamagedRecord, Wanted

SECRET = "Doe^Jane 4711"  # pragma: allowlist secret
MONDAY = date(2026, 1, 5)


class Site:
    """A folder of one image, which a reader asks about."""

    def __init__(self, studies: Path, address: str | None = None) -> None:
        studies.mkdir(exist_ok=True)
        self.studies = studies
        self._path = studies / "jane-doe.nii.gz"
        voxels = np.full(SHAPE_IJK, -1000, np.int16)
        voxels[BRIGHT_IJK] = 2000
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), self._path)
        self.records = RecordStore(studies / ".medreasoner", address=address)
        volumes, measures = VolumeCache(1 << 24), Measures()
        pipeline = Pipeline(BrightReasoner, BrightSegmenter)
        self._service = AnsweringService(
            pipeline, volumes, self.records, Device(measures, reasons=False), 2, 2, measures
        )
        archive = FolderArchive(studies, studies / ".medreasoner" / "dicom")
        self.results = ResultRecorder(self.records, lambda _: self._image(), volumes, archive)

    def _image(self) -> ImageSource:
        return ImageSource(self._path, "jane-doe", "CT")

    def ask(self, query: str) -> str:
        """Ask, and have the answer recorded; returns its id."""
        params = InferParams(query=query, selection=SliceSelection("axial"), propagate=True)
        answer = self._service.answer(Call(ASK_TASK, self._image(), params, asked_by="dr-who"))
        return answer.result.inference_id

    def submit(self, inference_id: str, mask_ijk: np.ndarray, folder: Path) -> None:
        """Submit a final label for an answer."""
        file = folder / f"{inference_id}.nii.gz"
        grid = np.diag([-1.0, -1.0, 1.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(mask_ijk.astype(np.uint8), grid), file)
        info = {"label_info": [{"name": "Spleen", "idx": 1, "inference_id": inference_id}]}
        self.results.record_label(LabelSubmission("jane-doe", "final", file, info))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "studies")
    yield made
    made.records.close()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch) -> Path:
    """No reasoners of this machine's account."""
    monkeypatch.setenv("MEDREASONER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def bright() -> np.ndarray:
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[BRIGHT_IJK] = 1
    return mask


def audit_of(site: Site, out: Path, *options: str):
    return CliRunner().invoke(
        app, ["audit", "--studies", str(site.studies), "--out", str(out), *options]
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


# --- what is counted -----------------------------------------------------------------------------


def test_an_answer_is_counted_with_what_its_reader_made_of_it(site, tmp_path) -> None:
    """Accepted by the very mask, edited to its half, rejected by a word, and left alone."""
    accepted, edited, rejected = (site.ask("Where is the spleen?") for _ in range(3))
    site.ask(f"Does {SECRET} have a spleen like this, or what is it?")
    site.submit(accepted, bright(), tmp_path)
    half = bright()
    half[BRIGHT_IJK[0].start + 4 :] = 0
    site.submit(edited, half, tmp_path)
    now = datetime.now(timezone.utc)
    site.results.decision(rejected, Decision(Outcome.REJECTED, "no", now + timedelta(seconds=90)))
    found = collect(site.records, Wanted())
    by_id = {answer.identifiers.inference_id: answer for answer in found.answers}
    first, second, third = by_id[accepted], by_id[edited], by_id[rejected]
    assert [each.target for each in (first, second, third)] == ["spleen"] * 3
    assert [each.decision for each in (first, second, third)] == ["accepted", "edited", "rejected"]
    assert (first.dice, third.dice) == (1.0, None)
    assert second.dice == pytest.approx(2 * half.sum() / (half.sum() + bright().sum()))
    assert third.decision_s == pytest.approx(90, abs=30)
    assert (first.reasoner.name, first.reasoner.sha256) == ("toy", "ab" * 32)
    assert (len(found.answers), found.damaged, found.unusable_masks) == (4, (), 0)


def test_masks_are_read_only_where_a_reader_submitted_one(site, tmp_path) -> None:
    """All other masks may be gone."""
    with_label, without = site.ask("Where is the spleen?"), site.ask("Where is the spleen?")
    site.submit(with_label, bright(), tmp_path)
    site.records.get(without).mask_file.unlink()
    assert collect(site.records, Wanted()).unusable_masks == 0
    half = bright()
    half[10:] = 0
    site.submit(with_label, half, tmp_path)
    site.records.get(with_label).mask_file.unlink()
    found = collect(site.records, Wanted())
    assert (found.unusable_masks, [answer.dice for answer in found.answers]) == (1, [None, None])


@pytest.mark.parametrize(
    ("called", "query", "target"),
    [
        ("Spleen", "What is it?", "spleen"),
        (None, "Wo ist die linke Niere?", "left kidney"),
        ("kidney_left", None, "left kidney"),
        (SECRET, "Where is the liver?", "liver"),
        (SECRET, f"Show what {SECRET} has", OTHER_TARGET),
        (None, None, OTHER_TARGET),
    ],
)
def test_a_target_is_called_by_listed_names_alone(tmp_path, called, query, target) -> None:
    store = RecordStore(tmp_path)
    store.add_inference(replace(make_result("a"), query=query), task="t", image_id="case")
    decision = Decision(Outcome.ACCEPTED, None, datetime.now(timezone.utc))
    store.decide("a", decision, target=None if called is None else Target(called))
    (answer,) = collect(store, Wanted()).answers
    store.close()
    assert answer.target == target


def test_the_support_for_an_answer_is_followed_beside_the_agreement(tmp_path) -> None:
    store = RecordStore(tmp_path)
    backed = Doubt(readings=8, agreement=0.9, named=(), support=0.7)
    for name, doubt in (("a", backed), ("b", None), ("c", replace(backed, support=None))):
        result = replace(make_result(name), agreement=0.8, doubt=doubt)
        store.add_inference(result, task="t", image_id="case")
    answers = collect(store, Wanted()).answers
    store.close()
    assert [answer.support for answer in answers] == [0.7, None, None]
    (support,) = (measure for measure in MEASURES if measure.name == "support")
    assert [(week.n, week.total) for week in weekly(answers, support)] == [(1, 0.7)]


def test_studies_models_and_days_are_selected_in_any_database(tmp_path, records_address) -> None:
    store = RecordStore(tmp_path / "records", address=records_address)
    for number in range(4):
        at = datetime(2026, 1, 1 + number, 23, 59, tzinfo=timezone.utc)
        model = replace(
            make_result("x").reasoner, name=f"model-{number}", weights_sha256=f"{number}a" * 32
        )
        result = replace(make_result(f"{number}"), created_at=at.isoformat(), reasoner=model)
        store.add_inference(result, task="t", image_id=f"case-{number}", study_uid=f"1.2.{number}")

    def found(**wanted) -> list[str]:
        audit = collect(store, Wanted(**wanted))
        return [answer.identifiers.inference_id for answer in audit.answers]

    second, third = (datetime(2026, 1, day, tzinfo=timezone.utc) for day in (2, 3))
    assert found() == ["0", "1", "2", "3"]
    assert found(study="1.2.1") == found(study="case-1") == ["1"]
    assert found(model="model-2") == found(model="2A2a2a") == ["2"]
    assert found(model="%") == found(study="nobody") == []
    assert found(since=second, until=third) == ["1"]
    store.close()


# --- what is told --------------------------------------------------------------------------------


def test_nothing_tells_who_it_was_unless_that_is_asked_for(site, tmp_path) -> None:
    inference_id = site.ask(f"=HYPERLINK({SECRET})")
    site.submit(inference_id, bright(), tmp_path)
    decision = Decision(Outcome.EDITED, SECRET, datetime.now(timezone.utc), "dr-who")
    site.results.decision(inference_id, decision, Target(SECRET))
    silent, told = tmp_path / "silent", tmp_path / "told"
    assert audit_of(site, silent).exit_code == 0
    written = {path.name for path in silent.iterdir()}
    assert written == {"audit.html", "answers.csv", "weeks.csv", "site_card.md", "site_card.html"}
    for path in silent.iterdir():
        text = re.sub(r"base64,[\w+/=]+", "", path.read_text(encoding="utf-8"))  # pictures
        for secret in ("Doe", "4711", "jane", "dr-who", inference_id, "HYPERLINK"):
            assert secret not in text, (path.name, secret)
        assert path.stat().st_mode & 0o077 == 0
    assert audit_of(site, told, "--identifiers", "--questions").exit_code == 0
    (row,) = rows_of(told / "answers.csv")
    assert (row["inference_id"], row["image_id"], row["asked_by"], row["decided_by"]) == (
        inference_id, "jane-doe", "dr-who", "dr-who",
    )  # fmt: skip
    assert row["question"] == f"'=HYPERLINK({SECRET})", "a spreadsheet would run it"


def test_damaged_records_are_named_and_take_no_other_along(site, tmp_path) -> None:
    ids = [site.ask("Where is the spleen?") for _ in range(6)]
    site.records.close()
    damage = {
        ids[0]: ("result", "{broken"),
        ids[2]: ("result", json.dumps({"query": 1})),
        ids[3]: ("created_at", "yesterday"),
        ids[5]: ("outcome", "liked"),
    }
    with closing(sqlite3.connect(site.studies / ".medreasoner" / "records.sqlite")) as database:
        for id_, (column, value) in damage.items():
            database.execute(
                f"UPDATE inferences SET {column} = ?, decided_at = created_at WHERE id = ?",
                (value, id_),
            )
        database.commit()
    reopened = RecordStore(site.studies / ".medreasoner")
    found = collect(reopened, Wanted())
    reopened.close()
    assert {one.id for one in found.damaged} == set(damage)
    assert all(isinstance(one, DamagedRecord) and one.reason for one in found.damaged)
    assert [answer.identifiers.inference_id for answer in found.answers] == [ids[1], ids[4]]
    ran = audit_of(site, tmp_path / "out")
    assert ran.exit_code == 0
    assert all(id_ in ran.output for id_ in damage)
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "4 record(s) cannot be read" in page
    assert ids[0] not in page


def test_where_nothing_is_recorded_the_command_says_so(tmp_path, site) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments in (["--studies", str(empty)], ["--studies", str(site.studies)]):
        ran = CliRunner().invoke(app, ["audit", *arguments, "--out", str(tmp_path / "out")])
        assert (ran.exit_code, "No answer is recorded" in ran.output) == (1, True)
    assert not (tmp_path / "out").exists()


# --- drift ---------------------------------------------------------------------------------------


def fill_weeks(store: RecordStore, accepted_of_20: list[int]) -> None:
    """Twenty decided answers a week, of which so many were accepted."""
    for week, accepted in enumerate(accepted_of_20):
        at = datetime.combine(MONDAY, datetime.min.time(), timezone.utc) + timedelta(weeks=week)
        for number in range(20):
            id_, asked = f"{week}-{number}", at + timedelta(hours=8 * number)
            result = replace(make_result(id_), created_at=asked.isoformat())
            store.add_inference(result, task="t", image_id="case")
            outcome = Outcome.ACCEPTED if number < accepted else Outcome.REJECTED
            store.decide(id_, Decision(outcome, None, asked + timedelta(minutes=3)))


def test_a_drift_is_flagged_in_its_week_and_no_week_before(tmp_path) -> None:
    """Nine tenths are accepted, in every other week one answer more or less; then one half."""
    store = RecordStore(tmp_path)
    steady = [17, 19, 18, 18, 19, 17, 18, 18, 17, 19, 18, 18]
    fill_weeks(store, [*steady, 18, 17, 19, 10])
    answers = collect(store, Wanted()).answers
    store.close()
    found = charts(answers, baseline_weeks=12)
    (alarm,) = found["accepted"].alarms
    assert alarm.week == MONDAY + timedelta(weeks=15)
    assert alarm.rules == ("beyond 3 sigma",)
    assert found["accepted"].centre == pytest.approx(sum(steady) / 240)
    assert "dice" not in found
    assert {answer.decision_s for answer in answers} == {180.0}


def shares(counts: list[tuple[int, int]]) -> list[WeekSums]:
    return [
        WeekSums(MONDAY + timedelta(weeks=week), n, right, right)
        for week, (right, n) in enumerate(counts)
    ]


def test_limits_are_those_that_the_formula_gives_by_hand() -> None:
    """p = 0.8 over 4 x 25 answers, weeks that do not differ; then a week of 16."""
    chart = control_chart("share", shares([(20, 25)] * 4 + [(15, 16)]), baseline_weeks=4)
    likely = 80.5 / 101
    sigma = (likely * (1 - likely) * (1 / 16 + 1 / 100)) ** 0.5
    assert chart.points[4].low == pytest.approx(0.8 - 3 * sigma)
    assert chart.points[4].high == 1.0
    assert chart.points[0].low == pytest.approx(0.8 - 3 * (likely * (1 - likely) / 25) ** 0.5)
    assert not chart.alarms


def test_eight_weeks_on_one_side_alarm_at_the_eighth() -> None:
    chart = control_chart("share", shares([(15, 20)] * 6 + [(16, 20)] * 9), baseline_weeks=6)
    assert [(p.week - MONDAY).days // 7 for p in chart.alarms] == [13]
    assert {rule for p in chart.alarms for rule in p.rules} == {"8 weeks on one side"}


def test_small_weeks_are_neither_judged_nor_part_of_a_run() -> None:
    counts = [(15, 20)] * 6 + [(16, 20)] * 7 + [(0, 9)] + [(16, 20)]
    chart = control_chart("share", shares(counts), baseline_weeks=6)
    small = chart.points[13]
    assert (small.low, small.rules) == (None, ())
    assert [p.week for p in chart.alarms] == [MONDAY + timedelta(weeks=14)]


def test_too_few_weeks_fix_no_limits() -> None:
    chart = control_chart("share", shares([(15, 20)] * 11), baseline_weeks=12)
    assert chart.centre is None
    assert all(point.low is None for point in chart.points)


@pytest.mark.parametrize(("baseline_weeks", "weeks"), [
    (12, [(15, 20), (0, 9), (9, 10)]), (2, [(15, 20), (3, 4), (18, 20), (16, 20)]), (12, [(0, 26)]),
])  # fmt: skip
def test_weeks_with_few_answers_alone_are_hollow(baseline_weeks, weeks) -> None:
    """As the page says, also while there are too few weeks for limits; no share is below 0."""
    chart = control_chart("share", shares(weeks), baseline_weeks=baseline_weeks)
    (axes,) = chart_figure(chart).axes
    marked = [line for line in axes.lines if line.get_marker() == "o"]
    hollow = {
        float(day)
        for line in marked
        if line.get_markerfacecolor() == "white"
        for day in line.get_xdata()
    }
    few = {date2num(point.week) for point in chart.points if point.n < 10}
    assert hollow == few
    assert sum(len(line.get_xdata()) for line in marked) == len(weeks)
    low, high = axes.get_ylim()
    assert -0.05 < low < high < 1.05
    first, last = axes.get_xlim()
    assert last - first < 100


def test_a_site_whose_weeks_differ_has_wider_limits() -> None:
    """Alternating 10 and 20 of 20: by the answers alone each such week would alarm."""
    restless = control_chart("share", shares([(10, 20), (20, 20)] * 8), baseline_weeks=12)
    assert not [p for p in restless.alarms if "beyond 3 sigma" in p.rules]


def test_a_change_where_all_were_alike_is_seen_and_equal_weeks_are_none() -> None:
    def sums(mean: float) -> tuple[int, float, float]:
        return 20, 20 * mean, 20 * mean**2

    weeks = [
        WeekSums(MONDAY + timedelta(weeks=week), *sums(mean))
        for week, mean in enumerate([0.9] * 14 + [0.8])
    ]
    chart = control_chart("mean", weeks)
    assert [p.week for p in chart.alarms] == [MONDAY + timedelta(weeks=14)]


def test_weeks_begin_on_monday_in_utc(tmp_path) -> None:
    store = RecordStore(tmp_path)
    moments = (
        "2026-01-11T23:59:00+00:00",
        "2026-01-12T01:30:00+02:00",
        "2026-01-12T00:00:00+00:00",
    )
    for id_, at in zip("abc", moments, strict=True):
        store.add_inference(replace(make_result(id_), created_at=at), task="t", image_id="case")
    measure = next(each for each in MEASURES if each.name == "absent")
    found = weekly(collect(store, Wanted()).answers, measure)
    store.close()
    assert [(week.week, week.n) for week in found] == [
        (date(2026, 1, 5), 2), (date(2026, 1, 12), 1),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["share", "mean"])
def test_stable_sites_alarm_as_rarely_as_documented(kind) -> None:
    """200 sites of 12 + 40 weeks of 30 answers; docs/audit.md has the figures."""
    rng = np.random.default_rng(20260105)
    alarms, beyond, weeks = 0, 0, 200 * 40
    for _ in range(200):
        drawn = rng.random((52, 30)) < 0.85, rng.normal(0.8, 0.1, (52, 30))
        values = dict(zip(("share", "mean"), drawn, strict=True))[kind]
        sums = [
            WeekSums(MONDAY + timedelta(weeks=week), 30, float(row.sum()), float((row**2).sum()))
            for week, row in enumerate(values.astype(float))
        ]
        found = control_chart(kind, sums).alarms
        alarms += len(found)
        beyond += sum("beyond 3 sigma" in point.rules for point in found)
    assert beyond / weeks < 0.005
    assert alarms / weeks < 0.02


# --- the card ------------------------------------------------------------------------------------


def test_the_card_of_the_site_fills_itself(site, tmp_path, own_home) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    save_file({"weight": np.zeros(2, np.float32)}, model / "model.safetensors")
    store = ReasonerStore()
    metrics = {"bbox_iou_candidate": 0.61, "bbox_iou_live": 0.5}
    store.add(model, Provenance("embedded", "cd" * 32, "0.1.0", 1, metrics=metrics), name="ours")
    store.promote("ours", by="dr-who", reasons=["Box IoU is better by 0.11 | sure."])
    inference_id = site.ask("Where is the spleen?")
    site.submit(inference_id, bright(), tmp_path)
    assert audit_of(site, tmp_path / "out").exit_code == 0
    for name in ("site_card.md", "site_card.html"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        for told in ("ours since 20", "cd" * 32, "0.6100", "Box IoU is better by 0.11", "toy abab",
                     "Not for clinical use", "100.0 %", "spleen", "1.000 (1)"):  # fmt: skip
            assert told in text, (name, told)
        assert "dr-who" not in text


def test_a_damaged_store_of_models_leaves_the_rest_of_the_card(site, tmp_path, own_home) -> None:
    site.ask("Where is the spleen?")
    (own_home / "models").mkdir(parents=True)
    (own_home / "models" / "live.json").write_text("{")
    assert audit_of(site, tmp_path / "out").exit_code == 0
    text = (tmp_path / "out" / "site_card.md").read_text(encoding="utf-8")
    assert "cannot be told" in text
    assert "spleen" in text
