# SPDX-License-Identifier: Apache-2.0
"""The parts of the access control one by one, without a server (``tests/security`` has one)."""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("limits")
pytest.importorskip("itsdangerous")

from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from monailabel_app.errors import SettingsError
from monailabel_app.security import accounts, guesses
from monailabel_app.security.accounts import Accounts, LoggedIn
from monailabel_app.security.addresses import address_of, counted_as, is_within
from monailabel_app.security.authentication import LoginRequired, refuse, sessions_of
from monailabel_app.security.connections import (
    ConnectionLimits,
    Connections,
    Phase,
    address_of_peer,
    gives_way,
)
from monailabel_app.security.cross_site import CrossSiteGuard
from monailabel_app.security.exposure import is_from_network, is_loopback
from monailabel_app.security.guesses import GuessLimits, Logins, TooManyGuessesError
from monailabel_app.security.headers import SecurityHeaders, content_security_policy
from monailabel_app.security.limits import BodyLimits, RateLimits
from monailabel_app.security.roles import Action, Role, least_role, may
from monailabel_app.security.sessions import Sessions
from monailabel_app.security.settings import SecuritySettings
from monailabel_app.security.token_file import Account, TokenFile, account_of

TOKEN = "correct-horse-battery-staple"
HOST = "server.example:8000"
OWN = f"http://{HOST}"
FRIEND = "https://viewer.example"
EVIL = "https://evil.example"


async def answering(scope, receive, send) -> None:
    """Reads the whole body and answers with the method, and who is logged in."""
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    user = getattr(scope.get("user"), "display_name", "")
    await PlainTextResponse(f"{scope['method']} {user}")(scope, receive, send)


def client_of(app, **options: object) -> TestClient:
    return TestClient(app, base_url=OWN, follow_redirects=False, **options)


class TestCrossSite:
    """Pages of other sites change nothing."""

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"])
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Origin": EVIL}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://["}, 403),
            ({"Origin": "http://server.example"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": OWN}, 200),
            ({"Origin": FRIEND}, 200),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
            ({}, 200),
        ],
    )
    def test_what_changes_something_may_come_from_own_and_allowed_pages(
        self, method, headers, status
    ) -> None:
        client = client_of(CrossSiteGuard(answering, [FRIEND]))
        assert client.request(method, "/", headers=headers).status_code == status

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
    def test_what_changes_nothing_may_come_from_anywhere(self, method) -> None:
        client = client_of(CrossSiteGuard(answering))
        assert client.request(method, "/", headers={"Origin": EVIL}).status_code == 200

    def test_one_foreign_origin_among_several_is_enough(self) -> None:
        origins = [("Origin", OWN), ("Origin", EVIL)]
        assert client_of(CrossSiteGuard(answering)).post("/", headers=origins).status_code == 403

    @pytest.mark.parametrize(
        ("kind", "host", "passes"),
        [("http", b"", False), ("http", b"evil.example", True), ("lifespan", b"", True)],
    )
    def test_without_a_host_no_page_is_an_own_one(self, kind, host, passes) -> None:
        reached, sent = [], []

        async def app(scope, receive, send):
            reached.append(scope)

        async def send(message):
            sent.append(message)

        headers = [(b"origin", EVIL.encode())] + ([(b"host", host)] if host else [])
        scope = {"type": kind, "method": "POST", "headers": headers}
        asyncio.run(CrossSiteGuard(app)(scope, None, send))
        assert bool(reached) is passes
        assert bool(sent) is not passes


class TestTokenFile:
    """Who may read it, and what a line may say."""

    @staticmethod
    def written(tmp_path: Path, text: str, mode: int = 0o600) -> TokenFile:
        path = tmp_path / "tokens"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return TokenFile(path)

    @pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
    def test_any_permission_of_group_or_others_is_refused(self, tmp_path, bit) -> None:
        file = self.written(tmp_path, f"ann:{TOKEN}", 0o600 | bit)
        with pytest.raises(SettingsError, match="can be read by others; run: chmod 600"):
            file.read()

    @pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
    def test_the_owner_may_do_anything_with_it(self, tmp_path, mode) -> None:
        assert list(self.written(tmp_path, f"ann:{TOKEN}", mode).read()) == ["ann"]

    def test_comments_and_empty_lines_are_passed_over(self, tmp_path) -> None:
        text = f"# ann:{TOKEN}\n\n  \nbob : {TOKEN} : reviewer \ncy:{TOKEN}-c"
        accounts = self.written(tmp_path, text).read()
        assert {n: (a.role, a.is_role_given) for n, a in accounts.items()} == {
            "bob": (Role.REVIEWER, True),
            "cy": (Role.READER, False),
        }

    def test_each_of_many_tokens_has_its_reader(self, tmp_path) -> None:
        names = ["ann", "bob", "cy", "dee", "eve"]
        text = "".join(f"{name}:{TOKEN}-{name}\n" for name in names)
        assert list(self.written(tmp_path, text).read()) == names

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("ann", "without further colons"),
            (f"ann:{TOKEN}:reader:x", "without further colons"),
            (f"a/b:{TOKEN}", "without further colons"),
            (f":{TOKEN}", "without further colons"),
            ("ann:", "without further colons"),
            (f"ann:{TOKEN}:", "without further colons"),
            (f"ann:{TOKEN}:Reader", "one of reader, reviewer, administrator"),
            (f"first:{TOKEN}", "each name and each token once"),
            (f"ann:{TOKEN}-first", "each name and each token once"),
        ],
    )
    def test_a_line_that_cannot_be_used_is_named_and_not_repeated(
        self, tmp_path, line, expected
    ) -> None:
        file = self.written(tmp_path, f"first:{TOKEN}-first\n# second\n{line}")
        with pytest.raises(SettingsError, match=rf"^Line 3 .*{expected}") as caught:
            file.read()
        assert TOKEN not in str(caught.value)

    @pytest.mark.parametrize(("length", "taken"), [(15, False), (16, True)])
    def test_a_token_has_at_least_sixteen_characters(self, length, taken) -> None:
        if taken:
            assert not account_of("ann", "x" * length).takes_any_name
            return
        with pytest.raises(SettingsError, match="has 15 characters; expected 16 or more"):
            account_of("ann", "x" * length)

    def test_an_account_may_the_least_unless_somebody_says_more(self) -> None:
        account = Account(b"digest")
        assert (account.role, account.is_role_given) == (Role.READER, False)
        assert not account.takes_any_name
        assert account_of("ann", TOKEN, Role.REVIEWER).is_role_given

    @pytest.mark.parametrize("content", [b"", b"# nobody\n"])
    def test_a_file_without_readers_is_refused(self, tmp_path, content) -> None:
        with pytest.raises(SettingsError, match="names no reader"):
            self.written(tmp_path, content.decode()).read()

    def test_a_file_that_is_no_text_is_refused(self, tmp_path) -> None:
        file = self.written(tmp_path, "")
        (tmp_path / "tokens").write_bytes(b"ann:\xff\xfe")
        with pytest.raises(SettingsError, match=r"cannot be read \(UnicodeDecodeError\)"):
            file.read()

    def test_a_change_of_content_or_mode_is_noticed_and_a_missing_file_is_not(
        self, tmp_path
    ) -> None:
        file, path = self.written(tmp_path, f"ann:{TOKEN}"), tmp_path / "tokens"
        assert file.is_changed()
        file.read()
        assert not file.is_changed()
        path.chmod(0o640)
        assert file.is_changed()
        path.chmod(0o600)
        assert not file.is_changed()
        path.write_text(f"ann:{TOKEN}-longer")
        assert file.is_changed()
        path.unlink()
        assert not file.is_changed()


class TestAddresses:
    @pytest.mark.parametrize(
        ("host", "counted"),
        [
            ("10.0.0.5", "10.0.0.5"),
            ("::ffff:10.0.0.5", "10.0.0.5"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            ("testclient", "testclient"),
            ("", "unknown"),
        ],
    )
    def test_of_ipv6_the_network_of_64_bits_counts(self, host, counted) -> None:
        assert counted_as(host) == counted
        assert address_of_peer((host, 4711)) == counted

    def test_a_socket_without_an_address_is_unknown(self) -> None:
        assert address_of_peer(None) == "unknown"

    @pytest.mark.parametrize(
        ("client", "trusts", "address"),
        [
            (None, False, "unknown"),
            (("10.0.0.5", 4711), False, "10.0.0.5"),
            (("10.0.0.5", 1), False, "10.0.0.5"),
            (("10.0.0.5", 0), False, "forwarded"),
            (("10.0.0.5", 0), True, "10.0.0.5"),
        ],
    )
    def test_a_forwarded_address_counts_where_a_proxy_is_trusted(
        self, client, trusts, address
    ) -> None:
        assert address_of({"client": client}, trusts) == address

    @pytest.mark.parametrize(
        ("host", "inside"),
        [
            ("10.1.2.3", True),
            ("10.2.0.1", False),
            ("192.168.0.7", True),
            ("192.168.0.8", False),
            ("fd00::9", True),
            ("name", False),
        ],
    )
    def test_networks_and_single_addresses(self, host, inside) -> None:
        assert is_within(host, ["10.1.99.99/16", "192.168.0.7", "fd00::/8"]) is inside
        assert not is_within(host, [])

    @pytest.mark.parametrize(
        ("host", "loopback"),
        [
            ("127.0.0.1", True),
            ("127.9.9.9", True),
            ("[::1]", True),
            ("LOCALHOST", True),
            ("::ffff:127.0.0.1", True),
            ("::ffff:10.0.0.5", False),
            ("0.0.0.0", False),
            ("attic", False),
            ("workstation", False),
        ],
    )
    def test_what_only_this_machine_reaches(self, host, loopback) -> None:
        assert is_loopback(host) is loopback

    @pytest.mark.parametrize(
        ("server", "network"),
        [
            (("10.0.0.5", 8000), True),
            (("[2001:db8::1]", 8000), True),
            (("127.0.0.1", 8000), False),
            (("[::1]", 0), False),
            (("testserver", 80), False),
            (("10.0.0.5", None), False),
            (None, False),
        ],
    )
    def test_by_which_address_a_request_came_in(self, server, network) -> None:
        assert is_from_network(server) is network


class TestRoles:
    # Literal on purpose: who may do more has to be stated here as well.
    @pytest.mark.parametrize(
        ("role", "actions"),
        [
            (Role.READER, "READ ASK LABEL"),
            (Role.REVIEWER, "READ ASK LABEL REVIEW SEE_OTHERS EXPORT"),
            (
                Role.ADMINISTRATOR,
                "READ ASK LABEL REVIEW SEE_OTHERS EXPORT TRAIN DELETE ADMINISTER",
            ),
        ],
    )
    def test_each_role_may_what_is_written_here_and_nothing_else(self, role, actions) -> None:
        assert [action.name for action in Action if may([role], action)] == actions.split()
        assert not any(may([], action) for action in Action)

    def test_two_roles_may_what_either_may(self) -> None:
        assert may([Role.READER, Role.REVIEWER], Action.EXPORT)

    @pytest.mark.parametrize(
        ("action", "role"),
        [
            (Action.LABEL, Role.READER),
            (Action.EXPORT, Role.REVIEWER),
            (Action.DELETE, Role.ADMINISTRATOR),
        ],
    )
    def test_the_least_role_that_allows_something(self, action, role) -> None:
        assert least_role(action) is role


class TestSessions:
    def test_a_session_ends_at_its_time_and_not_before(self) -> None:
        now = [100.0]
        sessions = Sessions(60, clock=lambda: now[0])
        key = sessions.open("ann", b"digest")
        assert (sessions.find(key).name, sessions.find(key).token_digest) == ("ann", b"digest")
        now[0] = 159.9
        assert sessions.find(key) is not None
        now[0] = 160.0
        assert sessions.find(key) is None
        now[0] = 161.0
        assert sessions.find(key) is None
        assert len(sessions) == 1
        sessions.open("bob", b"digest")
        assert len(sessions) == 1

    def test_the_oldest_of_a_reader_ends_where_there_are_too_many(self) -> None:
        sessions = Sessions(60, per_reader=2)
        bobs = sessions.open("bob", b"")
        keys = [sessions.open("ann", b"") for _ in range(3)]
        assert [sessions.find(key) is None for key in keys] == [True, False, False]
        assert sessions.find(bobs).name == "bob"

    def test_fifty_sessions_of_a_reader_are_kept(self) -> None:
        sessions = Sessions(60)
        keys = {sessions.open("ann", b"") for _ in range(51)}
        assert len(keys) == 51
        assert min(map(len, keys)) == 43  # 32 random bytes, 6 bits a character
        assert len(sessions) == 50

    def test_one_that_is_ended_is_gone_and_unknown_ones_are_passed_over(self) -> None:
        sessions = Sessions(60)
        key = sessions.open("ann", b"")
        sessions.end("unknown")
        sessions.end(key)
        assert sessions.find(key) is None


def a_reader(name: str = "ann", role: Role = Role.READER) -> LoggedIn:
    return LoggedIn(name, role)


TWO = {"ann": f"{TOKEN}-a", "bob": f"{TOKEN}-b"}


class TestReaders:
    @pytest.mark.parametrize(
        ("token", "name", "found"),
        [
            (f"{TOKEN}-a", None, "ann"),
            (f"{TOKEN}-b", "", "bob"),
            (f"{TOKEN}-b", "bob", "bob"),
            (f"{TOKEN}-b", "ann", None),
            (TOKEN, None, None),
            ("", None, None),
            ("\ud800", None, None),
        ],
    )
    def test_a_token_belongs_to_its_reader_alone(self, token, name, found) -> None:
        reader = Accounts(TWO, 60).by_token(token, name)
        assert (reader and reader.display_name) == found
        assert reader is None or (reader.role, reader.is_authenticated) == (Role.READER, True)

    def test_a_single_token_takes_any_name(self) -> None:
        account = account_of("reader", TOKEN)
        any_name = type(account)(account.digest, Role.REVIEWER, True, takes_any_name=True)
        found = Accounts({"reader": any_name}, 60).by_token(TOKEN, "somebody")
        assert (found.display_name, found.role) == ("reader", Role.REVIEWER)

    def test_a_session_is_known_to_whom_signed_it_until_it_is_ended(self) -> None:
        ours, other = Accounts(TWO, 60), Accounts({"ann": TOKEN}, 60)
        session = ours.open_session(a_reader())
        assert ours.by_session(session).display_name == "ann"
        assert other.by_session(session) is None
        assert (ours.is_signed(session), other.is_signed(session)) == (True, False)
        other.end_session(session)
        assert ours.by_session(session) is not None
        ours.end_session(session)
        assert ours.by_session(session) is None
        assert ours.is_signed(session)

    @pytest.mark.parametrize("forged", ["", "x", "\ud800", "e30.x.y"])
    def test_what_was_not_signed_is_no_session(self, forged) -> None:
        ours = Accounts(TWO, 60)
        assert ours.by_session(forged) is None
        assert not ours.is_signed(forged)
        ours.end_session(forged)

    def test_the_file_is_looked_at_again_after_a_second(self, tmp_path, monkeypatch) -> None:
        now = [50.0]
        monkeypatch.setattr(accounts, "time", SimpleNamespace(monotonic=lambda: now[0]))
        path = tmp_path / "tokens"
        path.touch(0o600)
        path.write_text(f"ann:{TOKEN}-a:reviewer\nbob:{TOKEN}-b")
        known = Accounts({"fixed": TOKEN}, 60, TokenFile(path))
        assert known.roles == {
            "fixed": Role.READER,
            "ann": Role.REVIEWER,
            "bob": Role.READER,
        }
        assert known.without_a_role == ("fixed", "bob")
        session = known.open_session(a_reader("bob"))
        path.write_text(f"ann:{TOKEN}-new")
        now[0] = 50.9
        assert known.by_token(f"{TOKEN}-a") is not None
        now[0] = 51.0
        assert known.by_token(f"{TOKEN}-a") is None
        assert known.by_token(f"{TOKEN}-new").display_name == "ann"
        assert known.by_token(TOKEN).display_name == "fixed"
        assert known.by_session(session) is None
        path.write_text("no reader")
        now[0] = 60.0
        assert known.by_token(f"{TOKEN}-new").display_name == "ann"
        path.write_text(f"bob:{TOKEN}-b2")
        now[0] = 60.5
        assert known.by_token(f"{TOKEN}-b2") is None
        now[0] = 61.0
        assert known.by_token(f"{TOKEN}-b2").display_name == "bob"

    def test_a_session_lasts_as_many_hours_as_the_settings_say(self, monkeypatch) -> None:
        lasts_s = []
        monkeypatch.setattr(accounts, "Sessions", lasts_s.append)
        assert Accounts.of(SecuritySettings(token=TOKEN, session_hours=2)) is not None
        assert Accounts.of(SecuritySettings()) is None
        assert lasts_s == [7200]

    def test_the_settings_name_a_single_token_or_a_file(self, tmp_path) -> None:
        single = Accounts.of(SecuritySettings(token=TOKEN, token_role="reviewer"))
        assert single.roles == {"reader": Role.REVIEWER}
        assert single.without_a_role == ()
        assert single.by_token(TOKEN, "anybody").display_name == "reader"
        path = tmp_path / "tokens"
        path.touch(0o600)
        path.write_text(f"ann:{TOKEN}")
        assert Accounts.of(SecuritySettings(token_file=path)).roles == {"ann": Role.READER}

    def test_a_session_ends_with_the_token_that_opened_it(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(accounts, "_LOOK_AGAIN_S", 0.0)
        path = tmp_path / "tokens"
        path.touch(0o600)
        path.write_text(f"ann:{TOKEN}-a")
        known = Accounts({}, 60, TokenFile(path))
        session = known.open_session(a_reader())
        path.write_text(f"ann:{TOKEN}-a:administrator")
        assert known.by_session(session) == LoggedIn("ann", Role.ADMINISTRATOR)
        for other in "bcdef":
            path.write_text(f"ann:{TOKEN}-{other}:administrator")
            assert known.by_session(session) is None


class TestGuesses:
    """Three failures a minute are allowed."""

    @staticmethod
    def failed(limits: GuessLimits, count: int, address: str = "a", name: str = "ann") -> list:
        waits = []
        for _ in range(count):
            waits.append(limits.wait_s(address, name) > 0)
            limits.count(address, name)
        return waits

    def test_the_fourth_failure_of_a_name_at_an_address_waits(self) -> None:
        limits = GuessLimits(3)
        assert self.failed(limits, 4) == [False, False, False, True]
        assert 50 < limits.wait_s("a", "ann") <= 60
        assert limits.wait_s("a", "bob") == limits.wait_s("b", "ann") == 0.0
        assert limits.wait_s("a", None) == limits.wait_s("a", "") == 0.0

    def test_no_name_and_an_empty_one_are_the_same(self) -> None:
        limits = GuessLimits(3)
        self.failed(limits, 3, name="")
        assert limits.wait_s("a", None) > 0

    def test_the_wait_is_never_below_a_second(self, monkeypatch) -> None:
        limits = GuessLimits(1)
        limits.count("a", "ann")
        later = time.time() + 59.9
        monkeypatch.setattr(guesses, "time", SimpleNamespace(time=lambda: later))
        assert limits.wait_s("a", "ann") == 1.0

    @pytest.mark.parametrize(("failures", "left"), [(27, 3), (28, 2), (30, 1)])
    def test_ten_times_as_many_at_an_address_leave_each_name_one(self, failures, left) -> None:
        limits = GuessLimits(3)
        for number in range(failures):
            limits.count("a", f"name-{number}")
        # The failures from here on count for the address as well.
        assert self.failed(limits, left + 1, name="ann") == [False] * left + [True]
        assert self.failed(limits, 3, address="b") == [False] * 3

    @pytest.mark.parametrize(("failures", "left"), [(297, 3), (298, 2), (300, 1)])
    def test_a_hundred_times_as_many_in_total_do_so_everywhere(self, failures, left) -> None:
        limits = GuessLimits(3)
        for number in range(failures):
            limits.count(f"address-{number}", "ann")
        assert self.failed(limits, left + 1, address="b") == [False] * left + [True]

    def test_a_right_token_passes_where_it_was_right_before(self) -> None:
        known = Accounts({"ann": f"{TOKEN}-a"}, 60)
        logins = Logins(known, GuessLimits(2))
        assert logins.log_in("a", f"{TOKEN}-a", "ann").display_name == "ann"
        assert logins.log_in("a", "wrong", "ann") is None
        assert logins.log_in("a", "wrong", "ann") is None
        with pytest.raises(TooManyGuessesError) as caught:
            logins.log_in("a", "wrong", "ann")
        assert 50 < caught.value.wait_s <= 60
        assert logins.log_in("a", f"{TOKEN}-a", "ann").display_name == "ann"

    def test_a_right_token_counts_as_no_failure(self) -> None:
        logins = Logins(Accounts({"ann": TOKEN}, 60), GuessLimits(1))
        for _ in range(5):
            assert logins.log_in("a", TOKEN).display_name == "ann"
        assert logins.log_in("a", "wrong") is None

    def test_a_token_that_is_no_longer_right_is_forgotten(self) -> None:
        current = {"reader": a_reader()}
        known = SimpleNamespace(by_token=lambda token, name: current["reader"])
        logins = Logins(known, GuessLimits(1))
        assert logins.log_in("a", TOKEN) == a_reader()
        current["reader"] = None
        assert logins.log_in("a", TOKEN) is None
        with pytest.raises(TooManyGuessesError):
            logins.log_in("a", TOKEN)

    def test_of_the_tokens_that_were_right_the_oldest_are_forgotten(self, monkeypatch) -> None:
        monkeypatch.setattr(guesses, "_REMEMBERED", 2)
        known = SimpleNamespace(by_token=lambda token, name: a_reader() if token else None)
        logins = Logins(known, GuessLimits(1))
        for token in ("one", "two", "one", "three"):  # so that "two" is the oldest
            logins.log_in("a", token)
        assert logins.log_in("a", "") is None
        assert logins.log_in("a", "one") == logins.log_in("a", "three") == a_reader()
        with pytest.raises(TooManyGuessesError):
            logins.log_in("a", "two")

    def test_forged_sessions_are_counted_apart_from_tokens(self) -> None:
        logins = Logins(Accounts({"ann": TOKEN}, 60), GuessLimits(2))
        logins.refuse_forged("a")
        logins.refuse_forged("a")
        with pytest.raises(TooManyGuessesError) as caught:
            logins.refuse_forged("a")
        assert caught.value.wait_s > 50
        assert logins.log_in("a", "wrong") is None
        logins.refuse_forged("b")


def login(per_minute: int = 100) -> tuple[TestClient, Accounts]:
    known = Accounts(TWO, 60)
    backend = LoginRequired(known, Logins(known, GuessLimits(per_minute)))
    app = AuthenticationMiddleware(answering, backend=backend, on_error=refuse)
    return client_of(app), known


def basic(text: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(text).decode()}


class TestLoginRequired:
    @pytest.mark.parametrize(
        ("headers", "who"),
        [
            ({"Authorization": f"Bearer {TOKEN}-a"}, "ann"),
            ({"Authorization": f"BEARER {TOKEN}-b"}, "bob"),
            (basic(f"bob:{TOKEN}-b".encode()), "bob"),
            (basic(f":{TOKEN}-b".encode()), "bob"),
            (basic(f"ann:{TOKEN}-b".encode()), None),
            (basic(b"\xff\xfe:x"), None),
            (basic(TOKEN.encode()), None),
            ({"Authorization": "Basic ???"}, None),
            ({"Authorization": f"Basic {TOKEN}-a"}, None),
            ({"Authorization": f"Digest {TOKEN}-a"}, None),
            ({"Authorization": "Bearer"}, None),
            ({"Cookie": "medreasoner_session=forged"}, None),
            ({}, None),
        ],
    )
    def test_who_is_let_in(self, headers, who) -> None:
        answer = login()[0].get("/info/", headers=headers)
        assert answer.status_code == (401 if who is None else 200)
        if who is None:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["detail"].startswith("Log in first")
        else:
            assert answer.text == f"GET {who}"

    @pytest.mark.parametrize("path", ["/medreasoner/login", "/auth/", "/auth/token"])
    def test_the_way_to_the_login_is_open_and_nobody_is_known_there(self, path) -> None:
        client, _ = login()
        answer = client.get(path, headers={"Authorization": f"Bearer {TOKEN}-a"})
        assert (answer.status_code, answer.text) == (200, "GET ")
        assert client.get(path + "x").status_code == 401

    @pytest.mark.parametrize("kind", ["Bearer", "Cookie"])
    def test_a_session_lets_in_and_an_ended_one_is_no_guess(self, kind) -> None:
        client, known = login(per_minute=1)
        session = known.open_session(a_reader("bob"))
        headers = {"Authorization": f"Bearer {session}"}
        if kind == "Cookie":
            headers = {"Cookie": f"medreasoner_session={session}"}
        assert client.get("/", headers=headers).text == "GET bob"
        known.end_session(session)
        assert [client.get("/", headers=headers).status_code for _ in range(4)] == [401] * 4

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Bearer wrong"},
            basic(b"ann:wrong"),
            {"Cookie": "medreasoner_session=forged"},
        ],
    )
    def test_guesses_of_each_kind_are_slowed_down(self, headers) -> None:
        client, _ = login(per_minute=2)
        answers = [client.get("/", headers=headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert 50 < int(answers[-1].headers["retry-after"]) <= 60

    @pytest.mark.parametrize(("trusts", "last"), [({}, 429), ({"trusts_proxies": True}, 401)])
    def test_forwarded_addresses_guess_together_unless_a_proxy_is_trusted(
        self, trusts, last
    ) -> None:
        known = Accounts(TWO, 60)
        backend = LoginRequired(known, Logins(known, GuessLimits(1)), **trusts)
        app = AuthenticationMiddleware(answering, backend=backend, on_error=refuse)
        clients = [client_of(app, client=(f"10.0.0.{n}", 0)) for n in (1, 2)]
        wrong = {"Authorization": "Bearer wrong"}
        assert [c.get("/", headers=wrong).status_code for c in clients] == [401, last]

    def test_a_page_is_led_to_the_login_and_back(self) -> None:
        client, _ = login()
        page = {"Accept": "text/html,*/*"}
        answer = client.get("/ohif/viewer?a=1&b=2", headers=page)
        assert answer.status_code == 303
        wanted = "%2Fohif%2Fviewer%3Fa%3D1%26b%3D2"
        assert answer.headers["location"] == f"/medreasoner/login?next={wanted}"
        plain = client.get("/ohif/", headers=page).headers["location"]
        assert plain == "/medreasoner/login?next=%2Fohif%2F"
        for method in ("POST", "DELETE", "HEAD"):
            assert client.request(method, "/ohif/", headers=page).status_code == 401

    @pytest.mark.parametrize(
        ("headers", "texts"),
        [
            ({"Authorization": "Bearer a", "Cookie": "medreasoner_session=b"}, ("a", "b")),
            ({"Authorization": "Basic a", "Cookie": "other=b"}, ()),
            ({"Authorization": "Bearer "}, ()),
            ({"Authorization": "Digest a"}, ()),
        ],
    )
    def test_what_may_be_a_session(self, headers, texts) -> None:
        found = []

        async def app(scope, receive, send):
            from starlette.requests import Request

            found.append(sessions_of(Request(scope)))
            await answering(scope, receive, send)

        client_of(app).get("/", headers=headers)
        assert found == [texts]


class TestHowMuch:
    """Bodies and rates."""

    @pytest.mark.parametrize(
        ("path", "kind", "size", "status"),
        [
            ("/x", "application/json", 20_000, 200),
            ("/x", "application/json", 20_001, 413),
            ("/x", "Multipart/form-data; boundary=x", 50_000, 200),
            ("/x", "multipart/form-data; boundary=x", 50_001, 413),
            ("/x", "x-multipart/form-data", 20_001, 413),
            ("/auth/token", "multipart/form-data; boundary=x", 16_384, 200),
            ("/auth/token", "multipart/form-data; boundary=x", 16_385, 413),
        ],
    )
    def test_bodies_are_bounded_by_their_kind_and_before_the_login_most(
        self, path, kind, size, status
    ) -> None:
        client = client_of(BodyLimits(answering, upload_bytes=50_000, other_bytes=20_000))
        answer = client.post(path, content=b" " * size, headers={"Content-Type": kind})
        assert answer.status_code == status
        if status == 413:
            assert "MEDREASONER_MAX_UPLOAD_MB" in answer.json()["detail"]

    def test_a_small_limit_holds_at_the_login_too(self) -> None:
        client = client_of(BodyLimits(answering, upload_bytes=50_000, other_bytes=10))
        assert client.post("/auth/token", content=b" " * 11).status_code == 413

    @pytest.mark.parametrize("status", [400, 412, 414, 500])
    def test_a_route_s_own_refusal_passes_as_it_is(self, status) -> None:
        async def refusing(scope, receive, send):
            await PlainTextResponse("mine", status)(scope, receive, send)

        answer = client_of(BodyLimits(refusing, 50, 20)).post("/x")
        assert (answer.status_code, answer.text) == (status, "mine")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_what_changes_something_is_counted(self, method) -> None:
        client = client_of(RateLimits(answering, 2))
        answers = [client.request(method, "/x") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[-1].headers["retry-after"] == "60"

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", "/x"), ("HEAD", "/x"), ("OPTIONS", "/x"), ("POST", "/auth/token")],
    )
    def test_reading_and_logging_in_are_not_counted(self, method, path) -> None:
        client = client_of(RateLimits(answering, 1))
        assert [client.request(method, path).status_code for _ in range(3)] == [200] * 3

    def test_each_reader_and_each_address_has_a_share(self) -> None:
        limited = RateLimits(answering, 1)

        def status(user: LoggedIn | None, address: str) -> int:
            async def app(scope, receive, send):
                await limited({**scope, "user": user}, receive, send)

            return client_of(app, client=(address, 50_000)).post("/x").status_code

        assert [status(a_reader(), a) for a in ("10.0.0.1", "10.0.0.2")] == [200, 429]
        assert status(a_reader("bob"), "10.0.0.1") == 200
        assert [status(None, "10.0.0.1") for _ in range(2)] == [200, 429]
        assert status(None, "10.0.0.2") == 200

    @pytest.mark.parametrize(("trusts", "second"), [({}, 429), ({"trusts_proxies": True}, 200)])
    def test_forwarded_addresses_share_unless_a_proxy_is_trusted(self, trusts, second) -> None:
        limited = RateLimits(answering, 1, **trusts)
        clients = [client_of(limited, client=(f"10.0.0.{n}", 0)) for n in (1, 2)]
        assert [client.post("/x").status_code for client in clients] == [200, second]


class TestHeaders:
    def test_the_policy_lets_nothing_in_from_elsewhere(self) -> None:
        directives = dict(part.split(" ", 1) for part in content_security_policy().split("; "))
        assert directives["default-src"] == directives["base-uri"] == "'self'"
        assert directives["object-src"] == directives["frame-ancestors"] == "'none'"
        assert directives["script-src"] == "'self' 'wasm-unsafe-eval'"

    def test_frames_and_scripts_are_added_where_asked_for(self) -> None:
        policy = content_security_policy([FRIEND, OWN], ["'sha256-x'"])
        assert f"frame-ancestors {FRIEND} {OWN}" in policy
        assert "script-src 'self' 'wasm-unsafe-eval' 'sha256-x';" in policy

    @pytest.mark.parametrize(
        ("scheme", "path", "hsts", "cached"),
        [
            ("http", "/info/", None, "no-store"),
            ("https", "/info/", "max-age=31536000", "no-store"),
            ("http", "/ohif/index.html", None, None),
            ("http", "/static/x", None, None),
        ],
    )
    def test_every_answer_carries_them(self, scheme, path, hsts, cached) -> None:
        client = TestClient(SecurityHeaders(answering), base_url=f"{scheme}://{HOST}")
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers.get("strict-transport-security") == hsts
        assert headers.get("cache-control") == cached


@dataclass(eq=False)
class Peer:
    """A connection as the protocol shows it."""

    address: str = "10.0.0.1"
    phase: Phase = Phase.HEAD
    since_s: float = 0.0
    is_known: bool = False
    dropped: list[bool] = field(default_factory=list)

    def drop(self) -> None:
        self.dropped.append(True)


class TestConnections:
    """Four in all, two from an address."""

    @staticmethod
    def full(*peers: Peer, proxies=()) -> Connections:
        connections = Connections(ConnectionLimits(total=4, per_address=2, proxies=proxies))
        assert all(connections.admit(peer) for peer in peers)
        return connections

    def test_the_limits_where_the_site_sets_none(self) -> None:
        assert ConnectionLimits() == ConnectionLimits(
            total=1024, per_address=256, head_s=10, idle_s=30, body_s=20, body_bytes_per_s=8192,
            unread_s=30, linger_s=5, proxies=(),
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("phase", "known", "way"),
        [
            (Phase.HEAD, False, True),
            (Phase.IDLE, True, True),
            (Phase.DRAIN, False, True),
            (Phase.CLOSING, False, True),
            (Phase.BODY, False, True),
            (Phase.BODY, True, False),
            (Phase.ANSWER, False, False),
        ],
    )
    def test_who_waits_for_a_client_gives_way(self, phase, known, way) -> None:
        assert gives_way(Peer(phase=phase, is_known=known)) is way

    def test_the_longest_waiting_of_an_address_gives_way_to_its_third(self) -> None:
        other = Peer("10.0.0.2", since_s=1)
        first, second = Peer(since_s=9), Peer(since_s=5)
        connections = self.full(other, first, second)
        assert connections.admit(Peer())
        assert (first.dropped, second.dropped, other.dropped) == ([], [True], [])
        assert len(connections) == 3

    def test_an_address_that_is_being_answered_gets_no_third(self) -> None:
        connections = self.full(Peer(phase=Phase.ANSWER), Peer(phase=Phase.ANSWER))
        assert not connections.admit(Peer())
        assert len(connections) == 2

    @pytest.mark.parametrize("address", ["10.0.0.1", "10.9.9.9"])
    def test_a_proxy_s_connections_are_counted_in_total_only(self, address) -> None:
        connections = self.full(*(Peer(address) for _ in range(4)), proxies=["10.0.0.0/8"])
        assert len(connections) == 4

    def test_of_all_the_busiest_address_gives_way(self) -> None:
        peers = [
            Peer("10.0.0.1", since_s=1),
            Peer("10.0.0.2", since_s=8),
            Peer("10.0.0.2", since_s=7),
            Peer("10.0.0.3", Phase.ANSWER),
        ]
        connections = self.full(*peers)
        assert connections.admit(Peer("10.0.0.4"))
        assert [bool(peer.dropped) for peer in peers] == [False, False, True, False]
        assert len(connections) == 4

    def test_where_all_are_being_answered_a_new_one_is_not_let_in(self) -> None:
        peers = [Peer(f"10.0.0.{n}", Phase.ANSWER) for n in range(4)]
        connections = self.full(*peers)
        assert not connections.admit(Peer("10.0.0.9"))
        connections.forget(peers[0])
        assert len(connections) == 3
        assert connections.admit(Peer("10.0.0.9"))
