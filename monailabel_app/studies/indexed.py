# SPDX-License-Identifier: Apache-2.0
"""A folder of images and labels as MONAI Label's local datastore: reading and changing it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medreasoner_infer.errors import InputError
from monailabel_app.common.door import is_name
from monailabel_app.framework import (
    DataModel,
    DefaultLabelTag,
    ImageLabelModel,
    ImageNotFoundException,
    LabelNotFoundException,
)
from monailabel_app.studies.infos import REVIEW, checked_info, merged, updated
from monailabel_app.studies.kept_index import LABEL_EXTENSIONS, KeptIndex
from monailabel_app.studies.placing import copy_whole, taken_back_on_fault, writing
from monailabel_app.studies.set_aside import SetAside, told

_FINAL = DefaultLabelTag.FINAL.value


class IndexedFolder(KeptIndex):
    """What lies in a folder of images and labels; a change is made whole or not at all."""

    # --- what is there ---------------------------------------------------------------------------

    def image_file(self, image_id: str) -> Path | None:
        """The file of an image, if it is listed and lies inside the studies."""
        self._take_over()
        entry = self._datastore.objects.get(image_id)
        if entry is None:
            return None
        name = self._filename(image_id, entry.image.ext)
        return self._inside(Path(self._datastore.image_path()) / name)

    def label_file(self, image_id: str, tag: str) -> Path | None:
        """The file of a label, if it is listed and lies inside the studies."""
        self._take_over()
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
        self._take_over()
        entry = self._datastore.objects.get(image_id)
        if entry is None:
            return {}
        return {**merged(entry.image.info), "path": self.get_image_uri(image_id)}

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known of a label, the server's word before the callers'."""
        self._take_over()
        label = self._datastore.label(label_id, _text(label_tag))
        return {} if label is None else merged(label.info)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """The files of images that have a final label, and of those labels.

        Args:
            full_path: absolute paths; else names as seen from the folder of the studies.
        """
        self._take_over()
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
        self._take_over()
        shown = {key: _shown(entry) for key, entry in self._datastore.objects.items()}
        model = self._datastore.model_copy(update={"objects": shown})
        fields: dict[str, Any] = model.model_dump(exclude={"base_path"})
        return fields

    def status(self) -> dict[str, Any]:
        """MONAI Label's counts, and the names of what was set aside, broken indexes among it."""
        counts: dict[str, Any] = super().status()
        return {**counts, "broken_indexes": self._index.broken_files(), **told(self.set_aside())}

    def set_aside(self) -> tuple[SetAside, ...]:
        """What is not offered, and why."""
        return ()

    def get_labeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        """Ids of the images that have a label, as MONAI Label's."""
        self._take_over()
        found: list[str] = super().get_labeled_images(label_tag, labels)
        return found

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
        with self._locked(), writing(), taken_back_on_fault([target], self._journal):
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
    def label_taken_back_on_fault(
        self, image_id: str, tag: str, about: Mapping[str, Any] | None = None
    ) -> Iterator[None]:
        """Whatever the block does to a label, it is as before if the block fails.

        Where it is killed, the label is as before at the next start, unless what ``about`` says is
        recorded (:meth:`take_back_interrupted`).

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
                with taken_back_on_fault([*paths, self._index.path], self._journal, about):
                    yield
            except BaseException:
                self._stamp = None
                self._reload()
                raise

    # --- small parts -----------------------------------------------------------------------------

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


def _extension(filename: str, allowed: Iterable[str]) -> str:
    for extension in allowed:
        if filename.endswith(extension):
            return extension
    raise InputError("The file is of a format that the studies do not take.")


def _as_seen_from(root: Path, path: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _text(tag: Any) -> str:
    return str(getattr(tag, "value", tag))
