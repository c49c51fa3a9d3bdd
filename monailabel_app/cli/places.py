# SPDX-License-Identifier: Apache-2.0
"""Files and folders that commands are given: whether they can be used is told before any work."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from medreasoner_infer.earlier_files import WouldReplaceError, require_replaceable

_PROBE_BYTES = 4096
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that this command did not make.")
]


class NamedPlaces(TyperCommand):
    """A command that refuses an empty text for a path, as an unset variable of a shell gives it.

    Once it is a path, an empty text is the folder in which the command was started.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments; as any command does otherwise.

        Raises:
            typer.BadParameter: a path is empty.
        """
        written, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        rest = super().parse_args(ctx, args)
        for parameter in self.params:
            name = parameter.name or ""
            if written.get(name) == "" and isinstance(ctx.params.get(name), Path):
                said = "it is empty; give a path (. is the folder in which you are)"
                raise typer.BadParameter(said, ctx=ctx, param_hint=parameter.opts[-1])
        return rest


def usable_folder(folder: Path | None) -> Path | None:
    """Check, before any work, that results can be written into a folder or that it can be made.

    Raises:
        typer.BadParameter: they cannot.
    """
    if folder is None:
        return None
    places = (folder.absolute(), *folder.absolute().parents)
    missing = list(itertools.takewhile(lambda place: not os.path.lexists(place), places))
    there = places[len(missing)]
    if not os.path.isdir(there):
        raise typer.BadParameter(f"{there} is no folder; give the name of one")
    _try_to_write(folder, missing, folder)
    return folder


def usable_file(file: Path | None) -> Path | None:
    """Check, before any work, that a file can be written: its folder is there, it is no device.

    Raises:
        typer.BadParameter: it cannot.
    """
    if file is None:
        return None
    if os.path.isdir(file):
        raise typer.BadParameter(f"{file} is a folder; give the name of a file")
    if os.path.exists(file) and not os.path.isfile(file):
        raise typer.BadParameter(f"{file} is no ordinary file; give the name of one")
    folder = file.absolute().parent
    if not os.path.isdir(folder):
        raise typer.BadParameter(f"there is no folder {folder} for it; make it first")
    _try_to_write(folder, [], file)
    return file


def replaceable(
    file: Path | None, option: str, overwrite: bool, is_ours: Callable[[Path], bool] | None = None
) -> None:
    """Check, before any work, that nobody else's file would be replaced.

    Args:
        file: that will be written.
        option: that names it.
        overwrite: whether that was asked for.
        is_ours: whether a file is one that the same command makes anew; without it none is.

    Raises:
        typer.BadParameter: a file is there that the command did not make, or that cannot be read.
    """
    if file is None:
        return
    try:
        require_replaceable(file, is_ours, overwrite=overwrite)
    except WouldReplaceError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def replaceable_in(
    folder: Path, names: Iterable[str], overwrite: bool, is_ours: Callable[[Path], bool]
) -> None:
    """Check, before any work, that a folder holds no files of these names of somebody else.

    Args:
        folder: that will be written into.
        names: of the files.
        overwrite: whether the replacement was asked for.
        is_ours: whether the first of them is one that the same command makes anew; the others are
            then its own as well.

    Raises:
        typer.BadParameter: a file is there that the command did not make, or that cannot be read.
    """
    mark, *others = (folder / name for name in names)
    replaceable(mark, "--out", overwrite, is_ours)
    for file in others:
        replaceable(file, "--out", overwrite, lambda _: mark.is_file())


def replaceable_answers(folder: Path | None, overwrite: bool) -> None:
    """Check, before any work, that a folder for answers holds no such files of somebody else.

    Raises:
        typer.BadParameter: one is named as an answer's files are, and no answer lies beside it.
    """
    if folder is None:
        return
    from medreasoner_infer.output import foreign_files

    for file in foreign_files(folder):
        replaceable(file, "--out", overwrite)


def folder_of_records(folder: Path | None) -> Path | None:
    """Check that the records that are to be read are there; a mistyped folder is not made.

    Raises:
        typer.BadParameter: they are not.
    """
    if folder is not None and not os.path.isdir(folder):
        raise typer.BadParameter(f"there is no folder {folder}; give the one of the app's records")
    return folder


def _try_to_write(folder: Path, missing: list[Path], named: Path) -> None:
    """Make a folder, write something, and leave all as it was.

    Args:
        folder: to write into.
        missing: what of it is not there, the innermost first.
        named: what the caller named: the folder, or a file in it.

    Raises:
        typer.BadParameter: the system does not let it.
    """
    made: list[Path] = []
    try:
        for place in reversed(missing):
            place.mkdir()
            made.insert(0, place)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
        if named.name:
            # Files and folders are written beside their place under such a name.
            with suppress(FileNotFoundError):
                named.with_name(f".{named.name}.unfinished").lstat()
    except OSError as error:
        raise typer.BadParameter(
            f"{named} cannot be written ({error.strerror}); give another place"
        ) from error
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()
