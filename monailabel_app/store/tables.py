# SPDX-License-Identifier: Apache-2.0
"""The tables, as SQLAlchemy classes; :mod:`.migrations` makes them."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, String, TypeDecorator, text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, stored as UTC; SQLite itself knows no time zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times and drop the zone of UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"The time {value} has no time zone; expected an aware time.")
        return value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return None if value is None else value.replace(tzinfo=timezone.utc)


_HAS_MASK = text("mask_file IS NOT NULL")


class Base(DeclarativeBase):
    """Base of all tables."""


class InferenceRow(Base):
    """One inference; ``result`` is the whole result as it went to the client, without the mask."""

    __tablename__ = "inferences"
    __table_args__ = (
        Index("ix_inferences_image_created", "image_id", "created_at"),
        Index("ix_inferences_image_sequence", "image_id", "sequence"),
        Index(
            "ix_inferences_kept_masks",
            "sequence",
            "mask_bytes",
            sqlite_where=_HAS_MASK,
            postgresql_where=_HAS_MASK,
        ),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    task: Mapped[str] = mapped_column(String(128))
    image_id: Mapped[str | None] = mapped_column(String(512))
    kind: Mapped[str] = mapped_column(String(32))
    query: Mapped[str | None]
    present: Mapped[bool]
    reasoner_name: Mapped[str | None]
    reasoner_sha256: Mapped[str | None] = mapped_column(String(64))
    segmenter_name: Mapped[str]
    segmenter_sha256: Mapped[str | None] = mapped_column(String(64))
    result: Mapped[dict[str, Any]] = mapped_column(JSON)
    mask_sha256: Mapped[str | None] = mapped_column(String(64))
    mask_bytes: Mapped[int | None]
    mask_file: Mapped[str | None]
    study_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    outcome: Mapped[str | None] = mapped_column(String(16))
    outcome_reason: Mapped[str | None]
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    decided_by: Mapped[str | None]
    target: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    # In the order of recording; the clock may be set back meanwhile.
    sequence: Mapped[int | None] = mapped_column(index=True, unique=True)
    asked_by: Mapped[str | None]
    labels: Mapped[list[LabelRow]] = relationship(
        back_populates="inference", order_by="LabelRow.id", lazy="selectin"
    )
    pacs_documents: Mapped[list[PacsDocumentRow]] = relationship(
        order_by="PacsDocumentRow.id", lazy="selectin"
    )


class LabelRow(Base):
    """One label that a reader submitted, and the inference it was joined to."""

    __tablename__ = "labels"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    image_id: Mapped[str] = mapped_column(String(512), index=True)
    tag: Mapped[str] = mapped_column(String(128))
    inference_id: Mapped[str | None] = mapped_column(ForeignKey("inferences.id"), index=True)
    joined_by: Mapped[str] = mapped_column(String(32))
    join_explanation: Mapped[str]
    info: Mapped[dict[str, Any]] = mapped_column(JSON)
    label_sha256: Mapped[str | None] = mapped_column(String(64))
    label_file: Mapped[str | None]
    inference: Mapped[InferenceRow | None] = relationship(back_populates="labels")


class PacsDocumentRow(Base):
    """One version of a record's DICOM objects; ``key`` is the record, whatever made it."""

    __tablename__ = "pacs_documents"
    __table_args__ = (Index("ix_pacs_documents_key_version", "key", "version", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    key: Mapped[str] = mapped_column(String(600))
    version: Mapped[int]
    inference_id: Mapped[str | None] = mapped_column(ForeignKey("inferences.id"), index=True)
    label_id: Mapped[int | None] = mapped_column(ForeignKey("labels.id"))
    image_id: Mapped[str] = mapped_column(String(512))
    study_uid: Mapped[str | None] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    tries: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    next_try_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None]
    seg_series_uid: Mapped[str | None] = mapped_column(String(64))
    seg_instance_uid: Mapped[str | None] = mapped_column(String(64))
    report_series_uid: Mapped[str | None] = mapped_column(String(64))
    report_instance_uid: Mapped[str | None] = mapped_column(String(64))
