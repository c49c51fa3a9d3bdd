# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and that can be taken back.

What a killed process leaves unfinished bears :data:`PREFIX` and is removed at the next start; a
change of several files that it was in the middle of is taken back then.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medreasoner_infer.atomic import replacing, sync_folder
from monailabel_app.common.private_files import PRIVATE_FILE
from monailabel_app.errors import StudiesAwayError, StudiesWriteError

PREFIX = ".medreasoner-part-"
JOURNAL_NAME = f"{PREFIX}change.json"


@contextmanager
def writing() -> Iterator[None]:
    """Type what can go wrong while the studies are written to.

    Raises:
        StudiesAwayError: instead of a missing file or folder.
        StudiesWriteError: instead of another fault of the disk.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise StudiesAwayError(
            "The folder of the studies, or a folder in it, is not there any more, so nothing was "
            "changed. Connect it again; it is used as soon as it is back."
        ) from error
    except OSError as error:
        raise StudiesWriteError(
            f"The studies could not be written to ({error.strerror or type(error).__name__}), so "
            "they were left as they were. Check the disk space and the rights of the folder, then "
            "try again."
        ) from error


def write_whole(path: Path, content: bytes) -> os.stat_result:
    """Replace ``path`` by ``content`` such that a crash leaves the old or the new file, whole.

    Returns:
        The status of the new file.
    """
    with replacing(path, "", prefix=PREFIX, durable=True) as unfinished:
        with open(unfinished, "xb", opener=_private) as file:
            file.write(content)
        return unfinished.stat()


def copy_whole(source: Path, path: Path) -> None:
    """Copy ``source`` to ``path``, which appears whole or stays as it was."""
    with (
        replacing(path, "", prefix=PREFIX, durable=True) as unfinished,
        open(unfinished, "xb", opener=_private) as file,
        source.open("rb") as content,
    ):
        shutil.copyfileobj(content, file, 1 << 20)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE_FILE)


@contextmanager
def taken_back_on_fault(
    paths: Iterable[Path], journal: Path, about: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Files that are as they were, or absent as they were, if the block fails or is killed.

    Taking back needs no space on the disk: the earlier files are kept by a second name. One change
    at a time; one within another is part of it.

    Args:
        paths: of the files, in the journal's folder or below.
        journal: tells :func:`take_back_interrupted` what to do.
        about: what is asked then, before the change is taken back.
    """
    kept = {path: _second_name(path) for path in paths}
    is_whole = not journal.exists()
    try:
        if is_whole:
            with writing():
                _write_journal(journal, kept, about)
        yield
    except BaseException:
        for path, second in kept.items():
            _put_back(path, second)
        raise
    finally:
        if is_whole:
            _end_change(journal)
        for second in kept.values():
            if second is not None:
                second.unlink(missing_ok=True)


def take_back_interrupted(journal: Path, counts: Callable[[Mapping[str, Any]], bool]) -> None:
    """Take back the change that a killed process was in the middle of, if there is one.

    Args:
        journal: as :func:`taken_back_on_fault` was given it.
        counts: whether the change of which this is said has come to its end elsewhere, and stays.
    """
    try:
        told = json.loads(journal.read_bytes())
    except FileNotFoundError:
        return
    folder = journal.parent.resolve()
    if told["about"] is None or not counts(told["about"]):
        for name, second in told["kept"].items():
            path = folder / name
            if path.resolve().is_relative_to(folder):
                _put_back(path, None if second is None else path.with_name(second))
    _end_change(journal)


def _write_journal(
    journal: Path, kept: Mapping[Path, Path | None], about: Mapping[str, Any] | None
) -> None:
    names = {
        os.path.relpath(path, journal.parent): None if second is None else second.name
        for path, second in kept.items()
    }
    write_whole(journal, json.dumps({"kept": names, "about": about}).encode())


def _put_back(path: Path, second: Path | None) -> None:
    if second is None:
        path.unlink(missing_ok=True)
    elif second.exists():
        os.replace(second, path)


def _end_change(journal: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # the studies may be away
        journal.unlink()
        sync_folder(journal.parent)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left; call it while no other process writes there."""
    for path in folder.glob(f"{PREFIX}*"):
        if path.is_file() or path.is_symlink():
            path.unlink(missing_ok=True)


def _second_name(path: Path) -> Path | None:
    second = path.with_name(f"{PREFIX}{uuid.uuid4().hex}")
    try:
        os.link(path, second, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(path, second, follow_symlinks=False)
            return second
        return None
    return second
