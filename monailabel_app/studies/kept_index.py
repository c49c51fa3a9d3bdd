# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's index of a folder, kept whole, and in line with the files that come and go."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from medreasoner_infer.imaging.places import inside
from monailabel_app.common.door import is_name
from monailabel_app.common.private_files import PRIVATE_FILE, private_folder
from monailabel_app.errors import StudiesWriteError
from monailabel_app.framework import (
    DataModel,
    ImageLabelModel,
    LocalDatastore,
    LocalDatastoreModel,
)
from monailabel_app.studies.index import BrokenIndexError, IndexContent, IndexFile, Stamp
from monailabel_app.studies.noticing import LookAgain, watch
from monailabel_app.studies.placing import (
    JOURNAL_NAME,
    remove_unfinished,
    take_back_interrupted,
    writing,
)

logger = logging.getLogger(__name__)

LABEL_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png")
LOCK_TIMEOUT_S = 10.0
Objects = dict[str, ImageLabelModel]


class KeptIndex(LocalDatastore):
    """The entries of a folder, safe for several threads and processes.

    Entries are never changed in place: a change makes new ones, and counts once they are written,
    so that whoever reads meanwhile sees the state before or after it.
    """

    _datastore: LocalDatastoreModel
    # Whether the folder holds nothing but what the server itself puts there.
    own_folder: ClassVar[bool] = False
    # Extensions besides those of the files that are looked for.
    more_extensions: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        datastore_path: str,
        *args: Any,
        extensions: Collection[str] = ("*.nii.gz", "*.nii"),
        auto_reload: bool = False,
        read_only: bool = False,
        **kwargs: Any,
    ) -> None:
        folder = Path(datastore_path)
        if self.own_folder:
            private_folder(folder)
        self._image_extensions = tuple(pattern.lstrip("*") for pattern in extensions)
        self._index = IndexFile(folder, (*self._image_extensions, *self.more_extensions))
        self._index.require_folder()
        self._journal = folder / JOURNAL_NAME
        self._read_only = read_only
        self._stamp: Stamp | None = None
        self._unsaved = False
        self._depth = 0
        self._counts: Callable[[Mapping[str, Any]], bool] | None = None
        self._changing = threading.RLock()
        self._between_processes = FileLock(
            folder / ".lock", timeout=LOCK_TIMEOUT_S, mode=PRIVATE_FILE, thread_local=False
        )
        if read_only:
            self._open_without_writing(datastore_path, extensions)
            return
        self._remove_unfinished(folder)
        super().__init__(
            datastore_path,
            *args,
            extensions=extensions,
            auto_reload=False,
            read_only=read_only,
            **kwargs,
        )
        if auto_reload and not self.own_folder:
            self._look_again = LookAgain(self._look_through)
            polling = self._is_on_mount(datastore_path)
            self._observer = watch(folder, self._on_change, polling=polling)

    def _open_without_writing(self, datastore_path: str, extensions: Collection[str]) -> None:
        """What MONAI Label's own start sets, without the folders that it makes and the watching."""
        self._datastore_path, self._extensions = datastore_path, extensions
        self._datastore_config_path = str(self._index.path)
        self._auto_reload = False
        self._datastore = LocalDatastoreModel(
            name="studies", description="", base_path=datastore_path, images_dir="."
        )
        self._reconcile_datastore()

    def require_folder(self) -> None:
        """Check that the studies are there.

        Raises:
            StudiesAwayError: they are not.
        """
        self._index.require_folder()

    def take_back_interrupted(self, counts: Callable[[Mapping[str, Any]], bool]) -> None:
        """Take back a change that a killed process was in the middle of, unless it counts.

        Now, and before each change: another process that shares the folder may be killed later.
        """
        self._counts = counts
        if self._read_only or not self._journal.exists():
            return
        with self._locked():
            pass
        self._remove_unfinished(self._journal.parent)
        self._reconcile_datastore()

    # --- the index -------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the threads and processes that write; may be entered again within.

        Raises:
            StudiesWriteError: the studies may only be read, or another process keeps them.
        """
        if self._read_only:
            raise StudiesWriteError(
                "The studies may only be read here, so nothing was changed. Ask the administrator "
                "for the right to write to their folder."
            )
        with self._changing:
            self._index.require_folder()
            try:
                with writing():
                    self._between_processes.acquire()
            except Timeout as error:
                raise StudiesWriteError(
                    "Another process keeps the studies locked, so nothing was changed; try again "
                    "in a moment."
                ) from error
            self._depth += 1
            try:
                if self._depth == 1:
                    self._take_back_left_behind()
                yield
            finally:
                self._depth -= 1
                self._between_processes.release()

    def _take_back_left_behind(self) -> None:
        """Whoever wrote a journal that is there before a change begins was killed."""
        if self._counts is None or not self._journal.exists():
            return
        with writing():
            take_back_interrupted(self._journal, self._counts)
        self._stamp = None
        self._reload()

    def _take_over(self) -> None:
        """Before reading: what other workers have written, where they share the folder.

        While this process changes something there is nothing to take over.
        """
        if self.own_folder and self._changing.acquire(blocking=False):
            try:
                self._reload()
            finally:
                self._changing.release()

    @contextmanager
    def _changes_in_memory(self) -> Iterator[Objects]:
        """The entries, to be replaced by others for this process alone."""
        with self._changing:
            self._reload()
            objects = dict(self._datastore.objects)
            yield objects
            self._datastore = self._datastore.model_copy(update={"objects": objects})

    @contextmanager
    def _changes(self) -> Iterator[Objects]:
        """The entries, to be replaced by others; written at the end if something has changed."""
        with self._locked():
            self._reload()
            before = self._datastore.objects
            objects = dict(before)
            yield objects
            if self._unsaved or objects != before or self._index.stamp() is None:
                self._save(objects)

    def _save(self, objects: Objects) -> None:
        model = self._datastore
        content = IndexContent(model.name, model.description, objects)
        self._stamp = self._index.write(content)
        self._datastore = model.model_copy(update={"objects": objects})
        self._unsaved = False

    def _reload(self) -> None:
        """Take over what another process has written; what cannot be read is set aside."""
        with self._changing:
            stamp = self._index.stamp()
            if stamp is None or stamp == self._stamp:
                return
            try:
                content = self._index.read()
            except BrokenIndexError as error:
                self._set_aside(f"it {error}", keep=False)
            except FileNotFoundError:
                return
            else:
                if content.faults:
                    self._set_aside("; ".join(content.faults), keep=True)
                model = self._datastore
                self._datastore = LocalDatastoreModel(
                    name=content.name or model.name,
                    description=content.description or model.description,
                    images_dir=".",
                    objects=content.objects,
                    base_path=self._datastore_path,
                )
            self._stamp = stamp

    def _set_aside(self, reason: str, *, keep: bool) -> None:
        if self._read_only:
            logger.warning("The studies' index cannot be believed: %s.", reason)
            return
        name = self._index.set_aside(keep=keep)
        self._unsaved = True
        logger.warning(
            "The studies' index cannot be believed: %s. It was set aside as %s, and is made anew "
            "from what was known and from the files.", reason, name,
        )  # fmt: skip

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        self._reload()

    def _update_datastore_file(self, lock: bool = True) -> None:
        with self._locked():
            self._save(dict(self._datastore.objects))

    # --- files that come and go ------------------------------------------------------------------

    def _reconcile_datastore(self) -> None:
        """Bring the entries in line with the files; nothing is written if they are."""
        self._index.require_folder()
        with writing():
            images, labels = self._found_images(), self._found_labels()
        changes = self._changes_in_memory() if self._read_only else self._changes()
        with changes as objects:
            for image_id in [key for key in objects if key not in images]:
                if not self._is_there(image_id, objects[image_id]):
                    del objects[image_id]
            for image_id, image in images.items():
                objects[image_id] = self._renewed(objects.get(image_id), image_id, image)
            for image_id, entry in objects.items():
                found = {tag: by_id[image_id] for tag, by_id in labels.items() if image_id in by_id}
                objects[image_id] = self._with_labels(image_id, entry, found)

    def _found_images(self) -> dict[str, DataModel]:
        """Images that lie in the folder, by id."""
        found: dict[str, DataModel] = {}
        names = _files_in(Path(self._datastore.image_path()), self._image_extensions)
        for image_id, extension in names:
            path = Path(self._datastore.image_path()) / f"{image_id}{extension}"
            if image_id not in found and self._inside(path) is not None:
                info = {"ts": int(time.time()), "name": path.name}
                found[image_id] = DataModel(info=info, ext=extension)
        return found

    def _found_labels(self) -> dict[str, dict[str, str]]:
        """Extensions of the labels that lie in the folder, by tag and image id."""
        folder = Path(self._datastore.label_path(None))
        if not folder.is_dir():
            return {}
        tags = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        return {
            path.name: dict(reversed(_files_in(path, LABEL_EXTENSIONS)))
            for path in sorted(tags)
            if is_name(path.name)
        }

    def _renewed(
        self, entry: ImageLabelModel | None, image_id: str, image: DataModel
    ) -> ImageLabelModel:
        """The entry of an image that was found; what is known of it already stays."""
        if entry is None:
            return ImageLabelModel(image=image)
        if entry.image.ext == image.ext or self._is_there(image_id, entry):
            return entry
        known = {**entry.image.info, "name": image.info["name"]}
        return ImageLabelModel(image=DataModel(info=known, ext=image.ext), labels=entry.labels)

    def _with_labels(
        self, image_id: str, entry: ImageLabelModel, found: Mapping[str, str]
    ) -> ImageLabelModel:
        labels = {
            tag: label
            for tag, label in entry.labels.items()
            if (Path(self._datastore.label_path(tag)) / f"{image_id}{label.ext}").exists()
        }
        for tag, extension in found.items():
            if tag not in labels:
                known = entry.labels[tag].info if tag in entry.labels else {}
                info = {**known, "ts": int(time.time()), "name": f"{image_id}{extension}"}
                labels[tag] = DataModel(info=info, ext=extension)
        return ImageLabelModel(image=entry.image, labels=labels)

    def _is_there(self, image_id: str, entry: ImageLabelModel) -> bool:
        name = self._filename(image_id, entry.image.ext)
        return (Path(self._datastore.image_path()) / name).exists()

    def _on_change(self, places: list[Path]) -> None:
        """What MONAI Label watches does not tell of DICOM files, nor of one that is written on."""
        is_index = places == [Path(self._index.path.name)]
        if not is_index or self._index.stamp() != self._stamp:
            self._look_again.changed()

    def _look_through(self) -> None:
        """Look through the files again; the looking thread survives whatever it meets."""
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001 - the boundary: files that come later count
            logger.error("The studies could not be looked through: %s", type(error).__name__)

    # --- small parts -----------------------------------------------------------------------------

    def _inside(self, path: Path) -> Path | None:
        """The file itself, unless it is no file or a link leads out of the studies."""
        roots = (Path(self._datastore_path), *self._more_roots())
        if not path.is_file() or not any(inside(root, path) for root in roots):
            return None
        return path.resolve()

    def _more_roots(self) -> tuple[Path, ...]:
        return ()

    def _remove_unfinished(self, folder: Path) -> None:
        with self._locked(), writing():
            if self._journal.exists():
                return  # What is kept by a second name is needed to take the change back.
            labels = folder / "labels"
            tags = [path for path in labels.iterdir() if path.is_dir()] if labels.is_dir() else []
            for place in (folder, *tags):
                remove_unfinished(place)


def _files_in(folder: Path, extensions: Iterable[str]) -> list[tuple[str, str]]:
    """Ids and extensions of the files that may be images or labels, by name.

    Of several files of one id, the one whose extension stands first comes first.
    """
    found = []
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    for place, extension in enumerate(extensions):
        for name in names:
            image_id = name.removesuffix(extension)
            if name.endswith(extension) and is_name(image_id):
                found.append((image_id, place, extension))
    return [(image_id, extension) for image_id, _, extension in sorted(found)]
