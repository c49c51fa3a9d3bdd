# SPDX-License-Identifier: Apache-2.0
"""What a record costs does not grow with the records before it: SQLite is asked how it looks."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event
from support.results import make_result

from monailabel_app.store import RecordStore

KEEP_BYTES = 10_000


@pytest.fixture
def store(tmp_path: Path):
    opened = RecordStore(tmp_path, keep_mask_bytes=KEEP_BYTES)
    yield opened
    opened.close()


def add(store: RecordStore) -> None:
    result = make_result(str(uuid.uuid4()))
    store.add_inference(
        result,
        task="medreasoner",
        image_id="ct",
        study_uid="1.2",
        write_mask=lambda path: path.write_bytes(b"0" * 1000),
    )


def plans_of(store: RecordStore, work: Callable[[], object]) -> list[str]:
    """How SQLite goes about each statement of ``work`` that reads inferences."""
    engine = store._database.engine
    statements: list[tuple[str, object]] = []

    def note(connection, cursor, statement, parameters, context, many) -> None:
        if statement.startswith("SELECT") and "FROM inferences" in statement:
            statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        return [
            step[-1]
            for statement, parameters in statements
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


def test_one_more_record_reads_no_other_record(store) -> None:
    for _ in range(15):  # the oldest masks go
        add(store)
    plans = plans_of(store, lambda: add(store))
    assert plans
    scans = [plan for plan in plans if plan.startswith("SCAN inferences")]
    assert all("INDEX ix_inferences_kept_masks" in plan for plan in scans), plans
    assert not any("TEMP B-TREE" in plan for plan in plans), plans
    kept = [record.mask_file for record in store.list_for_image("ct")]
    assert sum(file is not None for file in kept) == KEEP_BYTES // 1000


def test_the_newest_of_an_image_are_found_without_sorting_all(store) -> None:
    for _ in range(3):
        add(store)
    (plan, *others) = plans_of(store, lambda: store.list_for_image("ct"))
    assert "USING INDEX ix_inferences_image_sequence" in plan
    assert not any("TEMP B-TREE" in other for other in others)
