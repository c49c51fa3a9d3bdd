# SPDX-License-Identifier: Apache-2.0
"""``python -m monailabel_app.cli``: the ``medreasoner`` command without the script."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from monailabel_app.cli import main

if __name__ == "__main__":
    # Python imports from the folder where it was started; files of readers may lie there.
    here = os.getcwd()
    if not Path(__file__).resolve().is_relative_to(Path(here).resolve()):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
    main()
