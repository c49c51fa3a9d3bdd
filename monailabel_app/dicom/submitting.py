# SPDX-License-Identifier: Apache-2.0
"""Bringing results to the archive: at once if it answers, else later, also after a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from medreasoner_infer.errors import InputError, MedReasonerError, ServiceError
from monailabel_app.dicom.archive import ResultArchive
from monailabel_app.dicom.documents import DocumentMaker
from monailabel_app.store import PacsDocument, PacsState, RecordStore
from monailabel_app.store.pacs_queue import LONGEST_WAIT

logger = logging.getLogger(__name__)

FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = LONGEST_WAIT.total_seconds()
_LOOK_AGAIN_S = 5.0


def wait_before_try(tries: int) -> timedelta:
    """How long to wait after ``tries`` failed tries: doubled each time, a quarter hour at most."""
    return timedelta(seconds=min(FIRST_WAIT_S * 2.0 ** min(tries, 16), LONGEST_WAIT_S))


class Submitter:
    """Makes queued documents and sends them; safe for several threads, and workers of one queue.

    Args:
        on_sent: told of every document that has reached the archive.
    """

    def __init__(
        self,
        records: RecordStore,
        maker: DocumentMaker,
        archive: ResultArchive,
        on_sent: Callable[[PacsDocument], None] = lambda _: None,
    ) -> None:
        self._records = records
        self._maker = maker
        self._archive = archive
        self._on_sent = on_sent
        self._sending = threading.Lock()

    def send(self, document_id: int) -> PacsDocument:
        """Try to bring one document to the archive; the queue knows what came of it.

        Nothing is done where another worker is sending a version of the same record.

        Raises:
            RecordStoreError: if that could not be recorded.
        """
        queue = self._records.pacs
        with self._sending:
            document = queue.get(document_id)
            if document.state is not PacsState.PENDING:
                return document
            with queue.claimed(document) as is_ours:
                # Another worker may have sent it before this one had the claim.
                document = queue.get(document_id)
                if not is_ours or document.state is not PacsState.PENDING:
                    return document
                return self._send(document)

    def _send(self, document: PacsDocument) -> PacsDocument:
        try:
            document = self._with_objects(document)
            self._archive.store(self._records.pacs.objects(document))
        except (ServiceError, OSError) as error:
            return self._try_later(document, error)
        except InputError as error:
            logger.warning("A result cannot be kept as DICOM: %s", error)
            return self._records.pacs.mark_failed(document.id, str(error))
        document = self._records.pacs.mark_sent(document.id)
        self._on_sent(document)
        self._remove_previous(document)
        return document

    def send_due(self) -> int:
        """Try every document that is due; returns how many were sent."""
        due = self._records.pacs.due(datetime.now(timezone.utc))
        sent = [self.send(document.id) for document in due]
        return sum(document.state is PacsState.SENT for document in sent)

    def _with_objects(self, document: PacsDocument) -> PacsDocument:
        if document.seg_instance_uid or document.report_instance_uid:
            return document
        made = self._maker.make(document)
        for warning in made.warnings:
            logger.warning("%s", warning)
        return self._records.pacs.keep_objects(document, made.study_uid, made.objects)

    def _try_later(self, document: PacsDocument, error: Exception) -> PacsDocument:
        # An OSError names files of the study, so only its kind is said.
        said = str(error) if isinstance(error, MedReasonerError) else type(error).__name__
        wait = wait_before_try(document.tries)
        logger.warning("A result waits for the archive; next try in %d s. %s", wait.seconds, said)
        return self._records.pacs.mark_tried(document.id, said, datetime.now(timezone.utc) + wait)

    def _remove_previous(self, document: PacsDocument) -> None:
        """Take the version that this one replaces out of the archive, where it can be done."""
        previous = self._records.pacs.sent_before(document)
        if previous is None or previous.study_uid is None:
            return
        uids = (
            (previous.seg_series_uid, previous.seg_instance_uid),
            (previous.report_series_uid, previous.report_instance_uid),
        )
        for series_uid, instance_uid in uids:
            if series_uid and instance_uid:
                try:
                    self._archive.remove(previous.study_uid, series_uid, instance_uid)
                except (ServiceError, InputError) as error:
                    # The new version names its predecessor, so a reader still finds the newest.
                    logger.warning("A replaced result stays in the archive: %s", error)


class OutboxWorker:
    """A thread that sends what is due until it is stopped."""

    def __init__(self, submitter: Submitter, look_again_s: float = _LOOK_AGAIN_S) -> None:
        self._submitter = submitter
        self._look_again_s = look_again_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medreasoner-outbox", daemon=True)

    def start(self) -> None:
        """Begin with what a former process left behind."""
        self._thread.start()

    def stop(self) -> None:
        """End after the document that is being sent."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._submitter.send_due()
            except ServiceError as error:
                logger.error("The queue of results cannot be read: %s", error)
            except Exception as error:  # noqa: BLE001 - the boundary: the thread must go on
                logger.error("The queue of results met a fault: %s", type(error).__name__)
            self._stop.wait(self._look_again_s)
