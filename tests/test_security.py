# SPDX-License-Identifier: Apache-2.0
"""Requests that MONAI Label 0.8.5 as shipped answers, and this server refuses.

The docstrings tell what the shipped server does with them, as its source code says.
"""

from __future__ import annotations

import io
import json
import stat
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import nibabel
import numpy as np
import pytest
import requests

pytest.importorskip("monailabel")

import monailabel.app
from fastapi.testclient import TestClient
from monailabel.client import MONAILabelClient
from monailabel.config import settings as monailabel_settings
from monailabel.interfaces.utils import app as app_registry
from pydantic import SecretStr

from monailabel_app.app import MedReasonerApp
from monailabel_app.errors import SettingsError
from monailabel_app.routes.guard import AdminGuard, ArchiveGuard, ExposureGuard, PathGuard
from monailabel_app.routes.install import _guards
from monailabel_app.security.exposure import is_from_network, is_loopback
from monailabel_app.security.readers import Readers
from monailabel_app.security.settings import SecuritySettings, security_settings
from monailabel_app.security.stack import secure

TOKEN = "correct-horse-battery-staple"
VIEWER = "https://viewer.hospital.example"
EVIL = "https://evil.example"


class NoPipeline:
    """The requests below never reach the models."""


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    nibabel.save(image, folder / "case.nii.gz")
    return folder


GUARDS = (AdminGuard, ArchiveGuard, ExposureGuard, PathGuard)


@pytest.fixture
def serve(monkeypatch, tmp_path: Path, studies: Path):
    """Starts the app behind the access control of given settings."""
    server = monailabel.app.app
    for name, value in (
        ("DATASTORE_AUTO_RELOAD", False), ("SESSION_PATH", str(tmp_path / "sessions")),
        ("APP_DIR", str(tmp_path / "app")), ("STUDIES", str(studies)),
    ):  # fmt: skip
        monkeypatch.setattr(monailabel_settings, f"MONAI_LABEL_{name}", value)
    for name in ("user_middleware", "exception_handlers"):
        monkeypatch.setattr(server, name, type(getattr(server, name))(getattr(server, name)))
    monkeypatch.setattr(server, "middleware_stack", None)
    # An app that another test has built leaves its guards on the server, which is one for all.
    routes = [route for route in server.router.routes if not isinstance(route, GUARDS)]
    lifespan = server.router.lifespan_context
    state = dict(server.state._state)

    def start(base_url="http://127.0.0.1:8000", **settings: object) -> TestClient:
        server.state._state.pop("medreasoner_routes_installed", None)
        server.middleware_stack = None
        monkeypatch.setattr(server.router, "routes", list(routes))
        # Each router that is included wraps the one before.
        monkeypatch.setattr(server.router, "lifespan_context", lifespan)
        secure(server, SecuritySettings(**settings))
        app = MedReasonerApp(str(tmp_path / "app"), str(studies), {}, pipeline=NoPipeline())
        monkeypatch.setitem(app_registry.apps, f"{tmp_path / 'app'}{studies}", app)
        return TestClient(server, base_url=base_url, raise_server_exceptions=False)

    yield start
    server.state._state.clear()
    server.state._state.update(state)


def everything_under(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if ".medreasoner" not in path.parts)


# --- what only an administrator may do -----------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/reload"),
        ("GET", "/logs/"),
        ("GET", "/logs/gpu"),
        ("GET", "/model/medreasoner"),
        ("PUT", "/model/medreasoner"),
        ("DELETE", "/model/medreasoner"),
        ("DELETE", "/datastore/image?id=case"),
        ("DELETE", "/datastore/?id=case"),
        ("DELETE", "/datastore/label?id=case&tag=final"),
        ("GET", "/datastore/dataset"),
        ("POST", "/scoring/anything"),
    ],
)
def test_the_administrators_routes_are_closed(serve, studies, method, path) -> None:
    """As shipped anyone may: reload the app under running questions, read the log, replace or
    delete weights, delete images and labels, download all studies as one ZIP archive, and start
    processes."""
    response = serve().request(method, path, files={"file": ("m.pt", b"x")})
    assert response.status_code == 403
    assert "administrator" in response.json()["detail"]
    assert (studies / "case.nii.gz").is_file()


def test_the_administrator_may_open_them(serve) -> None:
    assert serve(admin_routes=True).post("/reload").status_code == 200


# --- staying inside the studies ------------------------------------------------------------------


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
    monkeypatch.setattr("monailabel_app.routes.proxy._session", requests.Session)
    address = f"http://127.0.0.1:{archive.server_port}/dicom-web/"
    monkeypatch.setattr(monailabel_settings, "MONAI_LABEL_STUDIES", address)
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


# --- pages of other sites ------------------------------------------------------------------------


def test_no_foreign_origin_is_reflected(serve) -> None:
    """Any origin was answered ``access-control-allow-origin: <it>`` with credentials."""
    response = serve().get("/info/", headers={"Origin": EVIL})
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-credentials" not in response.headers


def test_only_configured_origins_may_call(serve) -> None:
    client = serve(allowed_origins=VIEWER)
    preflight = {"Access-Control-Request-Method": "PUT"}
    allowed = client.options("/datastore/label", headers={"Origin": VIEWER, **preflight})
    assert allowed.headers["access-control-allow-origin"] == VIEWER
    refused = client.options("/datastore/label", headers={"Origin": EVIL, **preflight})
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1:9999"])
def test_a_form_on_another_site_changes_nothing(serve, origin) -> None:
    """A page anywhere could post a form to the reader's own machine; CORS does not stop that."""
    response = serve().post("/train/", headers={"Origin": origin})
    assert response.status_code == 403


def test_the_servers_own_pages_may_post(serve) -> None:
    response = serve().post(
        "/infer/none", headers={"Origin": "http://127.0.0.1:8000"}, data={"params": "{}"}
    )
    assert response.status_code == 404


def test_a_name_made_to_point_at_this_machine_is_refused(serve) -> None:
    """A page whose name is rebound to 127.0.0.1 was answered like one of the server's own."""
    assert serve("http://rebound.evil.example:8000").get("/info/").status_code == 400
    allowed = serve("http://reading-room:8000", allowed_hosts="reading-room")
    assert allowed.get("/info/").status_code == 200


# --- how much ------------------------------------------------------------------------------------


def test_a_body_beyond_the_limit_is_refused_also_without_a_length(serve) -> None:
    """Bodies of any size were read into memory or onto the disk."""
    client = serve(max_body_kb=1, max_upload_mb=1)
    assert client.post("/train/", content=b" " * 2000).status_code == 413
    assert client.post("/train/", content=iter([b" " * 2000])).status_code == 413
    big = {"file": ("b.nii.gz", b" " * (1 << 21))}
    assert client.put("/datastore/?image=big", files=big).status_code == 413
    assert client.get("/datastore/").json()["total"] == 1


def test_requests_that_change_something_are_counted_and_reading_is_not(serve) -> None:
    """There was no limit."""
    client = serve(requests_per_minute=3)
    statuses = [client.post("/infer/none").status_code for _ in range(4)]
    assert statuses == [404, 404, 404, 429]
    assert all(client.get("/info/").status_code == 200 for _ in range(5))


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/info/", "/ohif/index.html", "/nowhere", "/reload"])
def test_every_answer_carries_the_headers(serve, path) -> None:
    """There was none of them, so any page could frame the viewer."""
    headers = serve().get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["object-src"] == "'none'"
    assert "unsafe-inline" not in policy["script-src"]
    assert "http" not in headers["content-security-policy"]


def test_a_portal_may_be_allowed_to_frame_the_viewer(serve) -> None:
    policy = serve(frame_ancestors=VIEWER).get("/info/").headers["content-security-policy"]
    assert f"frame-ancestors {VIEWER}" in policy


def test_answers_about_patients_are_not_cached(serve) -> None:
    assert serve().get("/datastore/?output=all").headers["cache-control"] == "no-store"


# --- login ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/info/", "/ohif/", "/static/ohif/index.html", "/openapi.json"])
def test_without_a_token_nothing_is_answered(serve, path) -> None:
    """Authentication was off and every caller an administrator."""
    client = serve(token=TOKEN)
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get(path, headers={"Authorization": "Basic !"}).status_code == 401
    assert client.get(path, cookies={"medreasoner_session": "forged"}).status_code == 401


def test_a_bearer_token_or_basic_credentials_let_in(serve) -> None:
    client = serve(token=TOKEN)
    bearer = client.get("/info/", headers={"Authorization": f"Bearer {TOKEN}"})
    assert bearer.status_code == 200
    assert client.get("/info/", auth=("anyone", TOKEN)).status_code == 200


class OverTestClient:
    """MONAI Label's client speaks through http.client; this sends the same to a test client."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def http_method(self, method, url, selector, body=None, headers=None, content_type=None):
        headers = dict(headers or {}) | ({"content-type": content_type} if content_type else {})
        answer = self._client.request(method, selector, content=body, headers=headers)
        return answer.status_code, answer.content, None, answer.headers


def test_slicers_client_logs_in_with_its_dialog(serve, monkeypatch) -> None:
    transport = OverTestClient(serve(token=TOKEN))
    monkeypatch.setattr(
        "monailabel.client.client.MONAILabelUtils.http_method", transport.http_method
    )
    client = MONAILabelClient("http://127.0.0.1:8000")
    assert client.auth_enabled() is True
    assert client.auth_valid_token() is False
    client.update_auth(client.auth_token("dr.who", TOKEN))
    assert client.auth_valid_token() is True
    assert client.info()["name"] == "MedReasoner"


def test_the_routes_know_who_is_reading(serve, monkeypatch) -> None:
    """Every label and decision was the administrator's."""
    seen = []
    monkeypatch.setattr("monailabel_app.routes.datastore.add_image", lambda *a: seen.append(a[-1]))
    client = serve(token=TOKEN)
    client.put("/datastore/?image=new", files={"file": ("n", b"x")}, auth=("x", TOKEN))
    assert seen == ["reader"]


def test_the_browser_logs_in_by_a_form_and_keeps_a_cookie(serve) -> None:
    client = serve(token=TOKEN)
    page = client.get("/ohif/viewer?a=1", headers={"Accept": "text/html"})
    assert page.url.path == "/medreasoner/login"
    assert 'value="/ohif/viewer?a=1"' in page.text
    form = {"username": "x", "password": TOKEN, "next": "/ohif/viewer?a=1"}
    answer = client.post("/medreasoner/login", data=form, follow_redirects=False)
    assert answer.headers["location"] == "/ohif/viewer?a=1"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert TOKEN not in cookie
    assert client.get("/info/").status_code == 200
    client.post("/medreasoner/logout")
    assert client.get("/info/").status_code == 401


@pytest.mark.parametrize("target", [EVIL, "//evil.example", "/\\evil.example", "/info/"])
def test_the_login_leads_nowhere_but_to_the_viewer(serve, target) -> None:
    form = {"password": TOKEN, "next": target}
    answer = serve(token=TOKEN).post("/medreasoner/login", data=form, follow_redirects=False)
    assert answer.headers["location"] == "/ohif/"


def test_the_login_page_shows_no_markup_of_a_caller(serve) -> None:
    page = serve(token=TOKEN).get('/medreasoner/login?next=/ohif/"><script>alert(1)</script>')
    assert "<script>" not in page.text


def test_guessing_tokens_is_slowed_down_and_not_logged(serve, caplog) -> None:
    client = serve(token=TOKEN, logins_per_minute=3)
    guesses = [{"username": "x", "password": f"guess-number-{n}"} for n in range(4)]
    statuses = [client.post("/auth/token", data=guess).status_code for guess in guesses]
    assert statuses == [401, 401, 401, 429]
    assert "A login from" in caplog.text
    assert "guess-number" not in caplog.text


def test_a_changed_token_ends_sessions_and_time_does_too() -> None:
    readers = Readers({"ann": TOKEN}, session_seconds=3600)
    session = readers.open_session(readers.by_token(TOKEN))
    assert readers.by_session(session).display_name == "ann"
    assert Readers({"ann": TOKEN + "2"}, 3600).by_session(session) is None
    assert Readers({"ann": TOKEN}, session_seconds=-1).by_session(session) is None


def test_each_reader_has_a_token_of_their_own(tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# readers\nann: {TOKEN}-a\nbob: {TOKEN}-b\n")
    path.chmod(0o600)
    readers = Readers.of(SecuritySettings(token_file=path))
    assert readers.by_token(f"{TOKEN}-b").display_name == "bob"
    assert readers.by_token(f"{TOKEN}-b", "bob").display_name == "bob"
    assert readers.by_token(f"{TOKEN}-b", "ann") is None


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (f"ann:{TOKEN}", 0o644, "chmod 600"),
        ("ann:short", 0o600, "openssl rand"),
        ("no colon", 0o600, "Line 1"),
        (f"ann:{TOKEN}\nann:{TOKEN}x", 0o600, "Line 2"),
        ("", 0o600, "names no reader"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_a_token_file_that_cannot_be_used_says_why(tmp_path, content, mode, said) -> None:
    path = tmp_path / "tokens"
    if content is not None:
        path.write_text(content)
        path.chmod(stat.S_IFREG | mode)
    with pytest.raises(SettingsError, match=said):
        Readers.of(SecuritySettings(token_file=path))


def test_a_fault_of_the_environment_names_the_variable_and_not_its_value(monkeypatch) -> None:
    monkeypatch.setenv("MEDREASONER_ALLOWED_ORIGINS", "secret-place")
    with pytest.raises(SettingsError, match="MEDREASONER_ALLOWED_ORIGINS") as fault:
        security_settings()
    assert "secret-place" not in str(fault.value)


def test_two_kinds_of_login_are_refused(serve, monkeypatch) -> None:
    monkeypatch.setattr(monailabel_settings, "MONAI_LABEL_AUTH_ENABLE", True)
    with pytest.raises(SettingsError, match="choose one"):
        serve(token=TOKEN)


def test_a_token_is_never_shown() -> None:
    settings = SecuritySettings(token=SecretStr(TOKEN))
    assert TOKEN not in repr(settings)
    assert TOKEN not in json.dumps(settings.model_dump(mode="json"))


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True),
        ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.5", False),
        ("workstation", False),
    ],
)  # fmt: skip
def test_what_counts_as_this_machine(host, loopback) -> None:
    assert is_loopback(host) is loopback


def test_requests_through_a_network_address_are_told_apart() -> None:
    assert is_from_network(("10.0.0.5", 8000))
    assert not is_from_network(("127.0.0.1", 8000))
    assert not is_from_network(("/run/server.sock", None))


def test_without_a_login_other_machines_are_not_answered(serve) -> None:
    """The server listened on 0.0.0.0 and answered everyone."""
    network = "http://10.0.0.5:8000"
    refused = serve(network, allowed_hosts="10.0.0.5").get("/info/")
    assert refused.status_code == 403
    assert "MEDREASONER_TOKEN_FILE" in refused.json()["detail"]
    assert serve(network, allow_unauthenticated=True).get("/info/").status_code == 200
    with_token = serve(network, token=TOKEN)
    assert with_token.get("/info/", auth=("x", TOKEN)).status_code == 200


def test_a_token_without_the_access_control_does_not_count(serve, monkeypatch, caplog) -> None:
    """MONAI Label's own start knows nothing of tokens, so other machines are refused there."""
    serve()
    monkeypatch.setenv("MEDREASONER_TOKEN", TOKEN)
    monailabel.app.app.state._state.pop("security")
    names = [type(guard).__name__ for guard in _guards(monailabel.app.app)]
    assert "ExposureGuard" in names
    assert "monailabel_app.asgi:app" in caplog.text
