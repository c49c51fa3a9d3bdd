# SPDX-License-Identifier: Apache-2.0
"""``python -m monailabel_app.cli``: the ``medreasoner`` command without the script."""

from __future__ import annotations

from monailabel_app.cli import main

if __name__ == "__main__":
    main()
