# SPDX-License-Identifier: Apache-2.0
"""The store of inferences and submitted labels, on real SQLite files and a real PostgreSQL."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import create_engine, inspect, text
from support.results import make_result

from medreasoner_infer.doubt_record import Doubt, NamedReading
from medreasoner_infer.result import InferenceResult
from monailabel_app.errors import RecordStoreError, UnknownRecordError
from monailabel_app.store import JoinedBy, LabelSubmission, RecordStore
from monailabel_app.store.databases import open_database
from monailabel_app.store.sqlite import upgrade_file


@pytest.fixture
def store(tmp_path: Path, records_address):
    store = RecordStore(tmp_path / "records", address=records_address)
    yield store
    store.close()


def submission(image_id: str = "case", **info: object) -> LabelSubmission:
    return LabelSubmission(image_id, "final", None, info)


def test_an_inference_reads_back_as_it_was_recorded(store: RecordStore) -> None:
    store.add_inference(
        make_result("a"), task="medreasoner", image_id="case",
        write_mask=lambda path: path.write_bytes(b"mask"),
    )  # fmt: skip
    record = store.get("a")
    assert record.query == "Which organ makes bile?"
    assert record.result.to_dict() == make_result("a").to_dict()
    assert record.created_at.isoformat() == "2026-01-02T03:04:00+00:00"
    assert record.mask_sha256 == hashlib.sha256(b"mask").hexdigest()
    assert record.mask_file is not None
    assert record.mask_file.read_bytes() == b"mask"


def test_an_unknown_id_is_named_as_such(store: RecordStore) -> None:
    with pytest.raises(UnknownRecordError, match="recorded"):
        store.get("nobody")


def test_inferences_of_an_image_come_latest_first_and_of_no_other_image(
    store: RecordStore,
) -> None:
    """In the order of recording, whatever the clock said."""
    for inference_id, second, image in (("a", 9, "case"), ("b", 1, "case"), ("c", 5, "other")):
        store.add_inference(make_result(inference_id, second), task="t", image_id=image)
    assert [record.id for record in store.list_for_image("case")] == ["b", "a"]
    assert [record.id for record in store.list_for_image("case", limit=1)] == ["b"]


def test_records_survive_reopening(tmp_path: Path, records_address) -> None:
    first = RecordStore(tmp_path, address=records_address)
    first.add_inference(make_result("a"), task="t", image_id="case")
    first.close()
    second = RecordStore(tmp_path, address=records_address)
    assert second.get("a").image_id == "case"
    second.close()


def test_a_committed_record_is_there_though_the_process_never_closed_the_store(
    tmp_path: Path,
) -> None:
    crashed = RecordStore(tmp_path / "live")
    crashed.add_inference(make_result("a"), task="t", image_id="case")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("records.sqlite", "records.sqlite-wal"):
        (copy / name).write_bytes((tmp_path / "live" / name).read_bytes())
    crashed.close()
    recovered = RecordStore(copy)
    assert recovered.get("a").id == "a"
    recovered.close()


def test_two_stores_and_many_threads_write_to_one_database(tmp_path: Path, records_address) -> None:
    stores = [RecordStore(tmp_path, address=records_address) for _ in range(2)]

    def write(number: int) -> None:
        stores[number % 2].add_inference(make_result(f"{number}"), task="t", image_id="case")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {record.id for record in stores[0].list_for_image("case")} == {
        str(number) for number in range(16)
    }
    for store in stores:
        store.close()


def test_the_database_uses_write_ahead_logging(tmp_path: Path) -> None:
    RecordStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "records.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_folder_is_closed_to_others(tmp_path: Path) -> None:
    RecordStore(tmp_path / "records").close()
    assert (tmp_path / "records").stat().st_mode & 0o077 == 0


def test_a_mask_that_cannot_be_written_fails_typed_and_records_nothing(store: RecordStore) -> None:
    def full_disk(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RecordStoreError, match="disk space"):
        store.add_inference(make_result("a"), task="t", image_id="case", write_mask=full_disk)
    with pytest.raises(UnknownRecordError):
        store.get("a")


def test_a_failing_record_does_not_tell_the_question(store: RecordStore) -> None:
    store.add_inference(make_result("a"), task="t", image_id="case")
    with pytest.raises(RecordStoreError) as caught:
        store.add_inference(make_result("a"), task="t", image_id="case")
    assert "bile" not in str(caught.value)


def doubted(name: str, second: int = 0) -> InferenceResult:
    doubt = Doubt(9, 0.8, (NamedReading("present", "liver", 9),))
    return replace(make_result(name, second), doubt=doubt)


def test_a_map_of_doubt_is_kept_as_long_as_its_mask_and_counts_with_it(
    tmp_path: Path, records_address
) -> None:
    """Masks of 60 bytes and maps of 30 under a cap of 200: two of three have room."""
    store = RecordStore(tmp_path / "records", keep_mask_bytes=200, address=records_address)
    for second, name in enumerate("abc"):
        store.add_inference(
            doubted(name, second), task="t", image_id="case",
            write_mask=lambda path: path.write_bytes(bytes(60)),
            write_doubt=lambda path: path.write_bytes(bytes(30)),
        )  # fmt: skip
    kept = {name: store.get(name).doubt_file for name in "abc"}
    assert kept["a"] is None
    assert kept["b"].read_bytes() == kept["c"].read_bytes() == bytes(30)
    assert kept["c"].stat().st_mode & 0o077 == 0
    assert not store.get("a").to_dict()["doubt_map_kept"]
    assert store.get("b").to_dict()["doubt_map_kept"]
    assert store.delete_study("case").inferences == 3
    store.close()
    assert list((tmp_path / "records").rglob("*.nii.gz")) == []


def test_a_map_of_doubt_that_cannot_be_written_leaves_no_mask(store: RecordStore) -> None:
    def full_disk(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RecordStoreError, match="disk space"):
        store.add_inference(
            doubted("a"), task="t", image_id="case",
            write_mask=lambda path: path.write_bytes(b"mask"), write_doubt=full_disk,
        )  # fmt: skip
    with pytest.raises(UnknownRecordError):
        store.get("a")
    store.add_inference(
        doubted("b"), task="t", image_id="case",
        write_mask=lambda path: path.write_bytes(b"mask"),
    )  # fmt: skip
    record = store.get("b")
    assert record.doubt_file is None
    assert [path.name for path in record.mask_file.parent.iterdir()] == ["b.nii.gz"]


# --- joining -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "info",
    [
        {"inference_id": "b"},
        {"params": {"inference_id": "b"}},
        {"medreasoner": {"inference_id": "b"}},
        {"label_info": [{"name": "x"}, {"inference_id": "b"}]},
    ],
)
def test_a_label_that_names_its_inference_is_joined_to_it(store: RecordStore, info) -> None:
    for inference_id, second in (("a", 9), ("b", 1)):
        store.add_inference(make_result(inference_id, second), task="t", image_id="case")
    label = store.join_label(LabelSubmission("case", "final", None, info))
    assert (label.inference_id, label.joined_by) == ("b", JoinedBy.ID)
    assert label.joined_by.confidence == "certain"
    assert [kept.id for kept in store.get("b").labels] == [label.id]


def test_a_named_inference_that_is_unknown_is_not_replaced_by_a_guess(store: RecordStore) -> None:
    store.add_inference(make_result("a"), task="t", image_id="case")
    label = store.join_label(submission(inference_id="gone"))
    assert (label.inference_id, label.joined_by) == (None, JoinedBy.NOTHING)


def test_a_named_inference_on_another_image_is_refused(store: RecordStore) -> None:
    store.add_inference(make_result("a"), task="t", image_id="other")
    label = store.join_label(submission(inference_id="a"))
    assert label.inference_id is None
    assert "another image" in label.explanation


def test_without_a_name_the_only_finding_is_probable(store: RecordStore) -> None:
    store.add_inference(make_result("a", 1), task="t", image_id="case")
    store.add_inference(make_result("b", 2, present=False), task="t", image_id="case")
    label = store.join_label(submission())
    assert (label.inference_id, label.joined_by) == ("a", JoinedBy.TIME_ONLY)
    assert label.joined_by.confidence == "probable"


@pytest.mark.parametrize("outcome", ["absent", "not_understood"])
def test_the_outcome_is_kept_and_no_label_is_guessed_to_answer_it(
    store: RecordStore, outcome: str
) -> None:
    result = make_result("a", present=False, outcome=outcome)
    store.add_inference(result, task="t", image_id="case")
    record = store.get("a")
    assert (record.present, record.outcome) == (False, outcome)
    assert (record.to_dict()["present"], record.to_dict()["outcome"]) == (False, outcome)
    assert record.result == result.record()
    assert store.join_label(submission()).joined_by is JoinedBy.NOTHING


def test_a_record_without_an_outcome_is_read_as_present_or_absent(tmp_path: Path) -> None:
    for name, present in (("a", True), ("b", False)):
        store = RecordStore(tmp_path / "records")
        store.add_inference(make_result(name, present=present), task="t", image_id="case")
        store.close()
        with sqlite3.connect(tmp_path / "records" / "records.sqlite") as database:
            database.execute("UPDATE inferences SET result = json_remove(result, '$.outcome')")
    store = RecordStore(tmp_path / "records")
    assert (store.get("a").outcome, store.get("b").outcome) == ("present", "absent")
    store.close()


def test_without_a_name_the_latest_of_several_findings_is_uncertain(store: RecordStore) -> None:
    """The latest recorded: the clock was set back before the last one."""
    for inference_id, second in (("a", 3), ("b", 7), ("c", 5)):
        store.add_inference(make_result(inference_id, second), task="t", image_id="case")
    label = store.join_label(submission())
    assert (label.inference_id, label.joined_by) == ("c", JoinedBy.TIME_LATEST)
    assert "3 inferences" in label.explanation
    assert label.to_dict()["join_confidence"] == "uncertain"


def test_a_label_without_any_inference_is_recorded_unjoined(store: RecordStore) -> None:
    label = store.join_label(submission())
    assert (label.inference_id, label.joined_by) == (None, JoinedBy.NOTHING)


def test_labels_for_training_are_the_latest_final_label_of_each_inference(
    store: RecordStore, tmp_path: Path
) -> None:
    file = tmp_path / "tmpx.nii.gz"
    for inference_id in ("a", "b"):
        store.add_inference(make_result(inference_id), task="t", image_id="case")
    for inference_id, tag, content in (
        ("a", "final", b"first"),
        ("a", "original", b"not final"),
        ("a", "final", b"corrected"),
        ("b", "original", b"not final"),
    ):
        file.write_bytes(content)
        store.join_label(LabelSubmission("case", tag, file, {"inference_id": inference_id}))
    file.unlink()
    (example,) = store.labels_for_training()
    assert example.inference.id == "a"
    assert example.label_file.read_bytes() == b"corrected"
    assert example.label_file.name.endswith(".nii.gz")
    assert example.label.sha256 == hashlib.sha256(b"corrected").hexdigest()


def test_a_label_sent_again_is_the_same_though_another_readers_came_between(
    store: RecordStore, tmp_path: Path
) -> None:
    def submit(inference_id: str, content: bytes) -> int:
        file = tmp_path / "label.nii.gz"
        file.write_bytes(content)
        info = {"inference_id": inference_id}
        return store.join_label(LabelSubmission("case", "final", file, info)).id

    for inference_id in ("a", "b"):
        store.add_inference(make_result(inference_id), task="t", image_id="case")
    first, other = submit("a", b"liver"), submit("b", b"spleen")
    assert (submit("a", b"liver"), submit("b", b"spleen")) == (first, other)
    corrected = submit("a", b"larger liver")
    assert corrected not in (first, other)
    assert submit("a", b"liver") not in (first, other, corrected)
    assert submit("gone", b"kidney") == submit("gone", b"kidney")


# --- retention -----------------------------------------------------------------------------------


def test_beyond_the_cap_the_oldest_unconfirmed_masks_go_and_their_hashes_stay(
    tmp_path: Path, records_address
) -> None:
    store = RecordStore(tmp_path, keep_mask_bytes=250, address=records_address)

    def add(inference_id: str, second: int) -> None:
        store.add_inference(
            make_result(inference_id, second), task="t", image_id="case",
            write_mask=lambda path: path.write_bytes(b"m" * 100),
        )  # fmt: skip

    add("confirmed", 1)
    store.join_label(submission(inference_id="confirmed"))
    for inference_id, second in (("old", 2), ("new", 3), ("newest", 4)):
        add(inference_id, second)
    kept = {record.id: record.mask_file for record in store.list_for_image("case")}
    assert kept["old"] is None
    assert store.get("old").mask_sha256 == hashlib.sha256(b"m" * 100).hexdigest()
    assert kept["confirmed"] is not None
    assert kept["newest"] is not None
    on_disk = {path.name for path in (tmp_path / "masks").iterdir()}
    assert on_disk == {path.name for path in kept.values() if path is not None}
    store.close()


def test_a_cap_of_zero_keeps_no_mask(tmp_path: Path) -> None:
    store = RecordStore(tmp_path, keep_mask_bytes=0)
    record = store.add_inference(
        make_result("a"), task="t", image_id="case", write_mask=lambda path: path.write_bytes(b"m")
    )
    assert record.mask_file is None
    assert list((tmp_path / "masks").iterdir()) == []
    store.close()


# --- migrations ----------------------------------------------------------------------------------


def test_migrations_make_the_tables_that_the_classes_describe(
    tmp_path: Path, records_address
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from monailabel_app.store.tables import Base

    database = open_database(tmp_path, records_address)
    options = {
        "compare_type": True,
        # That of the folder is the database server's alone.
        "include_name": lambda name, kind, _: (kind, name) != ("table", "record_folder"),
    }
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    database.close()


def test_upgrading_a_current_database_changes_nothing(tmp_path: Path, records_address) -> None:
    store = RecordStore(tmp_path, address=records_address)
    store.add_inference(make_result("a"), task="t", image_id="case")
    database = open_database(tmp_path, records_address)
    assert store.get("a").id == "a"
    tables = set(inspect(database.engine).get_table_names())
    assert {"alembic_version", "inferences", "labels"} <= tables
    database.close()
    store.close()


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(
    tmp_path: Path, records_address
) -> None:
    database = open_database(tmp_path, records_address)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RecordStoreError, match=r"newer version .*9999"):
        RecordStore(tmp_path, address=records_address)
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    database.close()


def test_a_database_of_the_first_revision_keeps_its_records(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    upgrade_file(engine, path, "0001")
    engine.dispose()
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO inferences (id, created_at, task, kind, present, segmenter_name, result)"
            " VALUES ('old', '2026-01-02 03:04:05', 't', 'segment', 1, 'toy', ?)",
            [json.dumps(make_result("old").to_dict())],
        )
    store = RecordStore(tmp_path)
    assert store.get("old").created_at.isoformat() == "2026-01-02T03:04:05+00:00"
    store.close()


def test_one_damaged_record_takes_no_other_out_of_the_list(
    store: RecordStore, tmp_path, records_address
) -> None:
    for name in ("a", "b"):
        store.add_inference(make_result(name), task="medreasoner", image_id="case")
    database = open_database(tmp_path / "records", records_address)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE inferences SET result = '{}' WHERE id = 'a'"))
    database.close()
    assert [record.id for record in store.list_for_image("case")] == ["b"]
    with pytest.raises(RecordStoreError, match="cannot be read"):
        store.get("a")
