# SPDX-License-Identifier: Apache-2.0
"""Folders of fine-tuning runs."""

from __future__ import annotations

from pathlib import Path


def make_run_folder(site: Path, name: str, config: str) -> Path:
    """A run beside the site's data set, with this ``config.yaml``."""
    folder = site / name
    folder.mkdir()
    (folder / "config.yaml").write_text(config)
    return folder
