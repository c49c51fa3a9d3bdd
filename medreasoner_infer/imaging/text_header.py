# SPDX-License-Identifier: Apache-2.0
"""What the text headers of NRRD and MetaImage files say, and what is shared in reading them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.limits import DEFLATE_RATIO

HEADER_BYTES = 1 << 20
_REAL = r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,25})?|\.[0-9]{1,25})(?:[eE][+-]?[0-9]{1,3})?"
_REALS = re.compile(rf"{_REAL}(?:\s+{_REAL})*")
_WHOLE = re.compile(r"-?\d{1,18}")
# No folder, no list, nothing hidden. The name is taken as it is: "%d" in it stands for no numbers.
_BARE_NAME = re.compile(
    r"(?!(?:LIST(?:\s+\d+D?)?|LOCAL)$)[^\s.][^\x00-\x1f\x7f/\\]*", re.IGNORECASE
)


class Encoding(Enum):
    """How the voxels are written, by NRRD's names; a gzip stream may be a zlib one in MetaImage."""

    RAW = "raw"
    DEFLATE = "gzip"
    TEXT = "text"
    HEX = "hex"


@dataclass(frozen=True)
class TextHeader:
    """What a header says of the voxels.

    Attributes:
        kind: the format's name.
        shape: values along each axis, fastest first.
        voxel_bits: bits of one value.
        encoding: how the values are written.
        data_file: bare name of the file that holds the voxels, ``None`` where this one does.
        data_offset: where the voxels start in the file that holds them.
        written_anew: a header that says the same, to be followed by the voxels.
        spacing_known: whether it gives the distances of the voxels.
        packed_bytes: the length of a packed stream, 0 where it goes to the end of the file.
        other_unit: it gives lengths in another unit than millimetres. No library heeds that, so
            the grid stays as others see it, and nothing is measured by it.
    """

    kind: str
    shape: tuple[int, ...]
    voxel_bits: int
    encoding: Encoding
    data_file: str | None
    data_offset: int
    written_anew: bytes
    spacing_known: bool
    packed_bytes: int = 0
    other_unit: bool = False

    @property
    def compressed(self) -> bool:
        """Whether the voxels are a gzip or zlib stream."""
        return self.encoding is Encoding.DEFLATE

    def require_attached(self) -> None:
        """Refuse a header whose voxels are in another file.

        Raises:
            UnreadableImageError: they are.
        """
        if self.data_file is not None:
            raise detached_refused(self.kind)

    def least_bytes(self, size: int) -> int:
        """The fewest bytes of a file that ``size`` bytes of voxels can be read from."""
        if self.compressed:
            return max(size // DEFLATE_RATIO, self.packed_bytes)
        if self.encoding is Encoding.TEXT:  # a digit and a blank each
            return 2 * (size * 8 // self.voxel_bits) - 1
        return size * (2 if self.encoding is Encoding.HEX else 1)


def whole_numbers(kind: str, text: str) -> tuple[int, ...]:
    """Whole numbers with blanks between them.

    Raises:
        UnreadableImageError: there are others, or none.
    """
    words = text.split()
    if not words or not all(_WHOLE.fullmatch(word) for word in words):
        raise not_understood(kind, "a size is missing or no whole number")
    return tuple(int(word) for word in words)


def reals(kind: str, text: str, count: int) -> tuple[float, ...]:
    """``count`` real numbers with blanks between them.

    Raises:
        UnreadableImageError: there are others, or another number of them.
    """
    words = text.split()
    if len(words) != count or _REALS.fullmatch(text.strip()) is None:
        raise not_understood(kind, "its geometry is not written as it should be")
    return tuple(float(word) for word in words)


def written(numbers: Iterable[float]) -> str:
    """Numbers as both formats write them, without loss."""
    return " ".join(repr(float(number)) for number in numbers)


def bare_file_name(kind: str, name: str) -> str:
    """A name of one file in the same folder, as it is.

    Raises:
        UnreadableImageError: it is a path or a list.
    """
    if len(name) > 255 or _BARE_NAME.fullmatch(name) is None:
        raise detached_refused(kind)
    return name


def detached_refused(kind: str) -> UnreadableImageError:
    """Why a header that names other files is not followed."""
    return UnreadableImageError(
        f"The {kind} file takes its voxels from another file, which is read only from the command "
        "line, beside a .nhdr or .mhd file and by a bare name. Save the image as one file."
    )


def not_understood(kind: str, why: str) -> UnreadableImageError:
    """Why a header is refused."""
    return UnreadableImageError(
        f"The {kind} file cannot be read ({why}): it is damaged, or the file with its pixels is "
        "missing beside it, or its header is of a form that is not read. Export the image again."
    )
