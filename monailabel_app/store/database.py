# SPDX-License-Identifier: Apache-2.0
"""Sessions on the database of the records, whose faults are typed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from monailabel_app.store.faults import reading


class Database(ABC):
    """Where the rows are; :mod:`.sqlite` and :mod:`.postgres` say what differs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that reads.

        Raises:
            RecordStoreError: the database cannot be read.
        """
        with reading():
            self._require_usable()
            with self._sessions() as session:
                yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction, committed at the end; call it within :func:`.faults.recording`.

        Raises:
            OSError: the database's file is not there any more.
        """
        self._require_usable()
        with self._sessions.begin() as session:
            yield session

    @abstractmethod
    def stand_alone(self, session: Session, what: str) -> None:
        """Until the transaction ends, no other one that names the same passes here.

        What is read afterwards is what the last one has committed.
        """

    @abstractmethod
    def claimed(self, what: str) -> AbstractContextManager[bool]:
        """Whether this block is the only one, of all workers, that has claimed it.

        A worker that dies has no claims any more.

        Raises:
            RecordStoreError: it cannot be told.
        """

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()

    def _require_usable(self) -> None:  # noqa: B027 - most drivers notice it themselves
        """Check what the driver would not notice.

        Raises:
            OSError: the database may not be used.
        """
