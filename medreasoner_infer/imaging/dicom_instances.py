# SPDX-License-Identifier: Apache-2.0
"""Which DICOM files make the image: one file, or one stack of one series of a folder."""

from __future__ import annotations

import filecmp
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import dicom_header as header_of
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.dicom_file import DAMAGED_HEADER, open_dicom
from medreasoner_infer.imaging.dicom_geometry import FramePlane
from medreasoner_infer.imaging.dicom_pixels import read_frames
from medreasoner_infer.imaging.formats import ImageFormat, format_of
from medreasoner_infer.imaging.limits import FileLimits
from medreasoner_infer.imaging.places import files_below

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_MOSAIC = (
    "the slices of a volume side by side in one picture (a Siemens mosaic), which have no place in "
    "the patient as they are. Convert them to NIfTI, e.g. with dcm2niix."
)


@dataclass(frozen=True)
class Instance:
    """One DICOM image file; ``planes`` is ``None`` where it has no place in the patient."""

    path: Path
    header: Dataset
    planes: list[FramePlane] | None
    repairs: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows, columns and samples per pixel."""
        header = self.header
        return int(header.Rows), int(header.Columns), int(header.get("SamplesPerPixel") or 1)

    def fits(self, other: Instance) -> bool:
        """Whether both can be slices of one volume."""
        if self.size != other.size or (self.planes is None) != (other.planes is None):
            return False
        if self.planes is None or other.planes is None:
            return True
        return self.planes[0].is_parallel(other.planes[0], self.size[:2])


def frame_total(instances: list[Instance]) -> int:
    """The number of frames in all files together."""
    return sum(header_of.frame_count(instance.header) for instance in instances)


def open_instances(
    path: Path, series_uid: str | None, limits: FileLimits
) -> tuple[list[Instance], tuple[str, ...]]:
    """The images to show, with headers only, and warnings.

    Raises:
        UnreadableImageError: there is no image, or not the series that is asked for.
    """
    if not path.is_dir():
        return [_open_file(path, limits)], ()
    found = _scan_folder(path, limits)
    chosen, warnings = _select_series(found.images, series_uid)
    return chosen, (*found.warnings(), *warnings, *_merging(chosen, found.copies))


def _open_file(path: Path, limits: FileLimits) -> Instance:
    instance = _instance(path, limits)
    kind = header_of.non_image_kind(instance.header)
    if kind is not None:
        raise UnreadableImageError(
            f"This DICOM file is a {kind}, not an image. Give the image series that it belongs to."
        )
    if header_of.is_mosaic(instance.header):
        raise UnreadableImageError(f"This DICOM file holds {_MOSAIC}")
    return instance


def _instance(path: Path, limits: FileLimits) -> Instance:
    """One file; those that are no images have no planes.

    Raises:
        UnreadableImageError: it is damaged, or claims more than it can hold.
    """
    header, repairs = open_dicom(path, limits, pixels=False)
    with reading(DAMAGED_HEADER):
        is_image = header_of.non_image_kind(header) is None
        return Instance(path, header, header_of.frame_planes(header) if is_image else None, repairs)


@dataclass
class _Found:
    """What a folder holds: images, and how many files are left out for which reason."""

    images: list[Instance] = field(default_factory=list)
    copies: list[Instance] = field(default_factory=list)
    damaged: int = 0
    mosaics: int = 0
    others: int = 0
    shared_uids: int = 0

    def add_copy(
        self, instance: Instance, twin: Instance, known: list[Instance], limits: FileLimits
    ) -> None:
        """Of a file and its copy keep the one that can be decoded, also among those ``known``."""
        if not _is_same_file(instance, twin) and not _is_decodable(twin, limits):
            for kept in (self.images, known):
                kept[kept.index(twin)] = instance
            instance = twin
        self.copies.append(instance)

    def warnings(self) -> tuple[str, ...]:
        """A sentence for each reason."""
        sentences = {
            f"{self.damaged} damaged DICOM file(s) in the folder are left out; they may belong to "
            "this series.": self.damaged,
            f"{self.mosaics} DICOM file(s) in the folder are left out: they hold {_MOSAIC}": (
                self.mosaics
            ),
            f"{self.others} image file(s) of another format in the folder are left out. To ask "
            "about one, give that file itself.": self.others,
            f"{self.shared_uids} DICOM file(s) bear the SOP Instance UID of another image. All are "
            "shown, but a result can only be stored with them in a PACS once each has its own.": (
                self.shared_uids
            ),
        }
        return tuple(sentence for sentence, count in sentences.items() if count)


def _scan_folder(folder: Path, limits: FileLimits) -> _Found:
    """All DICOM images in a folder and those within it, each once."""
    found = _Found()
    by_uid: defaultdict[str, list[Instance]] = defaultdict(list)
    for path in files_below(folder):
        try:
            kind = format_of(path)
            if kind is not ImageFormat.DICOM:
                found.others += kind is not None
                continue
            instance = _instance(path, limits)
            if header_of.non_image_kind(instance.header) is not None:
                found.damaged += header_of.is_cut_image(instance.header)
                continue
            if header_of.is_mosaic(instance.header):
                found.mosaics += 1
                continue
            known = by_uid[str(instance.header.get("SOPInstanceUID") or path)]
            # A file that was exported twice is one image.
            twin = next((other for other in known if _is_copy(instance, other, limits)), None)
            if twin is not None:
                found.add_copy(instance, twin, known, limits)
                continue
        except UnreadableImageError:
            found.damaged += 1
            continue
        found.shared_uids += bool(known)
        known.append(instance)
        found.images.append(instance)
    if not found.images:
        reasons = " ".join(found.warnings())
        raise UnreadableImageError(
            "The folder holds no DICOM image. Give a folder with the files of one series, or the "
            f"image file itself. {reasons}".rstrip()
        )
    return found


def _is_copy(instance: Instance, other: Instance, limits: FileLimits) -> bool:
    """Whether two files of one SOP Instance UID hold the same image, compressed or damaged."""
    if _is_same_file(instance, other):
        return True
    if instance.planes != other.planes or instance.size != other.size:
        return False
    if not (_is_decodable(instance, limits) and _is_decodable(other, limits)):
        return True
    mine, its = (read_frames(each.path, limits).values for each in (instance, other))
    return np.array_equal(mine, its)


def _is_same_file(instance: Instance, other: Instance) -> bool:
    return filecmp.cmp(instance.path, other.path, shallow=False)


def _is_decodable(instance: Instance, limits: FileLimits) -> bool:
    try:
        read_frames(instance.path, limits)
    except UnreadableImageError:
        return False
    return True


def _select_series(
    instances: list[Instance], series_uid: str | None
) -> tuple[list[Instance], tuple[str, ...]]:
    by_uid: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in instances:
        by_uid[_series_of(instance)].append(instance)
    if series_uid is not None and series_uid not in by_uid:
        raise UnreadableImageError(
            f"The series that was asked for is not in the folder, which holds {len(by_uid)} other "
            "series. Check the Series Instance UID."
        )
    warnings: list[str] = []
    members = (
        by_uid[series_uid] if series_uid is not None else max(by_uid.values(), key=frame_total)
    )
    if series_uid is None and len(by_uid) > 1:
        warnings.append(
            f"The folder holds {len(by_uid)} series; the one with most images ({len(members)} "
            "file(s)) is shown. Name a series to see another."
        )
    stacks = _parallel_stacks(members)
    largest = max(stacks, key=frame_total)
    if len(stacks) > 1:
        warnings.append(
            f"The series holds {len(stacks)} stacks of different size or orientation (such as "
            f"localizers); the largest, {len(largest)} of {len(members)} files, is shown."
        )
    return largest, tuple(warnings)


def _merging(chosen: list[Instance], copies: list[Instance]) -> tuple[str, ...]:
    """What the reader should know of a series whose files lie in several folders, or twice."""
    uid = _series_of(chosen[0])
    twice = sum(_series_of(copy) == uid for copy in copies)
    folders = {instance.path.parent for instance in chosen}
    studies = {str(instance.header.get("StudyInstanceUID") or "") for instance in chosen}
    sentences = {
        f"{twice} file(s) are left out: each is a copy of another file of the series.": twice,
        f"The files of the series lie in {len(folders)} folders; as they bear one Series Instance "
        f"UID, all {len(chosen)} are read as one series.": len(folders) > 1,
        f"The files of the series name {len(studies)} studies: they may be of different "
        "examinations that were given one Series Instance UID.": len(studies) > 1,
    }
    return tuple(sentence for sentence, counts in sentences.items() if counts)


def _series_of(instance: Instance) -> str:
    return str(instance.header.get("SeriesInstanceUID") or "")


def _parallel_stacks(instances: list[Instance]) -> list[list[Instance]]:
    stacks: list[list[Instance]] = []
    for instance in instances:
        fitting = next((members for members in stacks if members[0].fits(instance)), None)
        if fitting is None:
            stacks.append([instance])
        else:
            fitting.append(instance)
    return stacks
