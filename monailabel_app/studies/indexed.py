# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's local datastore with an index that no crash, caller or damaged file breaks."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging.places import inside
from monailabel_app.door import is_name
from monailabel_app.errors import StudiesWriteError
from monailabel_app.framework import (
    DataModel,
    DefaultLabelTag,
    ImageLabelModel,
    ImageNotFoundException,
    LabelNotFoundException,
    LocalDatastore,
    LocalDatastoreModel,
)
from monailabel_app.private_files import PRIVATE_FILE, private_folder
from monailabel_app.studies.index import (
    INDEX_NAME,
    BrokenIndexError,
    IndexContent,
    IndexFile,
    Stamp,
)
from monailabel_app.studies.infos import REVIEW, checked_info, merged, updated
from monailabel_app.studies.placing import (
    PREFIX,
    copy_whole,
    remove_unfinished,
    taken_back_on_fault,
    writing,
)

logger = logging.getLogger(__name__)

LABEL_EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png")
LOCK_TIMEOUT_S = 10.0
_FINAL = DefaultLabelTag.FINAL.value
Objects = dict[str, ImageLabelModel]


class IndexedFolder(LocalDatastore):  # type: ignore[misc]
    """A folder of images and labels, safe for several threads, and for a command beside a server.

    Entries are never changed in place: a change makes new ones, and counts once they are written,
    so that whoever reads meanwhile sees the state before or after it.
    """

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
        self._read_only = read_only
        self._stamp: Stamp | None = None
        self._unsaved = False
        self._changing = threading.RLock()
        self._between_processes = FileLock(
            folder / ".lock", timeout=LOCK_TIMEOUT_S, mode=PRIVATE_FILE, thread_local=False
        )
        if not read_only:
            self._remove_unfinished(folder)
        super().__init__(
            datastore_path,
            *args,
            extensions=extensions,
            auto_reload=auto_reload,
            read_only=read_only,
            **kwargs,
        )
        if auto_reload:
            self._handler.on_moved = self._on_any_event

    # --- what is there ---------------------------------------------------------------------------

    def image_file(self, image_id: str) -> Path | None:
        """The file of an image, if it is listed and lies inside the studies."""
        entry = self._datastore.objects.get(image_id)
        if entry is None:
            return None
        name = self._filename(image_id, entry.image.ext)
        return self._inside(Path(self._datastore.image_path()) / name)

    def label_file(self, image_id: str, tag: str) -> Path | None:
        """The file of a label, if it is listed and lies inside the studies."""
        label = self._datastore.label(image_id, tag)
        if label is None:
            return None
        return self._inside(Path(self._datastore.label_path(tag)) / f"{image_id}{label.ext}")

    def get_image_uri(self, image_id: str) -> str:
        """The file of an image, empty if there is none."""
        return str(self.image_file(image_id) or "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """The file of a label, empty if there is none."""
        return str(self.label_file(label_id, _text(label_tag)) or "")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is known of an image, the server's word before the callers'."""
        entry = self._datastore.objects.get(image_id)
        if entry is None:
            return {}
        return {**merged(entry.image.info), "path": self.get_image_uri(image_id)}

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known of a label, the server's word before the callers'."""
        label = self._datastore.label(label_id, _text(label_tag))
        return {} if label is None else merged(label.info)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """The files of images that have a final label, and of those labels.

        Args:
            full_path: absolute paths; else names as seen from the folder of the studies.
        """
        root = Path(self._datastore_path).resolve()
        files = [
            (self.image_file(image_id), self.label_file(image_id, _FINAL))
            for image_id in self._datastore.filter_by_tag(_FINAL)
        ]
        return [
            {
                "image": str(image if full_path else _as_seen_from(root, image)),
                "label": str(label if full_path else _as_seen_from(root, label)),
            }
            for image, label in files
            if image is not None and label is not None
        ]

    def json(self) -> dict[str, Any]:
        """All entries as viewers read them."""
        shown = {key: _shown(entry) for key, entry in self._datastore.objects.items()}
        model = self._datastore.model_copy(update={"objects": shown})
        fields: dict[str, Any] = model.model_dump(exclude={"base_path"})
        return fields

    def status(self) -> dict[str, Any]:
        """MONAI Label's counts, and the names of broken indexes that were set aside."""
        counts: dict[str, Any] = super().status()
        return {**counts, "broken_indexes": self._index.broken_files()}

    def require_folder(self) -> None:
        """Check that the studies are there.

        Raises:
            StudiesAwayError: they are not.
        """
        self._index.require_folder()

    # --- changes ---------------------------------------------------------------------------------

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any]) -> str:
        """Copy a file in as the image of that id; its extension must be one of an image.

        Raises:
            InputError: the extension is of no image, or the info cannot be kept.
            StudiesWriteError, StudiesAwayError: it cannot be written; nothing was changed.
        """
        extension = _extension(image_filename, self._image_extensions)
        image_id = image_id or os.path.basename(image_filename).removesuffix(extension)
        name = self._filename(image_id, extension)
        if not is_name(image_id) or not is_name(name):
            raise InputError("The image's id cannot be used; expected a name, which is no path.")
        info = checked_info({**(image_info or {}), "ts": int(time.time()), "name": name})
        target = Path(self._datastore.image_path()) / name
        with self._locked(), writing(), taken_back_on_fault([target]):
            copy_whole(Path(image_filename), target)
            with self._changes() as objects:
                objects[image_id] = ImageLabelModel(image=DataModel(info=info, ext=extension))
        return image_id

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]
    ) -> str:
        """Copy a file in as the image's label of that tag, in place of an earlier one.

        Raises:
            ImageNotFoundException: there is no such image.
            InputError: tag, extension or info cannot be used.
            StudiesWriteError, StudiesAwayError: it cannot be written; nothing was changed.
        """
        tag = _text(label_tag)
        if not is_name(tag):
            raise InputError("The label's tag cannot be used; expected a name, which is no path.")
        extension = _extension(label_filename, LABEL_EXTENSIONS)
        name = f"{image_id}{extension}"
        if not is_name(name):
            raise InputError("The image's id is too long for a label's file; use a shorter one.")
        info = checked_info({**(label_info or {}), "ts": int(time.time()), "name": name})
        with self.label_taken_back_on_fault(image_id, tag):
            self._without_review(image_id, tag)
            with writing():
                copy_whole(Path(label_filename), self._label_folder(tag) / name)
                with self._changes() as objects:
                    label = DataModel(info=info, ext=extension)
                    objects[image_id] = _with_label(_entry(objects, image_id), tag, label)
                for other in self._label_paths(image_id, tag):
                    if other.name != name:
                        other.unlink(missing_ok=True)
        return image_id

    def remove_image(self, image_id: str) -> None:
        """Remove an image and its labels.

        Raises:
            ImageNotFoundException: there is no such image.
            StudiesWriteError, StudiesAwayError: it cannot be removed.
        """
        with self._locked(), writing():
            entry = _entry(self._datastore.objects, image_id)
            image = Path(self._datastore.image_path()) / self._filename(image_id, entry.image.ext)
            labels = [path for tag in entry.labels for path in self._label_paths(image_id, tag)]
            for path in (*labels, image):
                path.unlink(missing_ok=True)
            with self._changes() as objects:
                objects.pop(image_id, None)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label.

        Raises:
            LabelNotFoundException: there is no such label.
            StudiesWriteError, StudiesAwayError: it cannot be removed.
        """
        tag = _text(label_tag)
        with self._locked(), writing():
            self._label(label_id, tag)
            for path in self._label_paths(label_id, tag):
                path.unlink(missing_ok=True)
            with self._changes() as objects:
                objects[label_id] = _with_label(_entry(objects, label_id), tag, None)

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """Change keys of an image's info; this is the server's own word.

        Raises:
            ImageNotFoundException: there is no such image.
            InputError: the info cannot be kept.
            StudiesWriteError, StudiesAwayError: it cannot be written; nothing was changed.
        """
        with self._changes() as objects:
            entry = _entry(objects, image_id)
            changed = checked_info(updated(entry.image.info, info))
            image = DataModel(info=changed, ext=entry.image.ext)
            objects[image_id] = ImageLabelModel(image=image, labels=entry.labels)

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        """Change keys of a label's info; this is the server's own word.

        Raises:
            LabelNotFoundException: there is no such label.
            InputError: the info cannot be kept.
            StudiesWriteError, StudiesAwayError: it cannot be written; nothing was changed.
        """
        tag = _text(label_tag)
        with self._changes() as objects:
            label = self._label(label_id, tag)
            changed = DataModel(info=checked_info(updated(label.info, info)), ext=label.ext)
            objects[label_id] = _with_label(objects[label_id], tag, changed)

    @contextmanager
    def label_taken_back_on_fault(self, image_id: str, tag: str) -> Iterator[None]:
        """Whatever the block does to a label, it is as before if the block fails.

        Raises:
            ImageNotFoundException: there is no such image.
            StudiesWriteError, StudiesAwayError: the studies cannot be written to.
        """
        with self._locked():
            self._reload()
            _entry(self._datastore.objects, image_id)
            with writing():
                folder = self._label_folder(tag)
            paths = [folder / f"{image_id}{extension}" for extension in LABEL_EXTENSIONS]
            try:
                with taken_back_on_fault([*paths, self._index.path]):
                    yield
            except BaseException:
                self._stamp = None
                self._reload()
                raise

    # --- the index -------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the threads and processes that write; may be entered again within."""
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
            try:
                yield
            finally:
                self._between_processes.release()

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
        with self._changes() as objects:
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

    def _on_any_event(self, event: Any) -> None:
        """Look through the files again; the watching thread survives whatever it meets."""
        if PREFIX in event.src_path or self._is_own_write(event):
            return
        try:
            self.refresh()
        except Exception as error:  # noqa: BLE001 - the boundary: the thread must go on
            logger.error("The studies could not be looked through: %s", type(error).__name__)

    def _on_modify_event(self, event: Any) -> None:
        if event.src_path == self._datastore_config_path:
            self._on_any_event(event)

    def _is_own_write(self, event: Any) -> bool:
        places = (event.src_path, getattr(event, "dest_path", ""))
        return self._datastore_config_path in places and self._index.stamp() == self._stamp

    # --- small parts -----------------------------------------------------------------------------

    def _inside(self, path: Path) -> Path | None:
        """The file itself, unless it is no file or a link leads out of the studies."""
        roots = (Path(self._datastore_path), *self._more_roots())
        if not path.is_file() or not any(inside(root, path) for root in roots):
            return None
        return path.resolve()

    def _more_roots(self) -> tuple[Path, ...]:
        return ()

    def _label(self, image_id: str, tag: str) -> DataModel:
        label: DataModel | None = self._datastore.label(image_id, tag)
        if label is None:
            raise LabelNotFoundException(f"No label with the tag {tag!r}")
        return label

    def _label_folder(self, tag: str) -> Path:
        folder = Path(self._datastore.label_path(tag))
        folder.mkdir(exist_ok=True)
        return folder

    def _label_paths(self, image_id: str, tag: str) -> list[Path]:
        folder = Path(self._datastore.label_path(tag))
        label = self._datastore.label(image_id, tag)
        own = () if label is None else (label.ext,)
        paths = [folder / f"{image_id}{e}" for e in dict.fromkeys((*own, *LABEL_EXTENSIONS))]
        return [path for path in paths if path.exists() or path.is_symlink()]

    def _without_review(self, image_id: str, tag: str) -> None:
        """Drop what a reviewer said of the label before: a crash must not lend it to the new."""
        label = self._datastore.label(image_id, tag)
        if label is None or REVIEW not in label.info:
            return
        with self._changes() as objects:
            info = {key: value for key, value in label.info.items() if key != REVIEW}
            unreviewed = DataModel(info=info, ext=label.ext)
            objects[image_id] = _with_label(objects[image_id], tag, unreviewed)

    def _remove_unfinished(self, folder: Path) -> None:
        with self._locked(), writing():
            labels = folder / "labels"
            tags = [path for path in labels.iterdir() if path.is_dir()] if labels.is_dir() else []
            for place in (folder, *tags):
                remove_unfinished(place)


def _shown(entry: ImageLabelModel) -> ImageLabelModel:
    labels = {t: DataModel(info=merged(d.info), ext=d.ext) for t, d in entry.labels.items()}
    image = DataModel(info=merged(entry.image.info), ext=entry.image.ext)
    return ImageLabelModel(image=image, labels=labels)


def _with_label(entry: ImageLabelModel, tag: str, label: DataModel | None) -> ImageLabelModel:
    labels = {known: data for known, data in entry.labels.items() if known != tag}
    if label is not None:
        labels[tag] = label
    return ImageLabelModel(image=entry.image, labels=labels)


def _entry(objects: Mapping[str, ImageLabelModel], image_id: str) -> ImageLabelModel:
    entry = objects.get(image_id)
    if entry is None:
        raise ImageNotFoundException("The studies hold no image of this id")
    return entry


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


def _extension(filename: str, allowed: Iterable[str]) -> str:
    for extension in allowed:
        if filename.endswith(extension):
            return extension
    raise InputError("The file is of a format that the studies do not take.")


def _as_seen_from(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _text(tag: Any) -> str:
    return str(getattr(tag, "value", tag))


__all__ = ["INDEX_NAME", "LABEL_EXTENSIONS", "IndexedFolder"]
