# SPDX-License-Identifier: Apache-2.0
"""Records of several workers in one PostgreSQL."""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

pytest.importorskip("monailabel")
pytest.importorskip("psycopg")

from support import batches, workers
from support.postgres import PASSWORD, Postgres
from support.results import make_result

from medreasoner_infer.errors import MissingExtraError
from medreasoner_infer.pipeline import Pipeline
from monailabel_app.batch.results import Results
from monailabel_app.common.database_address import shown_database
from monailabel_app.errors import RecordStoreError, SettingsError
from monailabel_app.settings import AppSettings
from monailabel_app.site.opening import move_to_database
from monailabel_app.site.paths import SitePaths
from monailabel_app.store import (
    Decision,
    LabelSubmission,
    MadeObject,
    Outcome,
    PacsState,
    RecordStore,
)
from monailabel_app.store.databases import look_at_database

WAIT_S = 300.0
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["monailabel_app.store", "psycopg"])


@pytest.fixture
def address(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture
def store(folder: Path, address: str):
    store = RecordStore(folder, address=address)
    yield store
    store.close()


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    place = tmp_path / "ready"
    place.mkdir()
    return place


def at_once(target, *calls: tuple[object, ...]) -> None:
    """Run the calls at the same time, each in a process."""
    running = [_PROCESSES.Process(target=target, args=arguments) for arguments in calls]
    for process in running:
        process.start()
    for process in running:
        process.join(WAIT_S)
    assert [process.exitcode for process in running] == [0] * len(running)


def queue(store: RecordStore, name: str) -> int:
    """An answer on an image of its own, decided and queued; the document's number."""
    store.add_inference(make_result(name), task="t", image_id=f"image of {name}")
    return store.decide(name, Decision(Outcome.ACCEPTED, None, NOW), to_archive=True).pacs[0].id


def add_label(store: RecordStore, file: Path, name: str):
    submission = LabelSubmission("case", "final", file, {"inference_id": name})
    return store.join_label(submission, to_archive=True)


# --- the address ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql+psycopg://ann:hunter2@db/records", "PGPASSFILE"),  # pragma: allowlist secret
        ("postgresql+psycopg://ann@db/records?password=hunter2", "PGPASSFILE"),
        ("postgresql+psycopg://ann@db/records?options=hunter2", "not taken"),
        ("postgresql+psycopg://ann:hun/ter2@db/records", "cannot be used"),
        ("postgresql+psycopg://ann@db", "cannot be used"),
        ("postgresql+psycopg://ann@db:x/hunter2", "cannot be used"),
        ("mysql://ann@db/hunter2", "cannot be used"),
        ("hunter2", "cannot be used"),
    ],
)
def test_an_address_that_holds_a_secret_or_is_none_is_refused_and_not_repeated(
    address: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        AppSettings.from_conf({"records_database": address})
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_what_is_shown_of_an_address_is_server_and_name() -> None:
    shown = shown_database("postgresql+psycopg://ann@db.example:5433/records?passfile=/secret")
    assert shown == "records on db.example:5433"


def test_without_the_driver_the_extra_is_named(folder, address, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"\[postgres\]"):
        RecordStore(folder, address=address)


def test_the_password_comes_from_its_file_and_is_told_nobody(
    postgres, folder, address, monkeypatch, tmp_path, caplog
) -> None:
    passwords = tmp_path / "pgpass"
    passwords.touch(0o600)
    passwords.write_text(f"127.0.0.1:{postgres.port}:*:*:{PASSWORD}\n")
    on_loopback = postgres.on_loopback(address)
    with pytest.raises(RecordStoreError, match="does not answer"):
        RecordStore(folder, address=on_loopback)
    monkeypatch.setenv("PGPASSWORD", "a-wrong-password")
    with pytest.raises(RecordStoreError, match="does not answer") as caught:
        RecordStore(folder, address=on_loopback)
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    RecordStore(folder, address=on_loopback).close()
    told = caplog.text + str(caught.value) + look_at_database(folder, on_loopback)
    assert "password authentication failed" in told
    assert "a-wrong-password" not in told
    assert PASSWORD not in told + (folder / "records_database.json").read_text()


# --- which folder --------------------------------------------------------------------------------


def test_a_folder_that_is_not_the_databases_is_refused(store, address, tmp_path) -> None:
    store.add_inference(make_result("a"), task="t", image_id="case")
    with pytest.raises(SettingsError, match="other workers use"):
        RecordStore(tmp_path / "another", address=address)


def test_an_empty_database_in_place_of_the_one_that_was_is_refused(store, folder, postgres) -> None:
    with pytest.raises(SettingsError, match="other workers use"):
        RecordStore(folder, address=postgres.new_database())


def test_records_in_sqlite_are_not_lost_sight_of(folder, address) -> None:
    RecordStore(folder).close()
    with pytest.raises(SettingsError, match="records move"):
        RecordStore(folder, address=address)


def test_records_in_a_database_are_never_begun_anew_beside_it(store, folder, address) -> None:
    with pytest.raises(SettingsError, match=r"records_database\.json"):
        RecordStore(folder)
    assert not (folder / "records.sqlite").exists()


def test_a_batch_records_where_the_sites_records_are(store, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Pipeline, "from_registry", batches.toys)
    studies = batches.write_studies(tmp_path / "studies", 2)
    questions = tmp_path / "list.csv"
    questions.write_text("question,slice\nWhere is it bright?,4\n")
    settings = replace(
        batches.settings_of(studies, tmp_path / "out", Results.DATASET), data_dir=folder
    )
    report = batches.run(questions, settings, own_records=True)
    assert dict(report.outcomes) == {"present": 2}
    for image in ("ct0", "ct1"):
        (record,) = store.list_for_image(image)
        assert record.result.outcome == "present"
    assert not (folder / "records.sqlite").exists()


def test_commands_find_the_database_by_the_folder(store, folder, address, tmp_path) -> None:
    paths = SitePaths.of("http://pacs.example/dicom-web", folder)
    assert (paths.database, paths.is_shared) == (address, True)
    assert not paths.own_dir.is_relative_to(folder)
    alone = SitePaths.of("http://pacs.example/dicom-web", tmp_path / "another")
    assert (alone.database, alone.own_dir) == (None, tmp_path / "another")


def test_what_is_told_of_a_database_changes_nothing_in_it(folder, address) -> None:
    assert "no records yet" in look_at_database(folder, address)
    assert "no records yet" in look_at_database(folder, address)
    store = RecordStore(folder, address=address)
    queue(store, "a")
    store.close()
    assert "1 answer(s), 1 wait(s) for the PACS" in look_at_database(folder, address)


# --- two at once ---------------------------------------------------------------------------------


def test_workers_that_start_at_once_make_the_tables_once(folder, address, ready) -> None:
    at_once(workers.open_and_close, *[(folder, address, ready)] * 2)
    store = RecordStore(folder, address=address)
    assert store.list_for_image("case") == []
    store.close()


def test_answers_of_two_workers_are_all_there_in_one_order(store, folder, address, ready) -> None:
    at_once(workers.add, *[(folder, address, ready, name, 15) for name in ("a", "b")])
    names = [record.id for record in store.list_for_image("case")]
    assert sorted(names) == sorted(f"{name}{n}" for name in "ab" for n in range(15))
    for name in "ab":
        own = [int(known[1:]) for known in names if known.startswith(name)]
        assert own == list(range(15))[::-1]


def test_of_two_decisions_at_once_one_stands_and_the_other_is_told(
    store, folder, address, ready, tmp_path
) -> None:
    store.add_inference(make_result("a"), task="t", image_id="case")
    calls = [(folder, address, ready, w, tmp_path / w) for w in ("accepted", "rejected")]
    at_once(workers.decide, *calls)
    told = {word: (tmp_path / word).read_text() for word in ("accepted", "rejected")}
    record = store.get("a")
    stands = record.decision.outcome.value
    (lost,) = {"accepted", "rejected"} - {stands}
    assert told[stands] == "decided"
    assert f"was {stands} by another request" in told[lost]
    assert len(record.pacs) == 1
    again = Decision(Outcome(lost), "after a look", NOW)
    assert store.decide("a", again, seen=record).decision == again


def test_a_label_that_reaches_both_workers_is_one(store, folder, address, ready, tmp_path) -> None:
    store.add_inference(make_result("a"), task="t", image_id="case")
    label = tmp_path / "label.nii.gz"
    label.write_bytes(b"label")
    at_once(workers.submit, *[(folder, address, ready, label)] * 2)
    record = store.get("a")
    assert (len(record.labels), len(record.pacs)) == (1, 1)
    assert [path.name for path in (folder / "labels").iterdir()] == [record.labels[0].file.name]


def test_each_document_of_the_queue_is_sent_once(store, folder, address, ready, tmp_path) -> None:
    queued = {queue(store, f"a{number}") for number in range(12)}
    sent = tmp_path / "sent"
    at_once(workers.send_all, *[(folder, address, ready, sent)] * 2)
    assert sorted(map(int, sent.read_text().split())) == sorted(queued)
    assert {store.pacs.get(number).state for number in queued} == {PacsState.SENT}


def test_what_a_killed_worker_had_claimed_is_free(store, folder, address, tmp_path) -> None:
    document = store.pacs.get(queue(store, "a"))
    claimed = tmp_path / "claimed"
    process = _PROCESSES.Process(target=workers.claim_and_stay, args=(folder, address, claimed))
    process.start()
    deadline = time.monotonic() + WAIT_S
    while not claimed.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with store.pacs.claimed(document) as is_ours:
        assert not is_ours
    process.kill()
    process.join(WAIT_S)
    is_ours = False
    while not is_ours and time.monotonic() < deadline:
        with store.pacs.claimed(document) as is_ours:
            time.sleep(0.01)
    assert is_ours


# --- a worker that has lost its claim ------------------------------------------------------------


def test_what_is_sent_stays_sent_whatever_another_worker_met(store) -> None:
    number = queue(store, "a")
    store.pacs.mark_sent(number)
    store.pacs.mark_failed(number, "The archive has it already.")
    store.pacs.mark_tried(number, "The archive did not answer.", NOW + timedelta(1))
    document = store.pacs.get(number)
    assert (document.state, document.error, document.tries) == (PacsState.SENT, None, 1)


def test_the_objects_of_a_document_are_made_once(store, folder) -> None:
    document = store.pacs.get(queue(store, "a"))
    for uid in ("1.2.3", "4.5.6"):
        kept = store.pacs.keep_objects(
            document, "1", {"report": MadeObject(f"{uid}.0", uid, uid.encode())}
        )
    assert kept.report_instance_uid == "1.2.3"
    assert store.pacs.objects(kept) == [b"1.2.3"]
    store.pacs.mark_sent(document.id)
    assert list((folder / "outbox").iterdir()) == []


# --- the server is away --------------------------------------------------------------------------


def test_records_are_usable_again_as_soon_as_the_server_is_back(
    store, folder, address, postgres
) -> None:
    store.add_inference(make_result("a"), task="t", image_id="case")
    document = store.pacs.get(queue(store, "sent"))
    with store.pacs.claimed(document) as is_ours:
        with postgres.away():
            with pytest.raises(RecordStoreError, match="does not answer"):
                store.get("a")
            with pytest.raises(RecordStoreError, match=r"not given out .*does not answer"):
                store.add_inference(
                    make_result("b"), task="t", image_id="case",
                    write_mask=lambda path: path.write_bytes(b"mask"),
                )  # fmt: skip
            with pytest.raises(RecordStoreError, match="does not answer"):
                RecordStore(folder, address=address)
        assert is_ours
    assert list((folder / "masks").iterdir()) == []
    assert [record.id for record in store.list_for_image("case")] == ["a"]
    with store.pacs.claimed(document) as is_ours:
        assert is_ours


# --- from SQLite ---------------------------------------------------------------------------------


def test_moved_records_are_those_that_were_there(folder, address, tmp_path) -> None:
    label = tmp_path / "label.nii.gz"
    before = RecordStore(folder)
    for name in ("a", "b"):
        before.add_inference(
            make_result(name), task="t", image_id="case", asked_by="ann",
            write_mask=lambda path: path.write_bytes(b"mask"),
        )  # fmt: skip
        label.write_bytes(name.encode())
        add_label(before, label, name)
    before.decide("a", Decision(Outcome.REJECTED, "größer", NOW, "ann"))
    told = [record.to_dict() for record in before.list_for_image("case")]
    before.close()
    moved = move_to_database(folder, address)
    assert moved.rows == {"inferences": 2, "labels": 2, "pacs_documents": 2}
    assert not (folder / "records.sqlite").exists()
    assert (folder / "records.sqlite.moved").exists()
    after = RecordStore(folder, address=address)
    assert [record.to_dict() for record in after.list_for_image("case")] == told
    assert after.get("a").mask_file.read_bytes() == b"mask"
    label.write_bytes(b"another")
    added = add_label(after, label, "a")
    assert added.id > max(entry["labels"][0]["id"] for entry in told)
    after.close()
    with pytest.raises(SettingsError, match="no records to move"):
        move_to_database(folder, address)


def test_an_interrupted_move_may_be_repeated_but_none_into_other_records(
    folder, address, store, tmp_path
) -> None:
    other = tmp_path / "other"
    for name in ("a", "b"):
        kept = RecordStore(other)
        kept.add_inference(make_result(name), task="t", image_id="case")
        kept.close()
    whole = (other / "records.sqlite").read_bytes()
    store.add_inference(make_result("c"), task="t", image_id="case")
    with pytest.raises(SettingsError, match="records already"):
        move_to_database(other, address)
    assert (other / "records.sqlite").exists()
    store.delete_study("case")
    move_to_database(other, address)
    (other / "records.sqlite").write_bytes(whole)
    assert move_to_database(other, address).rows["inferences"] == 2
