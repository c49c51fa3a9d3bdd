# SPDX-License-Identifier: Apache-2.0
"""Keeping questions and identifiers out of the log.

An allow-list: what this package and uvicorn tell is logged from INFO on, all else from WARNING on.
MONAI Label logs whole requests, results, infos of labels and image ids at INFO, HTTP clients the
addresses that hold UIDs, and whatever is installed next may do likewise.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

OURS = ("monailabel_app", "medreasoner_infer", "medreasoner_training", "uvicorn.error")
LOG_NAME = "app.log"
_FORMAT = (
    "[%(asctime)s] [%(process)s] [%(threadName)s] [%(levelname)s] (%(name)s:%(lineno)d) - "
    "%(message)s"
)
_MAX_BYTES, _KEPT = 10 << 20, 10
_TASK_PROGRAM = "monailabel.interfaces.utils.app"
# Each of their loggers is set, as one may have been given a level of its own.
_TALKATIVE = ("monailabel.", "dicomweb_client", "httpx", "httpcore", "timeloop")
# Their Python warnings repeat values of a header, such as a patient's name, or names of files.
_QUOTING = ("pydicom", "highdicom", "dicomweb_client", "nibabel", "PIL", "watchdog")


def log_config(folder: Path) -> dict[str, Any]:
    """The configuration for :func:`logging.config.dictConfig`; ``folder`` holds the log."""
    file = {
        "class": "logging.handlers.RotatingFileHandler",
        "filename": str(folder / LOG_NAME),
        "maxBytes": _MAX_BYTES,
        "backupCount": _KEPT,
        "encoding": "utf-8",
        "errors": "backslashreplace",
        "formatter": "line",
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": _FORMAT}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": "line"},
            "file": file,
        },
        "root": {"level": "WARNING", "handlers": ["console", "file"]},
        "loggers": {name: {"level": "INFO"} for name in OURS},
    }


def quiet_request_logs() -> None:
    """Let all loggers but ours report warnings and errors only, and readers of files be silent.

    Where DEBUG was asked for, libraries tell more; those that log requests never do.
    """
    for name in _QUOTING:
        warnings.filterwarnings("ignore", module=rf"{name}\b")
    root = logging.getLogger()
    if root.level != logging.DEBUG:
        root.setLevel(logging.WARNING)
        for name in OURS:
            logging.getLogger(name).setLevel(logging.INFO)
    talkative = (name for name in root.manager.loggerDict if name.startswith(_TALKATIVE))
    for name in (*_TALKATIVE, *talkative, *_program_logger()):
        logging.getLogger(name.rstrip(".")).setLevel(logging.WARNING)


def _program_logger() -> tuple[str, ...]:
    """MONAI Label's batch process logs the whole outcome as its program."""
    program = getattr(sys.modules["__main__"], "__spec__", None)
    return ("__main__",) if program is not None and program.name == _TASK_PROGRAM else ()
