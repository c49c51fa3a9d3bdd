# SPDX-License-Identifier: Apache-2.0
"""The queue of DICOM objects that are to reach the archive; it outlives a crash."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from monailabel_app.errors import UnknownRecordError
from monailabel_app.store.database import Database
from monailabel_app.store.faults import SENDING, recording
from monailabel_app.store.files import FileArchive
from monailabel_app.store.records import JoinedBy, Outcome, PacsDocument, PacsState
from monailabel_app.store.tables import InferenceRow, LabelRow, PacsDocumentRow

LONGEST_WAIT = timedelta(minutes=15)
FINAL = "final"
_SUPERSEDED = "A newer version was submitted before this one had been sent."


@dataclass(frozen=True)
class MadeObject:
    """An encoded DICOM object (a PS3.10 file's bytes) and its UIDs."""

    series_uid: str
    instance_uid: str
    content: bytes


class PacsQueue:
    """Documents waiting to be sent, those sent, and what became of the others.

    The encoded objects of a pending document lie beside the records' files, so that every try, of
    whichever worker, sends the same UIDs and an archive that has them already keeps one copy.
    """

    def __init__(self, database: Database, outbox: FileArchive) -> None:
        self._database = database
        self._outbox = outbox

    def get(self, document_id: int) -> PacsDocument:
        """The document as it stands now.

        Raises:
            UnknownRecordError: if there is none.
        """
        with self._database.reading() as session:
            return document_of(_existing(session, document_id))

    def of_label(self, label_id: int) -> PacsDocument | None:
        """The document that a label was queued as."""
        statement = select(PacsDocumentRow).where(PacsDocumentRow.label_id == label_id)
        with self._database.reading() as session:
            row = session.scalars(statement).first()
            return None if row is None else document_of(row)

    def due(self, now: datetime) -> list[PacsDocument]:
        """Pending documents whose next try has come, oldest first.

        One that would wait longer than any does was put off before the clock was set back.
        """
        next_try = PacsDocumentRow.next_try_at
        statement = (
            select(PacsDocumentRow)
            .where(PacsDocumentRow.state == PacsState.PENDING.value)
            .where(next_try.is_(None) | (next_try <= now) | (next_try > now + LONGEST_WAIT))
            .order_by(PacsDocumentRow.id)
        )
        with self._database.reading() as session:
            return [document_of(row) for row in session.scalars(statement)]

    def sent_before(self, document: PacsDocument) -> PacsDocument | None:
        """The latest earlier version of the same record that the archive has."""
        statement = (
            select(PacsDocumentRow)
            .where(PacsDocumentRow.key == document.key, PacsDocumentRow.version < document.version)
            .where(PacsDocumentRow.state == PacsState.SENT.value)
            .order_by(PacsDocumentRow.version.desc())
        )
        with self._database.reading() as session:
            row = session.scalars(statement).first()
            return None if row is None else document_of(row)

    def claimed(self, document: PacsDocument) -> AbstractContextManager[bool]:
        """Whether this block alone, of all workers, sends a version of the document's record.

        Raises:
            RecordStoreError: it cannot be told.
        """
        return self._database.claimed(f"sending {document.key}")

    def keep_objects(
        self, document: PacsDocument, study_uid: str, objects: Mapping[str, MadeObject]
    ) -> PacsDocument:
        """Keep the encoded objects, by the names ``seg`` and ``report``, until they are sent.

        The files are there before the UIDs are committed, so UIDs never name missing files. Those
        that another worker has kept meanwhile stay.
        """
        with recording(SENDING):
            for name, made in objects.items():
                write = functools.partial(Path.write_bytes, data=made.content)
                self._outbox.put(_file_name(document.id, name, made.instance_uid), write)
            with self._database.writing() as session:
                self._database.stand_alone(session, f"image {document.image_id}")
                row = _existing(session, document.id)
                if not (row.seg_instance_uid or row.report_instance_uid):
                    row.study_uid = study_uid
                    for name, made in objects.items():
                        setattr(row, f"{name}_series_uid", made.series_uid)
                        setattr(row, f"{name}_instance_uid", made.instance_uid)
                superseded = _superseded(session, row.key)
                kept = document_of(row)
            for document_id in superseded:
                self.drop_objects(document_id)
        return kept

    def objects(self, document: PacsDocument) -> list[bytes]:
        """The encoded objects of a pending document, the mask first; empty if not made yet."""
        uids = {"seg": document.seg_instance_uid, "report": document.report_instance_uid}
        return [self._kept(document.id, name, uid) for name, uid in uids.items() if uid]

    def _kept(self, document_id: int, name: str, uid: str) -> bytes:
        try:
            return self._outbox.path(_file_name(document_id, name, uid)).read_bytes()
        except FileNotFoundError:
            # As named by a version whose documents were one server's.
            return self._outbox.path(f"{document_id}.{name}.dcm").read_bytes()

    def mark_sent(self, document_id: int) -> PacsDocument:
        """The archive has it; the kept objects go."""
        now = datetime.now(timezone.utc)
        return self._change(document_id, PacsState.SENT, sent_at=now, error=None)

    def mark_failed(self, document_id: int, error: str) -> PacsDocument:
        """It will not be tried again; ``error`` says why, without patient identifiers."""
        return self._change(document_id, PacsState.FAILED, error=error)

    def mark_tried(self, document_id: int, error: str, next_try_at: datetime) -> PacsDocument:
        """A try failed; there will be another one."""
        changes = {"error": error, "next_try_at": next_try_at}
        return self._change(document_id, PacsState.PENDING, **changes)

    def _change(self, document_id: int, state: PacsState, **changes: object) -> PacsDocument:
        with recording(SENDING), self._database.writing() as session:
            row = _existing(session, document_id)
            self._database.stand_alone(session, f"image {row.image_id}")
            session.expire(row)
            if row.state == PacsState.SENT.value:
                # By another worker, after this one had lost its claim: what is sent stays so.
                return document_of(row)
            row.tries += 1
            if state is not PacsState.PENDING or row.state != PacsState.SUPERSEDED.value:
                row.state = state.value
            for name, value in changes.items():
                setattr(row, name, value)
            document = document_of(row)
        if state is not PacsState.PENDING:
            self.drop_objects(document_id)
        return document

    def drop_objects(self, document_id: int) -> None:
        """Remove the kept objects; ones that are gone already are fine."""
        for name in self._outbox.names(f"{document_id}."):
            self._outbox.drop(name)


def queue_row(session: Session, key: str, image_id: str) -> PacsDocumentRow:
    """Add the next version of the record ``key``; earlier ones that are pending give way."""
    earlier = session.scalars(
        select(PacsDocumentRow.version)
        .where(PacsDocumentRow.key == key)
        .order_by(PacsDocumentRow.version.desc())
    ).first()
    session.execute(
        update(PacsDocumentRow)
        .where(PacsDocumentRow.key == key, PacsDocumentRow.state == PacsState.PENDING.value)
        .values(state=PacsState.SUPERSEDED.value, error=_SUPERSEDED)
    )
    row = PacsDocumentRow(
        key=key,
        version=(earlier or 0) + 1,
        image_id=image_id,
        state=PacsState.PENDING.value,
        tries=0,
        created_at=datetime.now(timezone.utc),
    )
    session.add(row)
    return row


def queue_label(session: Session, label: LabelRow) -> PacsDocumentRow:
    """Queue a submitted label: as a version of its inference, else of the image's own label."""
    key = label.inference_id or f"label of {label.image_id}"
    row = queue_row(session, key, label.image_id)
    row.inference_id, row.label_id = label.inference_id, label.id
    if label.inference is not None:
        row.study_uid = label.inference.study_uid
    return row


def queue_decision(session: Session, inference: InferenceRow, image_id: str) -> None:
    """Queue a record anew because of a decision, with the label that it keeps.

    Without a label the new version has no mask, e.g. because the reader rejected the answer.
    """
    row = queue_row(session, inference.id, image_id)
    row.inference_id, row.study_uid = inference.id, inference.study_uid
    row.label_id = approved_label(inference)


def approved_label(inference: InferenceRow) -> int | None:
    """The last final label that is certainly about an answer, unless the answer was rejected."""
    if inference.outcome == Outcome.REJECTED.value:
        return None
    certain = (
        label.id
        for label in inference.labels
        if label.tag == FINAL and label.joined_by != JoinedBy.TIME_LATEST.value
    )
    return max(certain, default=None)


def document_of(row: PacsDocumentRow) -> PacsDocument:
    """The row, free of its session."""
    values = {field.name: getattr(row, field.name) for field in fields(PacsDocument)}
    return PacsDocument(**{**values, "state": PacsState(row.state)})


def _existing(session: Session, document_id: int) -> PacsDocumentRow:
    row = session.get(PacsDocumentRow, document_id)
    if row is None:
        raise UnknownRecordError("No DICOM document of this id is recorded here.")
    return row


def _superseded(session: Session, key: str) -> list[int]:
    statement = select(PacsDocumentRow.id).where(
        PacsDocumentRow.key == key, PacsDocumentRow.state == PacsState.SUPERSEDED.value
    )
    return list(session.scalars(statement))


def _file_name(document_id: int, name: str, uid: str) -> str:
    return f"{document_id}.{name}.{uid}.dcm"
