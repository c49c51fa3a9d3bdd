# SPDX-License-Identifier: Apache-2.0
"""The header of a NRRD file, checked before a library reads it.

The format lets a header name other files to take the voxels from. So the header is parsed here,
in a stricter form than the format allows, and whatever is not of that form is refused: there is
then nothing in it that another parser could take for something else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.limits import DEFLATE_RATIO
from medreasoner_infer.imaging.text_header import (
    HEADER_BYTES,
    bare_file_name,
    detached_refused,
    not_understood,
    whole_numbers,
)

_MAGIC = re.compile(rb"NRRD000[1-5]\r?\n")
# Field identifiers: http://teem.sourceforge.net/nrrd/format.html, sections 5 and 6.
_FIELDS = frozenset(
    ("dimension", "type", "encoding", "endian", "content", "sizes", "spacings", "thicknesses",
     "axis mins", "axismins", "axis maxs", "axismaxs", "centers", "centerings", "labels", "units",
     "kinds", "number", "min", "max", "old min", "oldmin", "old max", "oldmax", "line skip",
     "lineskip", "byte skip", "byteskip", "sample units", "sampleunits", "space",
     "space dimension", "space units", "space origin", "space directions", "measurement frame")
)  # fmt: skip
_DATA_FILE = frozenset(("data file", "datafile"))
_BITS = {
    8: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t",
    16: "short|short int|signed short|signed short int|int16|int16_t|ushort|unsigned short|"
    "unsigned short int|uint16|uint16_t",
    32: "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float",
    64: "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|"
    "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t|double",
}
_BITS_OF_TYPE = {name: bits for bits, names in _BITS.items() for name in names.split("|")}
_ENCODINGS = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip",
    "txt": "text", "text": "text", "ascii": "text", "hex": "hex",
}  # fmt: skip
_SKIPS = ("line skip", "lineskip", "byte skip", "byteskip")
_MOST_AXES = 5
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class NrrdHeader:
    """What a NRRD header says of its voxels.

    Attributes:
        shape: voxels along each axis, fastest first.
        voxel_bits: bits of one value.
        encoding: ``"raw"``, ``"gzip"``, ``"text"`` or ``"hex"``.
        data_file: bare name of the file that holds the voxels, ``None`` where this one does.
        data_offset: where the voxels start in the file that holds them.
    """

    shape: tuple[int, ...]
    voxel_bits: int
    encoding: str
    data_file: str | None
    data_offset: int

    @classmethod
    def read(cls, file: BinaryIO) -> NrrdHeader:
        """Parse the header at the start of a file.

        Raises:
            UnreadableImageError: it is not of the form that is understood.
        """
        text, data_offset = _header_text(file.read(HEADER_BYTES))
        fields = _fields(text)
        data_file = _data_file(fields)
        if any(fields.get(name, "0").strip() != "0" for name in _SKIPS):
            raise not_understood("NRRD", "it skips a part of the voxels' file")
        return cls(
            shape=_shape(fields),
            voxel_bits=_one_of(_BITS_OF_TYPE, fields, "type"),
            encoding=_one_of(_ENCODINGS, fields, "encoding"),
            data_file=data_file,
            data_offset=data_offset if data_file is None else 0,
        )

    def require_attached(self) -> None:
        """Refuse a header whose voxels are in another file.

        Raises:
            UnreadableImageError: they are.
        """
        if self.data_file is not None:
            raise detached_refused("NRRD")

    @property
    def compressed(self) -> bool:
        """Whether the voxels are a gzip stream."""
        return self.encoding == "gzip"

    @property
    def packed_bytes(self) -> int:
        """The length of that stream, 0 where it goes to the end of the file."""
        return 0

    def least_bytes(self, size: int) -> int:
        """The fewest bytes of a file that ``size`` bytes of voxels can be read from."""
        if self.compressed:
            return size // DEFLATE_RATIO
        if self.encoding == "text":  # a digit and a blank each
            return 2 * (size * 8 // self.voxel_bits) - 1
        return size * (2 if self.encoding == "hex" else 1)


def is_nrrd(head: bytes) -> bool:
    """Whether these are the first bytes of a NRRD file."""
    return _MAGIC.match(head) is not None


def _header_text(head: bytes) -> tuple[bytes, int]:
    """The header's lines behind the first, and where the data starts."""
    end = re.search(rb"\n\r?\n", head)
    if end is None:
        # A detached header may end with its file.
        if len(head) >= HEADER_BYTES:
            raise not_understood("NRRD", "it has no end")
        return head.split(b"\n", 1)[1], len(head)
    return head[: end.start()].partition(b"\n")[2], end.end()


def _fields(text: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.replace(b"\r\n", b"\n").removesuffix(b"\r").split(b"\n"):
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line):
            raise not_understood("NRRD", "it holds control characters")
        name, colon, rest = line.partition(b":")
        if not line or line.startswith(b"#") or (colon and rest.startswith(b"=")):
            continue
        field = name.decode("ascii").lower()
        if field not in _FIELDS | _DATA_FILE or field in fields or not rest.startswith(b" "):
            raise not_understood("NRRD", "a line is no field, or is there twice")
        fields[field] = rest.decode("ascii", "replace").strip()
    return fields


def _data_file(fields: dict[str, str]) -> str | None:
    named = [fields[name] for name in _DATA_FILE if name in fields]
    return bare_file_name("NRRD", named[0]) if named else None


def _shape(fields: dict[str, str]) -> tuple[int, ...]:
    (axes,) = whole_numbers("NRRD", fields.get("dimension", ""))
    shape = whole_numbers("NRRD", fields.get("sizes", ""))
    if not 2 <= axes <= _MOST_AXES or len(shape) != axes:
        raise UnreadableImageError(
            f"The NRRD file has {axes} axes and names the size of {len(shape)}; expected one grey "
            "3-D image or 8-bit RGB. Export a single time point or channel."
        )
    return shape


def _one_of(known: dict[str, _Value], fields: dict[str, str], name: str) -> _Value:
    value = fields.get(name, "").lower()
    if value not in known:
        raise not_understood("NRRD", f"its {name} is none that is read")
    return known[value]
