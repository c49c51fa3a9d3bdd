# SPDX-License-Identifier: Apache-2.0
"""What judges the answers to hostile requests: it must be able to find a fault."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from support.doors import Door
from support.fuzzing import Limits, LogReader, causes, fault_of, try_door
from support.hostile import VALUES, Hostile, object_with
from support.raw_http import RawAnswer, RawRequest, send
from support.vitals import Bounds, Vitals

ASKED = RawRequest("GET", "/info/")
JSON = {"content-type": "application/json"}
LOG = """\
2026-01-01 ERROR something
Traceback (most recent call last):
  File "/a/b/inner.py", line 3, in parse
    int("x")
ValueError: invalid literal

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/a/b/outer.py", line 9, in handle
    raise KeyError("patient name")
KeyError: 'patient name'
2026-01-01 INFO on it goes
Traceback (most recent call last):
  File "/a/c/other.py", line 1, in run
some.library.OddCondition
"""


class Crooked(http.server.BaseHTTPRequestHandler):
    """Fails at everything but the first request."""

    answered = 0

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Crooked.answered += 1
        self.send_response(200 if Crooked.answered == 1 else 500)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def crooked() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Crooked)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (RawAnswer(200, 0.1), None),
        (RawAnswer(200, 5.1), "an answer above 5 s"),
        (RawAnswer(422, 0.1, JSON, b'{"detail": "No."}'), None),
        (RawAnswer(422, 0.1, JSON, b'{"error": "No."}'), "HTTP 422 without a sentence"),
        (RawAnswer(404, 0.1, {}, b"Not Found"), "HTTP 404 without a sentence"),
        (RawAnswer(503, 0.1, JSON, b'{"detail": "Later."}'), None),
        (RawAnswer(503, 0.1, {}, b""), "HTTP 503 without a sentence"),
        (RawAnswer(500, 0.1, JSON, b'{"detail": "Oh."}'), "HTTP 500"),
        (RawAnswer(502, 0.1, JSON, b'{"detail": "Oh."}'), "HTTP 502"),
        (RawAnswer(401, 0.1, {"content-type": "text/html"}, b"<form>"), None),
        (RawAnswer(404, 0.1, {"content-type": "text/html"}, b"<form>"),
         "HTTP 404 without a sentence"),
        (RawAnswer(None, 0.1, fault="no answer in time"), "no answer in time"),
    ],
)  # fmt: skip
def test_an_answer_is_a_fault_or_not(answer, fault) -> None:
    assert fault_of(ASKED, answer, 5.0) == fault


def test_what_is_no_http_may_get_no_answer_but_must_not_break_the_server() -> None:
    unframed = RawRequest("GET", "/info/", is_framed=False)
    assert fault_of(unframed, RawAnswer(None, 0.1, fault="cut"), 5.0) is None
    assert fault_of(unframed, RawAnswer(500, 0.1), 5.0) == "HTTP 500"


def test_each_traceback_is_named_by_its_last_cause_without_what_it_says() -> None:
    assert causes(LOG) == [
        "KeyError in b/outer.py:9 handle",
        "some.library.OddCondition in c/other.py:1 run",
    ]


def test_a_door_that_fails_is_reported_with_the_first_request_that_made_it_fail(
    crooked, tmp_path
) -> None:
    door = Door("PUT", "/decision", json={"outcome": "rejected"})
    report = try_door(crooked, door, Limits(12), {}, LogReader(tmp_path / "none.log"))
    assert report.count(2) == 1
    assert report.server_faults >= 6
    first = report.faults["HTTP 500"]
    assert first.count == report.count(5)
    assert first.request.what != "valid"
    assert send(crooked, RawRequest.of(first.request.to_dict()), 5.0).status == 500


def test_a_seed_repeats_what_is_sent_and_another_one_does_not() -> None:
    door = Door("PUT", "/x/{name}", {"name": "a"}, {"q": "b"}, fields={"params": {"query": "c"}})
    first, again, other = (
        [door.mutant(hostile, {}) for _ in range(60)]
        for hostile in (Hostile(1), Hostile(1), Hostile(2))
    )
    assert first == again
    assert first != other


def test_a_value_is_put_where_it_belongs_as_it_is_written() -> None:
    assert object_with({"a": 1, "b": 2}, "a", "1e999") == '{"a": 1e999, "b": 2}'
    assert {"NaN", "Infinity", "1e999", '"\\ud800"'} <= {value.text for value in VALUES}


def test_growth_beyond_a_bound_is_told() -> None:
    before = Vitals(100.0, 10, 20, 0, 1, 5.0)
    assert Bounds().exceeded(before, Vitals(109.0, 20, 30, 0, 1, 99.0)) == []
    told = Bounds().exceeded(before, Vitals(111.0, 21, 31, 1, 2, 5.0))
    assert [line.split(" grew ")[0] for line in told] == [
        "memory", "threads", "handles", "children", "temporary files",
    ]  # fmt: skip
