# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and that can be taken back.

What a killed process leaves unfinished bears :data:`PREFIX` and is removed at the next start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medreasoner_infer.atomic import replacing
from monailabel_app.common.private_files import PRIVATE_FILE
from monailabel_app.errors import StudiesAwayError, StudiesWriteError

PREFIX = ".medreasoner-part-"


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
def taken_back_on_fault(paths: Iterable[Path]) -> Iterator[None]:
    """Files that are as they were, or absent as they were, if the block fails.

    Taking back needs no space on the disk: the earlier files are kept by a second name.
    """
    kept = {path: _second_name(path) for path in paths}
    try:
        yield
    except BaseException:
        for path, second in kept.items():
            if second is not None:
                os.replace(second, path)
            else:
                path.unlink(missing_ok=True)
        raise
    finally:
        for second in kept.values():
            if second is not None:
                second.unlink(missing_ok=True)


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
