# SPDX-License-Identifier: Apache-2.0
"""What two workers on one database do at the same time, each in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import ClassVar

from support.results import make_result

from monailabel_app.errors import ConflictError
from monailabel_app.store import Decision, LabelSubmission, Outcome, PacsState, RecordStore
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.submissions import RemembersSubmissions

STAY_S = 600.0


def in_step(store: RecordStore, ready: Path, act: Callable[[], object]) -> object:
    """Act when the other one is ready as well."""
    (ready / str(os.getpid())).touch()
    while len(list(ready.iterdir())) < 2:
        time.sleep(0.001)
    try:
        return act()
    finally:
        store.close()


def add(folder: Path, address: str, ready: Path, name: str, count: int) -> None:
    store = RecordStore(folder, address=address)

    def act() -> None:
        for number in range(count):
            store.add_inference(make_result(f"{name}{number}"), task="t", image_id="case")

    in_step(store, ready, act)


def decide(folder: Path, address: str, ready: Path, outcome: str, told: Path) -> None:
    """Decide on an answer that both have seen undecided; ``told`` says what came of it."""
    store = RecordStore(folder, address=address)
    seen = store.get("a")
    decision = Decision(Outcome(outcome), "because", datetime.now(timezone.utc), outcome)

    def act() -> None:
        try:
            store.decide("a", decision, to_archive=True, seen=seen)
            told.write_text("decided")
        except ConflictError as error:
            told.write_text(str(error))

    in_step(store, ready, act)


def submit(folder: Path, address: str, ready: Path, label: Path) -> None:
    """Submit one label, as a client does whose first request had no reply."""
    store = RecordStore(folder, address=address)
    submission = LabelSubmission("case", "final", label, {"inference_id": "a"})
    in_step(store, ready, lambda: store.join_label(submission, to_archive=True))


def send_all(folder: Path, address: str, ready: Path, sent: Path) -> None:
    """Send what is due until nothing is; ``sent`` gets a line for each document."""
    store = RecordStore(folder, address=address)

    def act() -> None:
        while due := store.pacs.due(datetime.now(timezone.utc)):
            for document in due:
                with store.pacs.claimed(document) as is_ours:
                    now = store.pacs.get(document.id)
                    if is_ours and now.state is PacsState.PENDING:
                        with sent.open("a") as lines:
                            lines.write(f"{document.id}\n")
                        store.pacs.mark_sent(document.id)

    in_step(store, ready, act)


def claim_and_stay(folder: Path, address: str, claimed: Path) -> None:
    """Claim the first document, and be killed."""
    store = RecordStore(folder, address=address)
    (document,) = store.pacs.due(datetime.now(timezone.utc))
    with store.pacs.claimed(document) as is_ours:
        assert is_ours
        claimed.touch()
        time.sleep(STAY_S)


def open_and_close(folder: Path, address: str, ready: Path) -> None:
    (ready / str(os.getpid())).touch()
    while len(list(ready.iterdir())) < 2:
        time.sleep(0.001)
    RecordStore(folder, address=address).close()


class SharedStudies(RemembersSubmissions, IndexedFolder):
    """What workers keep of a PACS, in a folder that they share; nothing tells of others' writes."""

    own_folder: ClassVar[bool] = True

    def __init__(self, folder: Path, counts: bool = False) -> None:
        super().__init__(str(folder), auto_reload=False)
        self.take_back_interrupted(lambda _: counts)


def die_while_saving(folder: Path, label: Path, image_id: str) -> None:
    """End without a word once a label is in its place, and nobody has recorded it."""
    studies = SharedStudies(folder)
    with studies.label_kept(image_id, str(label), "final", {}):
        os._exit(0)
