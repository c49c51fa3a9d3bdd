# SPDX-License-Identifier: Apache-2.0
"""The commands: what a user types, what comes out, and what is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("datasets")
pytest.importorskip("openai")
pytest.importorskip("monailabel")

import pyarrow.parquet as pq
from support.chat_model import ChatModel
from support.labelled_images import labelled_folder
from typer.testing import CliRunner

from medreasoner_infer.errors import MedReasonerError
from medreasoner_training.samples import DatasetFolderError
from monailabel_app.cli.app import app
from monailabel_app.export.questions.settings import (
    QueryWriterSettingsError,
    QueryWriterUnreachableError,
)

RUNNER = CliRunner(env={"COLUMNS": "200"})


def run(*arguments: object):
    result = RUNNER.invoke(app, ["dataset", *map(str, arguments)])
    if isinstance(result.exception, MedReasonerError):
        raise result.exception
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return labelled_folder(tmp_path / "site", 2)


def test_built_checked_reviewed_converted(folder, tmp_path) -> None:
    data, table = tmp_path / "set", tmp_path / "review.csv"
    built = run("build", folder, "--out", data, "--implicit", 1, "--languages", "en,fr")
    assert built.exit_code == 0, built.output
    assert "written to" in built.output
    assert run("check", data).exit_code == 0
    assert run("review", data, "--export", table).exit_code == 0
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    identifier = lines[1].partition(",")[0]
    lines[1] = lines[1].replace(f"{identifier},,", f"{identifier},reject,", 1)
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run("review", data, "--export", table).exit_code == 2  # decisions are not lost
    reviewed = run("review", data, "--import", table, "--out", tmp_path / "reviewed")
    assert "1 rejected" in reviewed.output
    assert run("convert", data, "--to", "pictures", "--out", tmp_path / "pictures").exit_code == 0
    count = len((tmp_path / "pictures" / "questions.csv").read_text().splitlines()) - 1
    assert count == len(lines) - 1


def test_a_review_s_page_is_made_anew_and_no_other_file_is_replaced(folder, tmp_path) -> None:
    data, page, note = tmp_path / "set", tmp_path / "review.html", tmp_path / "note.html"
    built = run("build", folder, "--out", data, "--implicit", 1, "--languages", "en")
    assert built.exit_code == 0, built.output
    note.write_text("<html>mine</html>")
    assert [run("review", data, "--page", page).exit_code for _ in range(2)] == [0, 0]
    refused = run("review", data, "--page", note)
    assert (refused.exit_code, note.read_text()) == (2, "<html>mine</html>")
    assert run("review", data, "--page", note, "--overwrite").exit_code == 0
    assert note.read_text() == page.read_text()


def test_a_data_set_is_written_into_a_new_folder_only(folder, tmp_path) -> None:
    data, table, full = tmp_path / "set", tmp_path / "review.csv", tmp_path / "full"
    assert run("build", folder, "--out", data, "--implicit", 1, "--languages", "en").exit_code == 0
    assert run("review", data, "--export", table).exit_code == 0
    full.mkdir()
    (full / "questions.csv").write_text("mine")
    for command in (
        ("build", folder, "--implicit", 1, "--languages", "en"),
        ("convert", data, "--to", "pictures"),
        ("review", data, "--import", table),
    ):
        with pytest.raises(DatasetFolderError, match="new folder"):
            run(*command, "--out", full)
    assert [path.name for path in full.iterdir()] == ["questions.csv"]
    assert (full / "questions.csv").read_text() == "mine"


def test_a_check_s_report_is_made_anew_and_no_other_file_is_replaced(folder, tmp_path) -> None:
    report, note = tmp_path / "check.json", tmp_path / "note.json"
    for _ in range(2):
        assert run("check", folder, "--out", report).exit_code in (0, 1)
    note.write_text('{"rows": 1}')
    refused = run("check", folder, "--out", note)
    assert (refused.exit_code, note.read_text()) == (2, '{"rows": 1}')
    run("check", folder, "--out", note, "--overwrite")
    assert note.read_text() == report.read_text()


def test_options_that_do_not_go_together_are_refused(folder, tmp_path) -> None:
    out = tmp_path / "set"
    for wrong in (
        ("build", folder, "--out", out, "--questions", "other"),
        ("build", folder, "--out", out, "--writer", "http://localhost:1/v1"),
        ("convert", folder, "--to", "dicom", "--out", out),
        ("review", folder),
        ("review", folder, "--import", tmp_path / "review.csv"),
    ):
        assert run(*wrong).exit_code == 2, wrong
    with pytest.raises(MedReasonerError, match="is no language of the vocabulary"):
        run("build", folder, "--out", out, "--languages", "klingon")
    assert not out.exists()


def test_a_writer_outside_the_site_is_refused_and_so_is_one_that_is_not_there(folder, tmp_path):
    arguments = ("build", folder, "--out", tmp_path / "set", "--model", "m", "--writer")
    with pytest.raises(QueryWriterSettingsError, match=r"has the public address 8\.8\.8\.8"):
        run(*arguments, "http://8.8.8.8/v1")
    with pytest.raises(QueryWriterUnreachableError, match="cannot be used with the model"):
        run(*arguments, "http://127.0.0.1:9/v1")
    assert not (tmp_path / "set").exists()


def test_a_model_at_the_site_writes_through_its_server(folder, tmp_path) -> None:
    described = json.dumps({"phrases": ["what clears blood"], "forms": ["Where is {description}?"]})
    texts = [f"Which part number {number} is meant?" for number in range(3)]
    asked = json.dumps({"questions": [{"question": t, "reasoning": "Seen so."} for t in texts]})
    model = ChatModel([described, asked, described, asked, described, asked, described, asked])
    try:
        out = tmp_path / "set"
        run("build", folder, "--out", out, "--writer", model.url, "--model", "site-model",
            "--explicit", 0, "--absent", 0)  # fmt: skip
    finally:
        model.server.shutdown()
        model.server.server_close()
    rows = [r for p in out.glob("data/*.parquet") for r in pq.read_table(p).to_pylist()]
    assert {row["extra_info"]["query_model"] for row in rows} == {"site-model"}
    assert len(model.requests) == 8
    sent = json.dumps(model.requests)
    assert "images/" not in sent
    assert "base64" not in sent
