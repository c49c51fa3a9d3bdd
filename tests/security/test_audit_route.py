# SPDX-License-Identifier: Apache-2.0
"""The site's audit over HTTP: the files of the command, for the administrator alone."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import pytest

pytest.importorskip("monailabel")

from support.results import make_result
from typer.testing import CliRunner

from monailabel_app.cli.app import app as command

FILES = {"audit.html", "answers.csv", "weeks.csv", "site_card.md", "site_card.html"}


@pytest.fixture
def client(serve):
    client = serve(admin_routes=True)
    records = client.app.state.services.site.records
    for id_, at in (("a", "2026-01-05T10:00:00+00:00"), ("b", "2026-02-05T10:00:00+00:00")):
        result = replace(make_result(id_), created_at=at)
        records.add_inference(result, task="t", image_id="case", study_uid="1.2", asked_by="ann")
    return client


def unpacked(answer) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_tables_are_those_of_the_command(client, tmp_path) -> None:
    site = client.app.state.services.site
    arguments = ["audit", "--studies", str(site.paths.studies), "--out", str(tmp_path / "out")]
    arguments += ["--records", str(site.paths.data_dir), "--since", "2026-02-01"]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    found = unpacked(client.get("/medreasoner/audit", params={"since": "2026-02-01"}))
    assert set(found) == FILES
    for name in ("answers.csv", "weeks.csv"):
        assert found[name] == (tmp_path / "out" / name).read_bytes().decode()
    assert found["answers.csv"].count("\n") == 2  # head and one answer
    assert not list(site.scratch.folder.glob("*"))


def test_persons_and_questions_are_told_only_if_it_is_asked_for(client) -> None:
    plain = unpacked(client.get("/medreasoner/audit"))
    assert not any("bile" in text or "ann" in text.split(",") for text in plain.values())
    told = {"identifiers": "true", "questions": "true"}
    answers = unpacked(client.get("/medreasoner/audit", params=told))["answers.csv"]
    assert "bile" in answers
    assert "ann" in answers.split(",")


@pytest.mark.parametrize(
    ("params", "status"),
    [({"model": "nobody"}, 404), ({"since": "soon"}, 422), ({"baseline_weeks": 1}, 422)],
)
def test_what_cannot_be_told_is_a_sentence(client, params, status) -> None:
    answer = client.get("/medreasoner/audit", params=params)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)


def test_a_site_opens_the_route_first(serve) -> None:
    assert serve().get("/medreasoner/audit").status_code in (403, 404)
