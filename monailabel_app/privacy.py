# SPDX-License-Identifier: Apache-2.0
"""Keeping questions and identifiers out of MONAI Label's log."""

from __future__ import annotations

import logging
import sys

# These log whole requests, results, the info of saved labels, and image ids at INFO.
_TALKATIVE = (
    "dicomweb_client",
    "monailabel.datastore",
    "monailabel.endpoints.batch_infer",
    "monailabel.endpoints.datastore",
    "monailabel.endpoints.infer",
    "monailabel.endpoints.session",
    "monailabel.endpoints.wsi_infer",
    "monailabel.interfaces.app",
    "monailabel.interfaces.tasks.batch_infer",
    "monailabel.utils.async_tasks",
)
# Runs as the program of a training or batch process, and logs the whole outcome.
_TASK_PROGRAM = "monailabel.interfaces.utils.app"


def quiet_request_logs() -> None:
    """Let the modules that log requests report warnings and errors only."""
    names = (*_TALKATIVE, _TASK_PROGRAM, *_program_logger())
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)


def is_task_program() -> bool:
    """Whether this process is one that MONAI Label started for a training or a batch."""
    program = getattr(sys.modules["__main__"], "__spec__", None)
    return program is not None and program.name == _TASK_PROGRAM


def _program_logger() -> tuple[str, ...]:
    return ("__main__",) if is_task_program() else ()
