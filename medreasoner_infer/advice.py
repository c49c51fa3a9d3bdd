# SPDX-License-Identifier: Apache-2.0
"""Commands that messages advise: how what is missing is installed or fetched."""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent


def install_command(extra: str | None = None) -> str:
    """``pip`` for this package, which is in no index: from the checkout that it runs from."""
    is_checkout = (_CHECKOUT / "pyproject.toml").is_file()
    source = str(_CHECKOUT) if is_checkout else "THE_WHEEL_OF_MEDREASONER"
    return f"pip install {'-e ' if is_checkout else ''}'{source}{f'[{extra}]' if extra else ''}'"


def download_command(repository: str, filename: str | None, revision: str | None) -> str:
    """Hugging Face's own client, which puts a model's weights into the local cache."""
    words = ["hf download", repository, filename, revision and f"--revision {revision}"]
    return " ".join(word for word in words if word)
