# SPDX-License-Identifier: Apache-2.0
"""What stays closed: the administrator's routes, files outside the studies, the archive's inside.

The docstrings tell what MONAI Label 0.8.5 as shipped does; ``test_shipped_server.py`` shows it.
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests

TOKEN = "correct-horse-battery-staple"


def everything_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if ".medreasoner" not in path.parts)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/reload"),
        ("GET", "/logs/"),
        ("GET", "/logs/gpu"),
        ("GET", "/model/medreasoner"),
        ("GET", "/model/info/medreasoner"),
        ("PUT", "/model/medreasoner"),
        ("DELETE", "/model/medreasoner"),
        ("POST", "/scoring/anything"),
        ("POST", "/scoring/"),
        ("POST", "/batch/infer/medreasoner"),
        ("GET", "/batch/infer"),
        ("POST", "/infer/wsi/medreasoner"),
        ("POST", "/infer/wsi_v2/medreasoner"),
        ("GET", "/static/ohif/index.html"),
        ("GET", "/docs"),
    ],
)
def test_what_readers_do_not_need_is_not_there(serve, method, path) -> None:
    """As shipped anyone may: reload the app under running questions, read the log, replace or
    delete weights, start processes, and have any path opened as a slide."""
    response = serve().request(method, path, files={"file": ("m.pt", b"x")})
    assert response.status_code == 404
    assert response.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/datastore/image?id=case"),
        ("DELETE", "/datastore/?id=case"),
        ("DELETE", "/datastore/label?id=case&tag=final"),
        ("GET", "/datastore/dataset"),
    ],
)
def test_nobody_takes_or_deletes_all_images(serve, studies, method, path) -> None:
    """As shipped anyone may delete images and labels, and download all studies as one archive."""
    response = serve().request(method, path)
    assert response.status_code == 403
    assert "administrator" in response.json()["detail"]
    assert (studies / "case.nii.gz").is_file()


def test_the_administrator_may_open_some_of_it(serve, tmp_path, caplog) -> None:
    client = serve(admin_routes=True)
    logs = tmp_path / "app" / "logs"
    logs.mkdir(parents=True)
    (logs / "app.log").write_text("first\nsecond\nthird\n")
    assert client.get("/logs/?lines=2").text == "second\nthird\n"
    assert client.get("/logs/?lines=0").status_code == 422
    (tmp_path / "app" / "main.py").write_text("from monailabel_app.app import MedReasonerApp\n")
    assert client.post("/reload").status_code == 200
    assert client.get("/info/").json()["models"].keys() == {"medreasoner", "medreasoner_click"}


def test_a_reload_that_fails_leaves_the_app_as_it_was(serve) -> None:
    client = serve(admin_routes=True)
    assert client.post("/reload").status_code == 500
    assert client.get("/info/").status_code == 200


def test_the_routes_are_described(serve) -> None:
    assert "/datastore/label" in serve().get("/openapi.json").json()["paths"]


@pytest.mark.parametrize("filename", ["..", "../x.nii.gz/..", ".hidden.nii.gz", "a\\b.nii.gz"])
def test_an_uploaded_file_name_cannot_leave_the_studies(serve, tmp_path, filename) -> None:
    """``PUT /datastore/`` with a file named ``..`` wrote the upload into the folder above."""
    client = serve()
    before = everything_under(tmp_path)
    response = client.put("/datastore/", files={"file": (filename, b"x")})
    assert response.status_code == 422
    assert everything_under(tmp_path) == before


def test_an_image_cannot_be_replaced_by_an_upload(serve, studies) -> None:
    """``PUT /datastore/image?image=case`` replaced the image of that id without a word."""
    before = (studies / "case.nii.gz").read_bytes()
    response = serve().put("/datastore/image?image=case", files={"file": ("c.nii.gz", b"x")})
    assert response.status_code == 409
    assert (studies / "case.nii.gz").read_bytes() == before


def test_a_new_image_is_added(serve, studies) -> None:
    content = (studies / "case.nii.gz").read_bytes()
    client = serve()
    assert client.put("/datastore/?image=new", files={"file": ("n.nii.gz", content)}).json() == {
        "image": "new"
    }
    assert client.get("/datastore/image?image=new").content == content


def test_an_archive_is_not_unpacked(serve, tmp_path) -> None:
    """``PUT /session/?uncompress=true`` unpacked a tar's member ``../../x`` outside its folder."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../escaped"), io.BytesIO())
    response = serve().put(
        "/session/?uncompress=true", files={"files": ("a.tar", content.getvalue())}
    )
    assert response.status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/proxy/dicom/wado/%2e%2e/system",
        "/proxy/dicom/wado/..;/system",
        "/proxy/dicom/wado/system",
        "/proxy/dicom/qido/instances/../../tools/find",
        "/proxy/dicom/tools/execute-script",
        "/proxy/dicom/wado/studies/1.2/%2e",
        "/proxy/dicom/wado/studies%3Fx=1",
    ],
)
def test_the_proxy_passes_nothing_on_but_dicomweb(serve, path) -> None:
    """``GET /proxy/dicom/wado/%2e%2e/system`` answered from Orthanc's own REST API."""
    for method in ("GET", "POST"):
        response = serve().request(method, path)
        assert response.status_code == 404
        assert "detail" in response.json()


class Archive(BaseHTTPRequestHandler):
    """Answers what it was asked."""

    def do_GET(self) -> None:
        told = json.dumps({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
        self.send_response(206)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Set-Cookie", "archive=1")
        self.end_headers()
        self.wfile.write(told.encode())

    def log_message(self, *args: object) -> None:
        pass


def test_the_archive_gets_the_query_and_no_credentials(serve, monkeypatch) -> None:
    """The query was dropped; with ``POST`` all headers were sent on."""
    archive = HTTPServer(("127.0.0.1", 0), Archive)
    threading.Thread(target=archive.serve_forever, daemon=True).start()
    client = serve(token=TOKEN)
    session = lambda site: requests.Session()  # noqa: E731
    monkeypatch.setattr("monailabel_app.web.routes.proxy._session", session)
    address = f"http://127.0.0.1:{archive.server_port}/dicom-web/"
    provided = client.app.state.services
    paths = replace(provided.site.paths, studies=address)
    site = replace(provided.site, paths=paths)
    client.app.state.services = replace(provided, site=site)
    headers = {"Accept": "application/dicom+json", "Cookie": "a=b", "X-Other": "1"}
    answer = client.get(
        "/proxy/dicom/qido/studies?limit=2&PatientID=x%26y", headers=headers, auth=("x", TOKEN)
    )
    archive.shutdown()
    archive.server_close()
    asked = answer.json()
    assert asked["path"] == "/dicom-web/studies?limit=2&PatientID=x%26y"
    assert asked["accept"] == "application/dicom+json"
    assert not {"authorization", "cookie", "x-other"} & asked.keys()
    assert answer.status_code == 206
    assert answer.headers["content-type"] == "application/dicom+json"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["studies/1.2/reject/113001%5EDCM", "studies/1.2/series/1.3"])
def test_nothing_but_storing_can_be_posted_to_the_archive(serve, path) -> None:
    """Any ``POST`` was passed on, with the caller's cookies and credentials."""
    assert serve().post(f"/proxy/dicom/wado/{path}").status_code == 404
