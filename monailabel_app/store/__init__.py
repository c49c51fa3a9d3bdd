# SPDX-License-Identifier: Apache-2.0
"""Records of every inference and of every label that a reader submitted.

``records.sqlite``, or a database server, holds the records, ``masks/`` the inferred masks and
``labels/`` the submitted ones; all of it may hold patient data, so the folder is readable by its
owner only.
"""

from __future__ import annotations

from monailabel_app.common.extras import needs_extra

with needs_extra("sqlalchemy", "monailabel"), needs_extra("alembic", "monailabel"):
    from monailabel_app.store.files import FileArchive, StoredFile
    from monailabel_app.store.pacs_queue import MadeObject, PacsQueue
    from monailabel_app.store.records import (
        Decision,
        InferenceRecord,
        JoinedBy,
        LabelRecord,
        LabelSubmission,
        Outcome,
        PacsDocument,
        PacsState,
        Target,
        TrainingLabel,
    )
    from monailabel_app.store.store import RecordStore
    from monailabel_app.store.studies import Deleted

__all__ = [
    "Decision",
    "Deleted",
    "FileArchive",
    "InferenceRecord",
    "JoinedBy",
    "LabelRecord",
    "LabelSubmission",
    "MadeObject",
    "Outcome",
    "PacsDocument",
    "PacsQueue",
    "PacsState",
    "RecordStore",
    "StoredFile",
    "Target",
    "TrainingLabel",
]
