# SPDX-License-Identifier: Apache-2.0
"""Logging in, and what the network is answered without it."""

from __future__ import annotations

import json
import stat

import monailabel.app
import pytest
from fastapi.testclient import TestClient
from monailabel.client import MONAILabelClient
from monailabel.config import settings as monailabel_settings
from pydantic import SecretStr

from monailabel_app.errors import SettingsError
from monailabel_app.routes.install import _guards
from monailabel_app.security.exposure import is_from_network, is_loopback
from monailabel_app.security.readers import Readers
from monailabel_app.security.settings import SecuritySettings, security_settings

TOKEN = "correct-horse-battery-staple"
EVIL = "https://evil.example"


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


def test_the_routes_know_who_is_reading(serve, studies) -> None:
    """Every label and decision was the administrator's."""
    client = serve(token=TOKEN)
    content = (studies / "case.nii.gz").read_bytes()
    client.put("/datastore/?image=new", files={"file": ("n", content)}, auth=("x", TOKEN))
    info = client.get("/datastore/image/info?image=new", auth=("x", TOKEN)).json()
    assert info["reader"] == "reader"


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
