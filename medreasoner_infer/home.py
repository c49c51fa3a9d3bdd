# SPDX-License-Identifier: Apache-2.0
"""Where this account keeps what belongs to no study."""

from __future__ import annotations

import os
from pathlib import Path


def home_folder() -> Path:
    """``$MEDREASONER_HOME``, by default ``~/.medreasoner``."""
    return Path(os.environ.get("MEDREASONER_HOME", "~/.medreasoner")).expanduser()


def models_folder() -> Path:
    """The site's own models and what belongs to them: ``models`` in :func:`home_folder`."""
    return home_folder() / "models"
