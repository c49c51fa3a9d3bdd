# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is no failure, and a run that must be green on every machine must repeat itself.
settings.register_profile("repository", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("repository")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what fails fast first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images that are not part of the repository; a test that needs them skips without."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MEDREASONER_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(
            f"real images are absent: no folder {folder}; set MEDREASONER_SHARED_DATA to one"
        )
    return folder
