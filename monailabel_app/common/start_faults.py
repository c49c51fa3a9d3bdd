# SPDX-License-Identifier: Apache-2.0
"""What keeps the app from starting, told in a sentence where MONAI Label's own start logs it."""

from __future__ import annotations

import logging
import re

_SERVER_LOG = "uvicorn.error"
_OUR_ERROR = re.compile(r"(?:monailabel_app|medreasoner_infer|medreasoner_training)[\w.]*: (.+)")


class SentenceOfTraceback(logging.Filter):
    """Puts the last line's sentence in place of a traceback that ends with an error of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record is shortened."""
        text = record.getMessage()
        if text.startswith("Traceback"):
            said = _OUR_ERROR.fullmatch(text.rstrip().rpartition("\n")[2])
            if said is not None:
                record.msg, record.args = f"The app cannot start. {said[1]}", ()
        return True


def tell_start_faults() -> None:
    """Have the server's log say why the app cannot start, once however often it is asked for."""
    logger = logging.getLogger(_SERVER_LOG)
    if not any(isinstance(known, SentenceOfTraceback) for known in logger.filters):
        logger.addFilter(SentenceOfTraceback())
