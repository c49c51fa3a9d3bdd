# SPDX-License-Identifier: Apache-2.0
"""A PACS that hangs, dribbles, cuts, lies or never ends: typed answers in time, nothing left."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pydicom
import pytest
from support import misbehaving as peer
from support.misbehaving import Left, MisbehavingServer, misbehaving

pytest.importorskip("monailabel")

from medreasoner_infer.errors import CancelledError
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.common.waiting import working_for
from monailabel_app.errors import (
    PacsAnswerError,
    PacsTimeoutError,
    PacsUnreachableError,
    ServerBusyError,
    UnknownImageError,
)
from monailabel_app.pacs.client import connect_client
from monailabel_app.pacs.limits import PacsLimits
from monailabel_app.studies.pacs import PacsStudies

# A generous ceiling that proves "does not hang"; the limits themselves are below a second.
CEILING_S = 20
LIMITS = PacsLimits(
    connect_s=1.0, silence_s=0.4, answer_s=0.8, answer_bytes=1 << 20, list_s=1.0, patience_s=0.3,
    listed=50, series_s=1.2, series_bytes=4 << 20, instances=8, fetches=2,
)  # fmt: skip
JSON = b"application/dicom+json"
PARTS = b'multipart/related; type="application/dicom"; boundary=edge'
EVIL_UIDS = ("../../x", "/etc/passwd", "1.2/3", "", "1..2", "1" * 65, "1.2\n", "\u0661.2")


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with misbehaving() as running:
        yield running


@pytest.fixture
def make_store(server, tmp_path: Path):
    def make(limits: PacsLimits = LIMITS, **options) -> PacsStudies:
        client = connect_client(f"{server.url}/dicom-web", limits)
        return PacsStudies(
            client=client, search_filter={"Modality": "CT"}, cache_path=str(tmp_path / "cache"),
            limits=limits, **options,
        )  # fmt: skip

    return make


@pytest.fixture
def store(make_store) -> PacsStudies:
    return make_store(expiry_s=0.05)


@pytest.fixture(scope="module")
def instances(tmp_path_factory) -> list[bytes]:
    """Four slices of a CT."""
    import numpy as np

    grid = CtGrid((1.5, 2.0, 3.0), (-20.5, 7.25, 100.0), np.eye(3))
    values = np.arange(4 * 5 * 6).reshape(4, 5, 6) * 10 - 500
    folder = write_ct_series(values, grid, tmp_path_factory.mktemp("ct") / "ct", seed=1)
    return [path.read_bytes() for path in sorted(folder.glob("*.dcm"))]


def uids(content: bytes) -> tuple[str, str]:
    header = pydicom.dcmread(io.BytesIO(content))
    return str(header.SeriesInstanceUID), str(header.StudyInstanceUID)


def everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def half_written(store: PacsStudies) -> list[str]:
    """What a fetch has left below the images: nothing but the datastore's own index may be."""
    root = Path(store._datastore.image_path())
    return [name for name in everything(root) if name not in ("datastore_v2.json", ".lock")]


HANGING = {
    "before the head": peer.hangs,
    "in the body": peer.hangs_in_the_body,
    "a byte at a time": peer.dribbles,
    "a byte of the head at a time": peer.dribbles_headers,
}
BROKEN = {
    "endless headers": peer.sends_endless_headers,
    "endless body": peer.sends_an_endless_body,
    "hangs up": peer.hangs_up,
    "cut": peer.cuts,
    "no HTTP": peer.says_no_http,
    "HTTP 500": peer.answers(b"oh", status=b"500 Oh"),
    "garbage": peer.answers(b"\xff\xfe{["),
    "no list": peer.answers(b'"text"'),
    "a list of numbers": peer.answers(b"[1, 2]"),
    "deep": peer.answers(b"[" * 100_000),
    "gzip that is none": peer.answers(b"[]", JSON + b"\r\nContent-Encoding: gzip"),
}


@pytest.mark.parametrize("behaviour", HANGING.values(), ids=HANGING.keys())
def test_a_list_that_does_not_end_is_a_timeout(server, store, behaviour) -> None:
    server.behaviour = behaviour
    held = Left()
    began = time.monotonic()
    with pytest.raises(PacsTimeoutError, match="try again"):
        store.list_images()
    assert time.monotonic() - began < CEILING_S
    assert held.nothing()


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
def test_an_answer_that_is_none_is_typed(server, make_store, behaviour) -> None:
    import dataclasses

    server.behaviour = behaviour
    # Patient, so that the fault itself is told.
    store = make_store(dataclasses.replace(LIMITS, patience_s=CEILING_S, list_s=10, answer_s=10))
    held = Left()
    with pytest.raises(PacsUnreachableError, match=r"try again|administrator"):
        store.list_images()
    assert held.nothing()


def test_an_endless_list_of_pages_ends(server, make_store) -> None:
    import dataclasses

    count = iter(range(10**6))

    def page(connection, body) -> None:
        peer.lists(*(peer.series(f"1.2.{next(count)}", "1.2") for _ in range(10)))(connection, body)

    server.behaviour = page
    store = make_store(dataclasses.replace(LIMITS, patience_s=CEILING_S, list_s=CEILING_S))
    with pytest.raises(PacsAnswerError):
        store.list_images()
    assert next(count) < 200


@pytest.mark.parametrize("uid", EVIL_UIDS)
def test_a_series_without_a_uid_hides_no_other(server, store, uid) -> None:
    server.behaviour = peer.lists(peer.series(uid, "1.2"), peer.series("1.2.3", "1.2"), {})
    assert store.list_images() == ["1.2.3"]


def test_the_list_of_before_is_given_while_the_server_hangs_and_said_to_be(server, store) -> None:
    server.behaviour = peer.lists(peer.series("1.2.3", "1.2"))
    assert store.list_images() == ["1.2.3"]
    server.behaviour = peer.hangs
    time.sleep(0.1)
    assert store.list_images() == ["1.2.3"]
    told = store.status()
    assert told["total"] == 1
    assert told["pacs"]


def test_status_answers_while_the_server_has_never_answered(store) -> None:
    began = time.monotonic()
    told = store.status()
    assert (told["total"], told["completed"]) == (0, 0)
    assert "not answered" in told["pacs"]
    assert time.monotonic() - began < CEILING_S


def test_many_that_list_wait_a_moment_behind_one_request(server, make_store) -> None:
    import dataclasses

    store = make_store(dataclasses.replace(LIMITS, silence_s=60, list_s=60))
    caught: list[Exception] = []

    def work() -> None:
        try:
            store.list_images()
        except PacsTimeoutError as error:
            caught.append(error)

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CEILING_S)
    assert len(caught) == 40
    assert time.monotonic() - began < CEILING_S
    assert len(server.heads) == 1


# --- a series ------------------------------------------------------------------------------------


@pytest.fixture
def serve_series(server, instances):
    """The search answers; the retrieval does as the test says."""
    series_uid, study_uid = uids(instances[0])
    search = peer.lists(peer.series(series_uid, study_uid))

    def start(behaviour) -> str:
        server.behaviour = search
        server.at = {f"/series/{series_uid}": behaviour}
        return series_uid

    return start


def test_a_series_in_parts_is_fetched(serve_series, store, instances) -> None:
    source = store.image_source(serve_series(peer.multipart(instances)))
    assert len(list(source.dicom_folder.iterdir())) == len(instances)
    assert source.dicom_folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in source.dicom_folder.iterdir()} == {0o600}


@pytest.mark.parametrize("keep", [0.0, 0.2, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("length", [True, False], ids=["with length", "until closed"])
def test_a_multipart_message_cut_short_is_no_half_series(
    serve_series, store, instances, keep, length
) -> None:
    uid = serve_series(peer.multipart(instances, keep=keep, length=length))
    held = Left()
    with pytest.raises(PacsUnreachableError):
        store.image_source(uid)
    assert half_written(store) == []
    assert held.nothing()
    serve_series(peer.multipart(instances))
    assert len(list(store.image_source(uid).dicom_folder.iterdir())) == len(instances)


def changed(content: bytes, **values: object) -> bytes:
    image = pydicom.dcmread(io.BytesIO(content))
    for name, value in values.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    written = io.BytesIO()
    pydicom.dcmwrite(written, image)
    return written.getvalue()


def series_faults(instances: list[bytes]) -> dict[str, object]:
    first = instances[0]
    return {
        "hangs": peer.hangs,
        "hangs in the body": partial(peer.hangs_in_the_body, kind=PARTS),
        "dribbles": partial(peer.dribbles, kind=PARTS),
        "endless": partial(peer.sends_an_endless_body, kind=PARTS),
        "another series": peer.multipart([changed(first, SeriesInstanceUID="1.2.3")]),
        "a path for a UID": peer.multipart([changed(first, SOPInstanceUID="../../x")]),
        "an absolute path for a UID": peer.multipart([changed(first, SOPInstanceUID="/tmp/x")]),
        "no UID": peer.multipart([changed(first, SOPInstanceUID=None)]),
        "no DICOM": peer.multipart([b"GIF89a" * 100]),
        "parts without a head": peer.answers(b"\r\n--edge\r\nx\r\n--edge--", PARTS),
        "too many instances": peer.multipart(instances * 3),
        "no multipart": peer.answers(b"<html>", b"text/html"),
        "no type": lambda p, _: p.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        "one object, cut": peer.answers(first[:-200], b"application/dicom"),
    }


FAULTS = [
    "hangs", "hangs in the body", "dribbles", "endless", "another series", "a path for a UID",
    "an absolute path for a UID", "no UID", "no DICOM", "parts without a head",
    "too many instances", "no multipart", "no type", "one object, cut",
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FAULTS)
def test_a_series_that_cannot_be_had_is_typed_and_leaves_nothing(
    serve_series, store, instances, tmp_path, name
) -> None:
    uid = serve_series(series_faults(instances)[name])
    held = Left()
    with pytest.raises(PacsUnreachableError):
        store.image_source(uid)
    assert half_written(store) == []
    assert not (tmp_path / "x").exists()
    assert held.nothing()


def test_an_empty_series_is_unknown(serve_series, store) -> None:
    with pytest.raises(UnknownImageError):
        store.image_source(serve_series(peer.answers(b"", status=b"404 Not Found")))


def test_a_study_without_a_uid_is_not_asked_for(server, store) -> None:
    for study in EVIL_UIDS:
        server.behaviour = peer.lists(peer.series("1.2.3", study))
        with pytest.raises(PacsAnswerError):
            store.image_source("1.2.3")
    assert all(b"/series/1.2.3" not in head for head in server.heads)


PATIENT = PacsLimits(silence_s=60, answer_s=60, series_s=60, fetches=2)


def in_thread(work) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, caught


def wait_until(holds) -> None:
    for _ in range(CEILING_S * 100):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_a_reader_who_leaves_stops_waiting_and_the_last_one_stops_the_fetch(
    serve_series, server, make_store, instances
) -> None:
    store, uid = make_store(PATIENT), serve_series(peer.hangs)
    held = Left()
    gone = [threading.Event(), threading.Event()]
    waiting = []
    for left in gone:

        def work(left=left) -> None:
            with working_for(left.is_set):
                store.image_source(uid)

        waiting.append(in_thread(work))
    wait_until(lambda: len(server.heads) == 2)  # one search, one retrieval for both
    gone[0].set()
    waiting[0][0].join(CEILING_S)
    assert isinstance(waiting[0][1][0], CancelledError)
    assert waiting[1][0].is_alive()
    assert not server.left.is_set()
    gone[1].set()
    waiting[1][0].join(CEILING_S)
    assert isinstance(waiting[1][1][0], CancelledError)
    assert server.left.wait(CEILING_S)
    assert held.nothing()
    assert half_written(store) == []
    serve_series(peer.multipart(instances))
    assert store.image_source(uid).path.is_file()


def test_no_more_series_than_agreed_are_fetched_at_a_time(server, make_store) -> None:
    store = make_store(PATIENT)
    left = threading.Event()

    def work(uid: str) -> None:
        with working_for(left.is_set):
            store.image_source(uid)

    waiting = [in_thread(partial(work, f"1.2.{number}")) for number in range(2)]
    wait_until(lambda: len(server.heads) == 2)
    with pytest.raises(ServerBusyError, match="being fetched already"):
        store.image_source("1.2.9")
    left.set()
    for thread, _ in waiting:
        thread.join(CEILING_S)


def test_what_is_here_is_read_while_the_server_hangs(serve_series, server, store, instances):
    uid = serve_series(peer.multipart(instances))
    path = store.image_source(uid).path
    server.at, server.behaviour = {}, peer.hangs
    asked = len(server.heads)
    assert store.image_source(uid).path == path
    assert len(server.heads) == asked


# --- results -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour", [*HANGING.values(), *BROKEN.values()], ids=[*HANGING, *BROKEN]
)
def test_results_that_cannot_be_had_are_typed(server, make_store, behaviour) -> None:
    server.behaviour = behaviour
    archive = make_store().archive()
    held = Left()
    with pytest.raises(PacsUnreachableError):
        archive.reports("1.2.3")
    with pytest.raises(PacsUnreachableError):
        archive.segmentation("1.2.3", "1.2.4")
    assert held.nothing()


@pytest.mark.parametrize("behaviour", HANGING.values(), ids=HANGING.keys())
def test_storing_ends_in_time(server, make_store, instances, behaviour) -> None:
    server.behaviour = behaviour
    archive = make_store().archive()
    held = Left()
    with pytest.raises(PacsUnreachableError):
        archive.store(instances[:1])
    assert held.nothing()


@pytest.mark.parametrize("path", ["/../../x", "//evil", "/instances/..", 3, None, "/tools/reset"])
def test_a_path_that_the_server_names_is_not_deleted(server, make_store, path) -> None:
    import json

    entry = json.dumps([{"Type": "Instance", "Path": path}]).encode()
    server.behaviour = peer.answers(entry, b"application/json")
    with pytest.raises(PacsAnswerError):
        make_store().archive(server.url).remove("1.2", "1.3", "1.4")
    assert [head.split(b" ")[0] for head in server.heads] == [b"POST"]
