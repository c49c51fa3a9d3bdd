# SPDX-License-Identifier: Apache-2.0
"""Logging in, and what the network is answered without it."""

from __future__ import annotations

import base64
import json
import os
import stat
from urllib.parse import urlencode

import monailabel.app
import pytest
from fastapi.testclient import TestClient
from monailabel.client import MONAILabelClient
from monailabel.config import settings as monailabel_settings
from pydantic import SecretStr

from monailabel_app.errors import SettingsError
from monailabel_app.security.accounts import Accounts
from monailabel_app.security.exposure import is_from_network, is_loopback
from monailabel_app.security.roles import Role
from monailabel_app.security.sessions import Sessions
from monailabel_app.security.settings import SecuritySettings, security_settings
from monailabel_app.web.routes.install import _guards

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


@pytest.mark.parametrize(
    "target",
    [
        EVIL, "//evil.example", "/\\evil.example", "/info/", "/ohif/..//evil.example",
        "/ohif//evil.example", "/ohif/%2e%2e//evil.example", "/ohif/%252e%252e/info/",
        "/ohif/../info/", "/ohif/\\evil.example", "/ohif/%5cevil.example",
        "/ohif/\r\nSet-Cookie: a=b",
        "/ohif/%0d%0aSet-Cookie:%20a=b", "/ohif/\t/evil", "/ohif/\u2044evil", "/ohif/?\n",
        " /ohif/", "\\/ohif/", "ohif/", "", "/ohif/" + "a" * 5000, "/ohif/\ud800",
        "javascript:alert(1)",
        "/ohif/?a=\u00e9",
    ],
)  # fmt: skip
def test_the_login_leads_nowhere_but_to_the_viewer(serve, target) -> None:
    form = urlencode({"password": TOKEN, "next": target}, errors="surrogatepass")
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = serve(token=TOKEN).post(
        "/medreasoner/login", content=form, headers=kind, follow_redirects=False
    )
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


@pytest.mark.parametrize("answered", [("/medreasoner/login", "evil"), ("/auth/token", "x")])
def test_a_wrong_token_is_answered_401_and_no_session(serve, answered) -> None:
    """On the page it was a 500, as the guards that stand before all routes have no names."""
    path, name = answered
    client = serve(token=TOKEN)
    wrong = "not-the-token"
    form = {"username": name, "password": wrong, "next": "/ohif/viewer?a=1"}
    answer = client.post(path, data=form)
    assert answer.status_code == 401
    assert "not accepted" in answer.text
    assert "set-cookie" not in answer.headers
    if path.endswith("login"):
        assert 'value="/ohif/viewer?a=1"' in answer.text
        assert "wrong" not in answer.text
    assert client.get("/info/").status_code == 401


class Guess:
    """Ways to send a token or what passes for one."""

    @staticmethod
    def bearer(client, token, name="ann"):
        return client.get("/info/", headers={"Authorization": f"Bearer {token}"})

    @staticmethod
    def basic(client, token, name="ann"):
        return client.get("/info/", auth=(name, token))

    @staticmethod
    def cookie(client, token, name="ann"):
        return client.get("/info/", headers={"Cookie": f"medreasoner_session={token}"})

    @staticmethod
    def slicer(client, token, name="ann"):
        return client.post("/auth/token", data={"username": name, "password": token})

    @staticmethod
    def page(client, token, name="ann"):
        form = {"username": name, "password": token}
        return client.post("/medreasoner/login", data=form, follow_redirects=False)


@pytest.fixture
def two_readers(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"ann:{TOKEN}-a\nbob:{TOKEN}-b:administrator\n")
    path.chmod(0o600)
    return path


GUESSES = [Guess.bearer, Guess.basic, Guess.cookie, Guess.slicer, Guess.page]


@pytest.mark.parametrize("guess", GUESSES)
def test_guesses_of_each_kind_are_limited(serve, two_readers, guess) -> None:
    """Two thousand bearer tokens were compared in 2.4 s."""
    client = serve(token_file=two_readers, logins_per_minute=3)
    answers = [guess(client, f"guess-number-{number}") for number in range(30)]
    assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 27
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 61


def test_a_guess_beyond_the_limit_is_not_compared(serve, two_readers) -> None:
    client = serve(token_file=two_readers, logins_per_minute=3)
    for number in range(4):
        Guess.basic(client, f"guess-number-{number}")
    assert Guess.basic(client, f"{TOKEN}-a").status_code == 429
    assert Guess.slicer(client, f"{TOKEN}-a").status_code == 429


def test_who_has_the_right_token_passes_while_others_guess(serve, two_readers) -> None:
    """A clinic behind one proxy has one address."""
    client = serve(token_file=two_readers, logins_per_minute=3)
    assert Guess.bearer(client, f"{TOKEN}-b").status_code == 200
    session = Guess.slicer(client, f"{TOKEN}-a").json()["access_token"]
    for number in range(50):
        for guess in GUESSES:
            guess(client, f"guess-number-{number}", name="ann")
            guess(client, f"guess-number-{number}", name=f"name-{number}")
    assert Guess.bearer(client, f"{TOKEN}-b").status_code == 200
    assert Guess.bearer(client, session).status_code == 200
    assert Guess.cookie(client, session).status_code == 200
    assert Guess.slicer(client, f"{TOKEN}-b", name="bob").status_code == 200
    assert Guess.page(client, f"{TOKEN}-b", name="bob").status_code == 303
    assert Guess.basic(client, f"{TOKEN}-b", name="bob").status_code == 200


def test_names_tried_in_turn_leave_each_one_guess_a_minute(serve, two_readers) -> None:
    client = serve(token_file=two_readers, logins_per_minute=2)
    for number in range(30):
        Guess.basic(client, "guess-number", name=f"name-{number}")
    statuses = [Guess.basic(client, "guess-number", name="ann").status_code for _ in range(3)]
    assert statuses == [401, 429, 429]


@pytest.mark.parametrize("name", ["ann", "nobody"])
def test_the_limit_does_not_tell_which_names_there_are(serve, two_readers, name) -> None:
    client = serve(token_file=two_readers, logins_per_minute=2)
    answers = [Guess.basic(client, "guess-number", name=name) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]
    assert len({answer.json()["detail"] for answer in answers[:2]}) == 1


def test_a_forged_header_makes_no_new_guesser(serve) -> None:
    client = serve(token=TOKEN, logins_per_minute=2)
    statuses = []
    for number in range(6):
        headers = {"X-Forwarded-For": f"203.0.113.{number}", "Authorization": f"Bearer {number}"}
        statuses.append(client.get("/info/", headers=headers).status_code)
    assert statuses == [401, 401, 429, 429, 429, 429]


def test_requests_of_one_reader_use_up_nobody_elses(serve, two_readers) -> None:
    client = serve(token_file=two_readers, requests_per_minute=2)
    ann, bob = ({"Authorization": f"Bearer {TOKEN}-{letter}"} for letter in "ab")
    for _ in range(9):
        assert client.post("/infer/none").status_code == 401
    statuses = [client.post("/infer/none", headers=ann).status_code for _ in range(3)]
    assert statuses == [404, 404, 429]
    assert client.post("/infer/none", headers=bob).status_code == 404


@pytest.mark.parametrize("sent", ["cookie", "bearer"])
def test_a_session_does_not_outlive_its_logout(serve, two_readers, sent) -> None:
    """The browser forgot the cookie; the server did not."""
    client = serve(token_file=two_readers)
    session, other = (Guess.slicer(client, f"{TOKEN}-a").json()["access_token"] for _ in range(2))
    headers = {
        "cookie": {"Cookie": f"medreasoner_session={session}"},
        "bearer": {"Authorization": f"Bearer {session}"},
    }[sent]
    assert client.post("/medreasoner/logout", headers=headers).status_code in (200, 303)
    client.cookies.clear()
    for _ in range(20):  # and is no guess either
        assert Guess.cookie(client, session).status_code == 401
        assert Guess.bearer(client, session).status_code == 401
    assert Guess.bearer(client, other).status_code == 200


def test_a_reader_has_so_many_sessions_and_the_oldest_end() -> None:
    now = [0.0]
    sessions = Sessions(60.0, per_reader=3, clock=lambda: now[0])
    kept = [sessions.open("ann", b"a") for _ in range(5)]
    bobs = sessions.open("bob", b"b")
    assert [sessions.find(key) is not None for key in kept] == [False, False, True, True, True]
    assert sessions.find(bobs).name == "bob"
    now[0] = 61.0
    assert sessions.find(bobs) is None
    sessions.open("bob", b"b")
    assert len(sessions) == 1


def test_roles_stand_in_the_file(tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"ann:{TOKEN}-a\nbob:{TOKEN}-b:reviewer\ncy: {TOKEN}-c : administrator\n")
    path.chmod(0o600)
    readers = Accounts.of(SecuritySettings(token_file=path))
    assert readers.roles == {
        "ann": Role.READER, "bob": Role.REVIEWER, "cy": Role.ADMINISTRATOR,
    }  # fmt: skip
    assert readers.without_a_role == ("ann",)
    assert readers.by_token(f"{TOKEN}-c").role is Role.ADMINISTRATOR
    session = readers.open_session(readers.by_token(f"{TOKEN}-b"))
    assert readers.by_session(session).role is Role.REVIEWER


def test_the_single_reader_administers_unless_told_otherwise() -> None:
    assert Accounts.of(SecuritySettings(token=TOKEN)).by_token(TOKEN).role is Role.ADMINISTRATOR
    lesser = SecuritySettings(token=TOKEN, token_role="reviewer")
    assert Accounts.of(lesser).by_token(TOKEN, "anyone").role is Role.REVIEWER


def test_a_changed_file_counts_without_a_restart(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("monailabel_app.security.accounts._LOOK_AGAIN_S", 0.0)
    path = tmp_path / "tokens"

    def write(text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))

    write(f"ann:{TOKEN}-a\nbob:{TOKEN}-b\n")
    readers = Accounts.of(SecuritySettings(token_file=path))
    anns, bobs = (readers.open_session(readers.by_token(f"{TOKEN}-{c}")) for c in "ab")
    write(f"ann:{TOKEN}-a:reviewer\n")
    assert readers.by_session(anns).role is Role.REVIEWER
    assert readers.by_session(bobs) is None
    assert readers.by_token(f"{TOKEN}-b") is None
    write("half a line")
    assert readers.by_session(anns).role is Role.REVIEWER
    write(f"ann:{TOKEN}-new\n")
    assert readers.by_session(anns) is None


STRANGE = ["", "\xff\xfe", "\x00", "a" * 5000, ":", "\xed\xa0\x80", "e30=.x.y", "\u00e9" * 50]


@pytest.mark.parametrize("text", STRANGE)
@pytest.mark.parametrize(
    "kind", ["Bearer {}", "Basic {}", "{}", "Bearer", "medreasoner_session={}"]
)
def test_strange_credentials_are_no_fault_of_the_server(serve, text, kind) -> None:
    """A character beyond ASCII in Basic credentials was one."""
    name = "Cookie" if "session" in kind else "Authorization"
    value = kind.format(text).encode("latin-1", "replace")
    answer = serve(token=TOKEN).get("/info/", headers={name: value})
    assert answer.status_code == 401


@pytest.mark.parametrize("field", [*STRANGE, "\ud800", "n" * 15_000])
@pytest.mark.parametrize("path", ["/auth/token", "/medreasoner/login"])
def test_strange_names_and_tokens_are_no_fault_of_the_server(serve, field, path) -> None:
    client = serve(token=TOKEN, logins_per_minute=100)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for form in ({"username": field, "password": "x"}, {"username": "x", "password": field}):
        body = urlencode(form, errors="surrogatepass")
        answer = client.post(path, content=body, headers=kind)
        assert answer.status_code in (401, 413, 422)


@pytest.mark.parametrize("pair", [b"\xff\xfe:x", b"no colon", b"\xed\xa0\x80:\x00", b""])
def test_strange_basic_credentials_are_no_fault_of_the_server(serve, pair) -> None:
    value = b"Basic " + base64.b64encode(pair)
    answer = serve(token=TOKEN).get("/info/", headers={"Authorization": value})
    assert answer.status_code == 401


def test_before_the_login_nobody_sends_more_than_a_form(serve) -> None:
    """A thousand fields of a megabyte each were held in memory."""
    client = serve(token=TOKEN)
    parts = {f"field{number}": (None, "a" * 1000) for number in range(100)}
    assert client.post("/auth/token", files=parts).status_code == 413
    assert client.post("/medreasoner/login", content=b"a" * 100_000).status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL}, {"Origin": "null"}, {"Origin": "http://["}, {"Origin": ""},
        {"Origin": "file://"}, {"Sec-Fetch-Site": "cross-site"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/medreasoner/login", "/auth/token", "/medreasoner/logout"])
def test_no_other_site_logs_a_reader_in_or_out(serve, headers, path) -> None:
    """One would have its reader work under the attacker's name."""
    form = {"username": "x", "password": TOKEN}
    answer = serve(token=TOKEN).post(path, data=form, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_changed_token_ends_sessions_and_time_does_too() -> None:
    readers = Accounts({"ann": TOKEN}, session_seconds=3600)
    session = readers.open_session(readers.by_token(TOKEN))
    assert readers.by_session(session).display_name == "ann"
    assert Accounts({"ann": TOKEN + "2"}, 3600).by_session(session) is None
    assert Accounts({"ann": TOKEN}, session_seconds=-1).by_session(session) is None


def test_each_reader_has_a_token_of_their_own(tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# readers\nann: {TOKEN}-a\nbob: {TOKEN}-b\n")
    path.chmod(0o600)
    readers = Accounts.of(SecuritySettings(token_file=path))
    assert readers.by_token(f"{TOKEN}-b").display_name == "bob"
    assert readers.by_token(f"{TOKEN}-b", "bob").display_name == "bob"
    assert readers.by_token(f"{TOKEN}-b", "ann") is None


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (f"ann:{TOKEN}", 0o644, "chmod 600"),
        ("ann:short", 0o600, "openssl rand"),
        ("no colon", 0o600, "Line 1"),
        (f"ann:{TOKEN}:king", 0o600, "one of reader, reviewer, administrator"),
        (f"ann:{TOKEN}:with:colons", 0o600, "without further colons"),
        (f"ann:{TOKEN}\nbob:{TOKEN}", 0o600, "Line 2"),
        (f"../ann:{TOKEN}", 0o600, "Line 1"),
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
        Accounts.of(SecuritySettings(token_file=path))


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
