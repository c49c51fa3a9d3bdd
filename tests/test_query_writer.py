# SPDX-License-Identifier: Apache-2.0
"""Questions that a language model of the site writes: checked, cached, private, with a fallback."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("monailabel")

from support.chat_model import ChatModel

from medreasoner_infer.imaging import Plane
from medreasoner_training.embedded.queries import known_targets
from medreasoner_training.samples import TRAIN, VALIDATION, LeftOut, QuerySource
from medreasoner_training.samples.naming import (
    BAD_LENGTH,
    NAMES_TARGET,
    NO_SIDE,
    WRONG_DISPLAY,
    WRONG_SIDE,
    fault_of_question,
)
from monailabel_app.export.questions import (
    Asked,
    QueryWriter,
    QueryWriterSettings,
    WrittenQuestions,
    writer_settings,
)
from monailabel_app.export.questions.maker import FELL_BACK
from monailabel_app.export.questions.settings import (
    QueryWriterSettingsError,
    QueryWriterUnreachableError,
    require_at_site,
)
from monailabel_app.export.questions.writer import NOT_OF_SCHEMA

GOOD = [f"Which organ number {number} filters old blood cells?" for number in range(8)]
SPLEEN = Asked("Spleen", Plane.AXIAL, "CT", ("Spleen", "liver", "stomach"))


class Model(ChatModel):
    def writer(self, records: Path, **changes) -> QueryWriter:
        return QueryWriter(QueryWriterSettings(self.url, "site-model", **changes), records)


@pytest.fixture
def serve():
    models = []

    def start(*answers: list[str] | str | int) -> Model:
        texts = [json.dumps({"questions": a}) if isinstance(a, list) else a for a in answers]
        models.append(Model(texts))
        return models[-1]

    yield start
    for model in models:
        model.server.shutdown()
        model.server.server_close()


# --- what may be asked ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label", "fault"),
    [
        ("Which organ filters the blood of the patient's left side?", "left kidney", None),
        ("Which organ filters the blood, seen on the right of the image?", "left kidney", None),
        ("Which organ filters the blood on the left side of the image?", "left kidney", WRONG_SIDE),
        ("Which filter of the blood lies on the right?", "Kidney_Left", WRONG_SIDE),
        ("Which organ filters the blood into urine?", "left kidney", NO_SIDE),
        ("Which organ filters the blood below the splenic tip?", "left kidney", None),
        ("Where does a renal colic begin on the left?", "left kidney", NAMES_TARGET),
        ("Are the left kidneys enlarged here?", "LeftKidney", NAMES_TARGET),
        ("Where is the aortic valve's vessel?", "aorta", NAMES_TARGET),
        ("Show the IVC of this patient, please.", "inferior vena cava", NAMES_TARGET),
        ("Which vessel returns blood from the legs?", "inferior vena cava", None),
        ("Which skull-filling organ thinks? The cerebral one.", "brain", NAMES_TARGET),
        ("Who?", "spleen", BAD_LENGTH),
        ("Which organ filters blood?\nAnd which one does not?", "spleen", BAD_LENGTH),
        ("x" * 201, "spleen", BAD_LENGTH),
    ],
)
def test_a_question_leads_to_its_target_without_naming_it(text, label, fault):
    assert fault_of_question(text, label, Plane.AXIAL, "CT", ("spleen",)) == fault


def test_brightness_and_sides_must_fit_the_display():
    text = "Which bright organ filters old blood cells?"
    assert fault_of_question(text, "spleen", Plane.AXIAL, "CT") is None
    assert fault_of_question(text, "spleen", Plane.AXIAL, "MR") == WRONG_DISPLAY
    sided = "Which organ on the right of the image filters old blood cells?"
    assert fault_of_question(sided, "spleen", Plane.AXIAL, "MR") is None
    assert fault_of_question(sided, "spleen", Plane.SAGITTAL, "MR") == WRONG_DISPLAY


def test_no_template_names_its_target_or_the_wrong_side():
    faults = {
        (target.name, text): fault_of_question(text, target.name, Plane.AXIAL, "CT")
        for target in known_targets().values()
        for text in (*target.trained, *target.held_out)
    }
    assert len(faults) > 300
    assert {case: f for case, f in faults.items() if f in (NAMES_TARGET, WRONG_SIDE)} == {}


# --- asking --------------------------------------------------------------------------------------


def test_written_questions_carry_their_provenance_and_part_for_validation(serve, tmp_path):
    make = WrittenQuestions(serve(GOOD).writer(tmp_path), LeftOut())
    trained = make(SPLEEN)
    held_out = make(Asked("Spleen", Plane.AXIAL, "CT", ("stomach", "liver"), held_out=True))
    assert [question.text for question in (*trained, *held_out)] == GOOD
    assert len(held_out) == 2
    for question in (*trained, *held_out):
        assert question.source is QuerySource.MODEL
        assert (question.model, question.prompt_version) == ("site-model", "1")


def test_only_label_modality_plane_and_neighbours_are_sent(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "meant-for-another-service")
    model = serve(GOOD)
    WrittenQuestions(model.writer(tmp_path), LeftOut())(SPLEEN)
    (request,) = model.requests
    assert request["path"] == "/v1/chat/completions"
    system, user = request["messages"]
    assert json.loads(user["content"]) == {
        "structure": "Spleen",
        "modality": "CT",
        "plane": "axial",
        "other structures in the image": ["liver", "stomach"],
        "words that must not occur, however they end": ["spleen", "splen"],
        "number of questions": 8,
    }
    assert set(request) == {
        "path", "messages", "model", "max_tokens", "temperature", "seed", "response_format"
    }  # fmt: skip
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["questions"]["minItems"] == 8
    assert "meant-for-another-service" not in str(model.headers)
    assert "Spleen" not in system["content"]


def test_answers_are_cached_by_all_that_is_sent(serve, tmp_path):
    model = serve(GOOD)
    first = WrittenQuestions(model.writer(tmp_path), LeftOut())(SPLEEN)
    assert WrittenQuestions(model.writer(tmp_path), LeftOut())(SPLEEN) == first
    assert len(model.requests) == 1
    other = Asked("Spleen", Plane.CORONAL, "CT", SPLEEN.neighbours)
    WrittenQuestions(model.writer(tmp_path), LeftOut())(other)
    assert len(model.requests) == 2
    (damaged, _) = (tmp_path / "query_writer").iterdir()
    damaged.write_text('{"questions": [')
    for asked in (SPLEEN, other):
        WrittenQuestions(model.writer(tmp_path), LeftOut())(asked)
    assert len(model.requests) == 3


def test_refused_questions_are_asked_for_again_and_counted(serve, tmp_path):
    bad = ["Where is the spleen of this patient?", GOOD[0], GOOD[0], "Splenic rupture: where?"]
    model = serve([*GOOD[:4], *bad], GOOD[4:])
    for _ in range(2):  # the second time from the cache
        refused = LeftOut()
        make = WrittenQuestions(model.writer(tmp_path), refused)
        questions = [*make(SPLEEN), *make(SPLEEN)]
        assert {question.text for question in questions} <= set(GOOD)
        assert refused.counts["Spleen", NAMES_TARGET] == 2
    assert len(model.requests) == 2
    assert json.loads(model.requests[1]["messages"][1]["content"])["number of questions"] == 4


def test_a_model_that_keeps_naming_the_target_leaves_the_templates(serve, tmp_path):
    model, refused = serve(["Where is the spleen?"] * 8, "no JSON at all", "[1]"), LeftOut()
    questions = WrittenQuestions(model.writer(tmp_path), refused)(SPLEEN)
    assert {question.text for question in questions} <= set(
        next(t for t in known_targets().values() if t.name == "spleen").trained
    )
    assert {question.source for question in questions} == {QuerySource.TEMPLATE}
    assert len(model.requests) == 3
    assert {reason: count for _, reason, count in refused} == {
        NAMES_TARGET: 8, NOT_OF_SCHEMA: 2, FELL_BACK: 1
    }  # fmt: skip


@pytest.mark.parametrize("name", ["structure", "?!", "see the letter of 3.4.: " + "long " * 20])
def test_a_name_that_is_no_structure_is_not_sent(serve, tmp_path, name):
    model = serve(GOOD)
    assert WrittenQuestions(model.writer(tmp_path), LeftOut())(Asked(name, Plane.AXIAL, "CT")) == ()
    assert model.requests == []


@pytest.mark.parametrize("status", [307, 401, 404])
def test_a_server_that_refuses_or_sends_elsewhere_is_a_typed_error(serve, tmp_path, status):
    model = serve(status)
    with pytest.raises(QueryWriterUnreachableError, match="site-model"):
        WrittenQuestions(model.writer(tmp_path), LeftOut())(SPLEEN)
    assert not (tmp_path / "query_writer").exists()


# --- where the model stands ----------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "10.2.3.4", "192.168.0.9"])
def test_addresses_at_the_site_are_taken(host, tmp_path):
    settings = QueryWriterSettings(f"http://{host}:8000/v1", "m")
    with closing(QueryWriter(settings, tmp_path)) as writer:
        assert writer.settings == settings


@pytest.mark.parametrize("host", ["8.8.8.8", "[2001:4860:4860::8888]", "[::ffff:8.8.8.8]"])
def test_public_addresses_are_refused_unless_permitted(host):
    settings = QueryWriterSettings(f"https://{host}/v1", "m")
    with pytest.raises(QueryWriterSettingsError, match="public address"):
        require_at_site(settings)
    require_at_site(QueryWriterSettings(settings.url, "m", allow_public=True))


def test_a_name_with_one_public_address_is_refused(monkeypatch):
    found = [(2, 1, 6, "", (address, 0)) for address in ("10.0.0.1", "8.8.8.8")]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: found)
    with pytest.raises(QueryWriterSettingsError, match=r"8\.8\.8\.8"):
        require_at_site(QueryWriterSettings("http://models.example/v1", "m"))


def test_settings_are_read_from_the_folder_of_the_records(tmp_path):
    assert writer_settings(tmp_path) is None
    file = tmp_path / "query_writer.yaml"
    file.write_text("url: http://localhost:8000/v1\nmodel: m\nquestions: 4\n")
    assert writer_settings(tmp_path) == QueryWriterSettings("http://localhost:8000/v1", "m", 4)
    for text in ("url: ftp://x\nmodel: m", "url: http://x", "adress: http://x", "- 1", "url: {"):
        file.write_text(text)
        with pytest.raises(QueryWriterSettingsError):
            writer_settings(tmp_path)


# --- in an export --------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """Two patients of a synthetic site with few slices."""
    from medreasoner_training.experiments.site_shift.datastore import write_site
    from medreasoner_training.experiments.site_shift.site import USUAL

    monkeypatch.setattr(
        "medreasoner_training.experiments.site_shift.site.Z_RANGE_MM", (230.0, 260.0)
    )
    return write_site(tmp_path / "studies", USUAL, 0, range(2))


def test_an_export_keeps_who_wrote_each_question_and_is_the_same_again(serve, site, tmp_path):
    pytest.importorskip("datasets")
    from medreasoner_training.samples import SampleSettings
    from monailabel_app.export.exporting import ExportSettings, export_studies
    from monailabel_app.training.data_set import content_key

    model = serve(["Where is the spleen, liver, aorta or heart?", *GOOD[:7]])
    records = tmp_path / "records"
    records.mkdir()
    (records / "query_writer.yaml").write_text(f"url: {model.url}\nmodel: site-model\n")
    settings = ExportSettings(0.5, SampleSettings(128, 1, 1, min_area_px=40))
    first, again = (
        export_studies(str(site), tmp_path / name, settings, data_dir=records)
        for name in ("first", "again")
    )
    asked = [json.loads(r["messages"][1]["content"])["structure"] for r in model.requests]
    assert "spleen" in asked
    assert content_key(first) == content_key(again)
    assert first.manifest.settings["query_model"] == "site-model"
    assert first.manifest.refused_questions
    asked_in = {}
    for split in (TRAIN, VALIDATION):
        rows = [row for row in first.load(split) if row["extra_info"]["category"] == "spleen"]
        for extra in (row["extra_info"] for row in rows):
            assert extra["query_source"] == "model"
            assert (extra["query_model"], extra["query_prompt_version"]) == ("site-model", "1")
        asked_in[split] = {row["prompt"][0]["content"] for row in rows}
    assert asked_in[TRAIN] | asked_in[VALIDATION] <= set(GOOD)
    assert asked_in[TRAIN]
    assert not asked_in[TRAIN] & asked_in[VALIDATION]


def test_a_label_that_holds_the_patient_s_name_is_not_sent(serve, site, tmp_path):
    from medreasoner_infer.imaging import load_volume
    from monailabel_app.export.approved import ApprovedLabel
    from monailabel_app.export.cases import CaseKeys, build_case
    from monailabel_app.export.identity import PatientIdentity

    model = serve(GOOD)
    volume = load_volume(site / "usual-0000.nii.gz", modality="CT")
    file = site / "labels" / "final" / "usual-0000.nii.gz"
    names = json.loads((site / "datastore_v2.json").read_text())["objects"]["usual-0000"]
    info = names["labels"]["final"]["info"]
    info["label_info"][0]["name"] = "Johanna's finding"
    left_out = LeftOut()
    case = build_case(
        ApprovedLabel("usual-0000", file, info), volume, PatientIdentity("p", ("Johanna",)),
        CaseKeys("c", "p", False), left_out, WrittenQuestions(model.writer(tmp_path), LeftOut()),
    )  # fmt: skip
    assert len(case.targets) == len(info["label_info"]) - 1
    assert model.requests
    assert "Johanna" not in json.dumps(model.requests)
    assert [label for label, _, _ in left_out] == ["(not shown)"]
