# SPDX-License-Identifier: Apache-2.0
"""What a data set is built from: images, each with the masks of its labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medreasoner_infer.hashing import files_sha256
from medreasoner_training.dataset.errors import PairsError
from medreasoner_training.evaluation.readers.labelled import plain_name
from medreasoner_training.evaluation.readers.questions import picture_at, read_table, told_truth
from medreasoner_training.evaluation.rows import text_sha256
from medreasoner_training.licences import may_train
from medreasoner_training.samples.manifest import MANIFEST_NAME

LABEL_FILES = ("labels.csv", "labels.parquet")
NEEDED = ("image", "mask", "label")
SPLITS = ("train", "validation", "test")
#: A table's column ``label`` is read as ``category``, as in tables of questions.
_IN_TABLES = ("image", "mask", "category")
_TOLD = ("modality", "super_category", "patient", "split", "licence", "projection")


@dataclass(frozen=True)
class Pair:
    """A label's mask on an image.

    Attributes:
        label: as the folder names it; several of one image are told apart by a number.
        name: the label without that number.
        mask: file on the image's pixels.
        super_category: of the label; empty where nobody told it, as are the next ones.
        patient: pseudonym.
        split: ``train``, ``validation`` or ``test``.
        licence: of image and mask.
        may_train: whether the licence lets them be trained on; ``None`` where nobody told it.
    """

    label: str
    name: str
    mask: Path
    super_category: str
    patient: str
    split: str
    licence: str
    may_train: bool | None


@dataclass(frozen=True)
class LabelledImage:
    """An image with all of its pairs.

    Attributes:
        key: its name within the folder.
        path: its file.
        modality: in the folder's words.
        projection: ``axial``, ``coronal``, ``frontal``, ``sagittal``, ``lateral`` …, or empty.
        pairs: at least one.
    """

    key: str
    path: Path
    modality: str
    projection: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images; ``fingerprint`` is the SHA-256 of what lists and of what is listed."""

    name: str
    images: tuple[LabelledImage, ...]
    fingerprint: str


def read_pairs(folder: Path, labels: Path | None = None) -> ImageFolder:
    """Read a folder with a ``manifest.json``, or with a table of labels.

    A manifest is a list of objects, a table (``labels.csv`` or ``labels.parquet``) has columns:
    ``image``, ``mask`` and ``label``, and where they are told ``modality``, ``super_category``,
    ``patient``, ``split``, ``licence``, ``may_train`` and ``projection``.

    Args:
        folder: holds all files.
        labels: a table elsewhere.

    Raises:
        PairsError: there is neither, or an entry lacks something.
        EvaluationDataError: a table cannot be read, or names a file that is not in the folder.
        MissingExtraError: pyarrow, which reads a parquet table, is not installed.
    """
    if not folder.is_dir():
        raise PairsError(f"There is no folder {folder.name!r} of images.")
    listing = labels or next(
        (folder / n for n in (MANIFEST_NAME, *LABEL_FILES) if (folder / n).is_file()), None
    )
    if listing is None:
        raise PairsError(
            f"The folder {folder.name!r} holds no {MANIFEST_NAME} and no {LABEL_FILES[0]}; "
            f"expected one of them, with {', '.join(NEEDED)} of each mask."
        )
    entries = _manifest(listing) if listing.suffix == ".json" else read_table(listing, _IN_TABLES)
    by_image: dict[str, list[tuple[Mapping[str, str], Pair]]] = {}
    for number, entry in enumerate(map(_as_label, entries), start=1):
        by_image.setdefault(entry["image"], []).append((entry, _pair(folder, entry, number)))
    images = tuple(
        _image(folder, key, found, number)
        for number, (key, found) in enumerate(by_image.items(), start=1)
    )
    files = [file for each in images for file in (each.path, *(pair.mask for pair in each.pairs))]
    fingerprint = text_sha256(files_sha256(listing), files_sha256(*files))
    return ImageFolder(folder.resolve().name, images, fingerprint)


def _manifest(path: Path) -> list[dict[str, str]]:
    try:
        listed = json.loads(path.read_bytes())
    except ValueError as error:
        raise PairsError(f"{path.name} is damaged ({type(error).__name__}).") from error
    if not isinstance(listed, list) or not all(isinstance(each, Mapping) for each in listed):
        raise PairsError(
            f"{path.name} holds no list of objects; expected one with {', '.join(NEEDED)} for each "
            "mask."
        )
    return [{k: "" if v is None else str(v) for k, v in each.items()} for each in listed]


def _as_label(entry: Mapping[str, str]) -> dict[str, str]:
    """An entry of a table as one of a manifest."""
    return {"label": entry.get("category", ""), **entry}


def _pair(folder: Path, entry: Mapping[str, str], number: int) -> Pair:
    missing = [name for name in NEEDED if not entry.get(name)]
    if missing:
        raise PairsError(f"Entry {number} of the labels has no {' and no '.join(missing)}.")
    told = {name: entry.get(name, "").strip() for name in _TOLD}
    if told["split"] not in ("", *SPLITS):
        raise PairsError(
            f"Entry {number} of the labels is of the split {told['split'][:20]!r}; expected "
            f"{', '.join(SPLITS)} or nothing."
        )
    return Pair(
        label=entry["label"],
        name=plain_name(entry["label"]),
        mask=picture_at(folder, entry["mask"], number),
        super_category=told["super_category"],
        patient=told["patient"],
        split=told["split"],
        licence=told["licence"],
        may_train=may_train(told["licence"], told_truth(entry.get("may_train", ""), number)),
    )


def _image(
    folder: Path, key: str, found: Sequence[tuple[Mapping[str, str], Pair]], number: int
) -> LabelledImage:
    modality, projection = (
        next((entry[name] for entry, _ in found if entry.get(name)), "")
        for name in ("modality", "projection")
    )
    pairs = tuple(pair for _, pair in found)
    return LabelledImage(key, picture_at(folder, key, number), modality, projection, pairs)
