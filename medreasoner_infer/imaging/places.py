# SPDX-License-Identifier: Apache-2.0
"""Which files may be opened: ordinary ones that lie where they are said to lie."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from medreasoner_infer.errors import UnreadableImageError


def inside(folder: Path, path: Path) -> bool:
    """Whether a file or folder lies below ``folder``, and in no hidden part of it.

    Links are followed, those in ``folder`` itself too, so that a folder of studies may be a link;
    one that leads out of it, or to what is hidden (a name that starts with a dot), does not count.
    Nothing is opened.
    """
    try:
        below = path.resolve(strict=True).relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError, ValueError):  # missing, a circle of links, elsewhere
        return False
    return not any(part.startswith(".") for part in below.parts)


def is_ordinary_file(path: Path) -> bool:
    """Whether this is a file with content, or a link to one: no pipe, device or socket."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def files_below(folder: Path) -> Iterator[Path]:
    """The files of :func:`entries_below` that may be opened.

    Raises:
        OSError: ``folder`` itself cannot be listed now, which does not mean that it is empty.
    """
    return (path for path, may_be_opened in entries_below(folder) if may_be_opened)


def entries_below(folder: Path) -> Iterator[tuple[Path, bool]]:
    """All but the folders in a folder and those within it, by name, and whether it may be opened.

    Hidden files and folders are passed over. An ordinary file may be opened, and a link to one that
    :func:`inside` allows; a link to a folder may not, nor is it followed.

    Raises:
        OSError: ``folder`` itself cannot be listed now, which does not mean that it is empty.
    """
    os.scandir(folder).close()
    for here, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        links = [name for name in subfolders if (Path(here) / name).is_symlink()]
        for path in (Path(here) / name for name in sorted((*names, *links))):
            if not path.name.startswith("."):
                may_be_opened = is_ordinary_file(path) and (
                    not path.is_symlink() or inside(folder, path)
                )
                yield path, may_be_opened


def open_file(path: Path) -> io.FileIO:
    """Open an ordinary file for reading, unbuffered; opening a pipe would wait for ever.

    Raises:
        UnreadableImageError: it is missing, may not be read, or is no ordinary file.
    """
    try:
        if is_ordinary_file(path):
            file = io.FileIO(str(path), opener=_open_without_waiting)
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return file
            file.close()
    except (OSError, ValueError) as error:
        raise UnreadableImageError(
            "The file cannot be opened. Check that it is still there and may be read."
        ) from error
    raise UnreadableImageError(
        "This is missing or no ordinary file, but a pipe, a device or a socket. Give an image file."
    )


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
