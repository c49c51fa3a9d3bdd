# SPDX-License-Identifier: Apache-2.0
"""Where Python may take code from: never from the studies, into which readers put files."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from medreasoner_infer.addresses import is_web_address

# What no process needs that answers nobody.
_SERVERS_OWN = ("MEDREASONER_TOKEN", "MEDREASONER_TOKEN_FILE")


def may_hold_code(folder: Path, studies: str | None) -> bool:
    """Whether Python may import from a folder: not if it is that of the studies, or lies in it.

    Python's own installation and this package's are allowed even there. ``studies`` is a folder, an
    address, which has none, or ``None``.
    """
    if studies is None or is_web_address(studies):
        return True
    resolved, shut = folder.resolve(), Path(studies).resolve()
    own = (Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[2])
    return not resolved.is_relative_to(shut) or (
        resolved != shut and any(resolved.is_relative_to(known.resolve()) for known in own)
    )


def keep_out_of_import_path(studies: str) -> None:
    """Take the studies out of the import path of this process and of those that it starts.

    Python also puts the working folder there for ``python -m``, and for an empty entry of
    ``PYTHONPATH``.
    """
    sys.path[:] = [entry for entry in sys.path if may_hold_code(Path(entry or "."), studies)]
    os.environ["PYTHONPATH"] = _import_path(os.environ, studies)
    if not os.environ["PYTHONPATH"]:
        del os.environ["PYTHONPATH"]


def child_environment(environment: Mapping[str, str], studies: str | None) -> dict[str, str]:
    """The environment for a process that is started here, without import paths in the studies.

    It gets no tokens, and Python does not import from its working folder (3.11 and later).
    """
    kept = {name: value for name, value in environment.items() if name not in _SERVERS_OWN}
    return {**kept, "PYTHONPATH": _import_path(environment, studies), "PYTHONSAFEPATH": "1"}


def _import_path(environment: Mapping[str, str], studies: str | None) -> str:
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    safe = [Path(entry).absolute() for entry in entries if entry]
    return os.pathsep.join(str(entry) for entry in safe if may_hold_code(entry, studies))
