# SPDX-License-Identifier: Apache-2.0
"""Keeping questions and identifiers out of MONAI Label's log."""

from __future__ import annotations

import logging

# These log whole requests, results, the info of saved labels, and image ids at INFO.
_TALKATIVE = (
    "monailabel.datastore",
    "monailabel.endpoints.batch_infer",
    "monailabel.endpoints.datastore",
    "monailabel.endpoints.infer",
    "monailabel.endpoints.session",
    "monailabel.endpoints.wsi_infer",
    "monailabel.interfaces.app",
    "monailabel.interfaces.tasks.batch_infer",
    "monailabel.interfaces.utils.app",
    "monailabel.utils.async_tasks",
)


def quiet_request_logs() -> None:
    """Let the modules that log requests report warnings and errors only."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
