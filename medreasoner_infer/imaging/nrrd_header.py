# SPDX-License-Identifier: Apache-2.0
"""The header of a NRRD file, checked before a library reads it.

The format lets a header name other files to take the voxels from. So the header is parsed here,
in a stricter form than the format allows, and whatever is not of that form is refused. The library
that reads the voxels copies what it cannot parse into buffers of fixed length; so it is given a
header that is written anew, of the values that were understood here.
"""

from __future__ import annotations

import re
from typing import BinaryIO, TypeVar

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.text_header import (
    HEADER_BYTES,
    Encoding,
    TextHeader,
    bare_file_name,
    not_understood,
    reals,
    whole_numbers,
    written,
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
    "raw": Encoding.RAW, "gz": Encoding.DEFLATE, "gzip": Encoding.DEFLATE,
    "txt": Encoding.TEXT, "text": Encoding.TEXT, "ascii": Encoding.TEXT, "hex": Encoding.HEX,
}  # fmt: skip
_SKIPS = ("line skip", "lineskip", "byte skip", "byteskip")
_MOST_AXES = 5
_SPACES = {
    "right-anterior-superior": 3, "ras": 3, "left-anterior-superior": 3, "las": 3,
    "left-posterior-superior": 3, "lps": 3, "scanner-xyz": 3, "3d-right-handed": 3,
    "3d-left-handed": 3, "right-anterior-superior-time": 4, "rast": 4,
    "left-anterior-superior-time": 4, "last": 4, "left-posterior-superior-time": 4, "lpst": 4,
    "scanner-xyz-time": 4, "3d-right-handed-time": 4, "3d-left-handed-time": 4,
}  # fmt: skip
_KINDS = frozenset(
    ("domain", "space", "time", "list", "point", "vector", "covariant-vector", "normal", "stub",
     "scalar", "complex", "2-vector", "3-color", "rgb-color", "hsv-color", "xyz-color", "4-color",
     "rgba-color", "3-vector", "3-gradient", "3-normal", "4-vector", "quaternion", "none", "???",
     "2d-symmetric-matrix", "2d-masked-symmetric-matrix", "2d-matrix", "2d-masked-matrix",
     "3d-symmetric-matrix", "3d-masked-symmetric-matrix", "3d-matrix", "3d-masked-matrix")
)  # fmt: skip
_VECTORS = re.compile(r"\(([^()]*)\)|(none)")
# As programs write them; a unit that is none of these may be of time or of values.
_OTHER_UNITS = frozenset(
    ("m", "meter", "meters", "cm", "centimeter", "centimeters", "um", "\u00b5m", "\u03bcm",
     "micron", "microns", "micrometer", "micrometers", "nm", "nanometer", "nanometers", "in",
     "inch", "inches")
)  # fmt: skip
_Value = TypeVar("_Value")


def read_nrrd_header(file: BinaryIO) -> TextHeader:
    """Parse the header at the start of a NRRD file.

    Raises:
        UnreadableImageError: it is not of the form that is understood.
    """
    text, data_offset = _header_text(file.read(HEADER_BYTES))
    fields = _fields(text)
    data_file = _data_file(fields)
    if any(fields.get(name, "0").strip() != "0" for name in _SKIPS):
        raise not_understood("NRRD", "it skips a part of the voxels' file")
    shape = _shape(fields)
    voxel_bits = _one_of(_BITS_OF_TYPE, fields, "type")
    encoding = _one_of(_ENCODINGS, fields, "encoding")
    lines = [
        "NRRD0005",
        f"type: {fields['type'].lower()}",
        f"dimension: {len(shape)}",
        f"sizes: {' '.join(map(str, shape))}",
        f"encoding: {encoding.value}",
        *_endian(fields, voxel_bits, encoding),
        *_kinds(fields, shape),
        *_geometry(fields, len(shape)),
    ]
    return TextHeader(
        kind="NRRD",
        shape=shape,
        voxel_bits=voxel_bits,
        encoding=encoding,
        data_file=data_file,
        data_offset=data_offset if data_file is None else 0,
        written_anew="\n".join([*lines, "", ""]).encode("ascii"),
        spacing_known="space directions" in fields or "spacings" in fields,
        other_unit=_has_other_unit(fields),
    )


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
        fields[field] = rest.decode("utf-8", "surrogateescape").strip()
    return fields


def _data_file(fields: dict[str, str]) -> str | None:
    named = [fields[name] for name in _DATA_FILE if name in fields]
    return bare_file_name("NRRD", named[0]) if named else None


def _shape(fields: dict[str, str]) -> tuple[int, ...]:
    axes = whole_numbers("NRRD", fields.get("dimension", ""))[0]
    shape = whole_numbers("NRRD", fields.get("sizes", ""))
    if not 2 <= axes <= _MOST_AXES or len(shape) != axes:
        raise UnreadableImageError(
            f"The NRRD file has {axes} axes and names the size of {len(shape)}; expected one grey "
            "3-D image or 8-bit RGB. Export a single time point or channel."
        )
    return shape


def _endian(fields: dict[str, str], voxel_bits: int, encoding: Encoding) -> list[str]:
    if voxel_bits == 8 or encoding is Encoding.TEXT:
        return []
    return [f"endian: {_one_of({'little': 'little', 'big': 'big'}, fields, 'endian')}"]


def _kinds(fields: dict[str, str], shape: tuple[int, ...]) -> list[str]:
    """Which axes hold channels; the format compares without case.

    Raises:
        UnreadableImageError: they are unknown, or one is a list of images.
    """
    kinds = fields.get("kinds", "").split()
    if not kinds:
        return []
    if len(kinds) != len(shape) or not {kind.lower() for kind in kinds} <= _KINDS:
        raise not_understood("NRRD", "the kinds of its axes are none that are read")
    listed = [length for kind, length in zip(kinds, shape, strict=True) if kind.lower() == "list"]
    if any(length > 1 for length in listed):
        raise UnreadableImageError(
            f"The NRRD file holds a list of {listed[0]} images. Export one of them by itself."
        )
    return [f"kinds: {' '.join(kinds)}"]


def _geometry(fields: dict[str, str], axes: int) -> list[str]:
    """Space, directions and origin, or spacings alone."""
    space, lines = 0, []
    if "space" in fields:
        space = _one_of(_SPACES, fields, "space")
        lines.append(f"space: {fields['space'].lower()}")
    elif "space dimension" in fields:
        (space,) = whole_numbers("NRRD", fields["space dimension"])[:1]
        lines.append(f"space dimension: {space}")
    if "space directions" in fields:
        lines.append(f"space directions: {_vectors(fields['space directions'], axes, space)}")
    elif "spacings" in fields:
        lines.append(f"spacings: {_spacings(fields['spacings'], axes)}")
    if "space origin" in fields:
        lines.append(f"space origin: {_vectors(fields['space origin'], 1, space)}")
    return lines


def _has_other_unit(fields: dict[str, str]) -> bool:
    """Whether an axis of space has another unit than millimetres."""
    units = re.findall(r'"([^"]*)"', fields.get("space units") or fields.get("units", ""))
    return not _OTHER_UNITS.isdisjoint(unit.strip().lower() for unit in units)


def _spacings(text: str, axes: int) -> str:
    """A number for each axis; an axis of channels has ``nan``."""
    words = text.lower().split()
    numbers = [word for word in words if word != "nan"]
    if len(words) != axes or not numbers:
        raise not_understood("NRRD", "it has not one spacing for each axis")
    reals("NRRD", " ".join(numbers), len(numbers))
    return " ".join(words)


def _vectors(text: str, count: int, length: int) -> str:
    """``count`` vectors of ``length`` numbers; an axis of channels has none."""
    found = list(_VECTORS.finditer(text))
    between = _VECTORS.sub("", text).strip()
    if between or len(found) != count or not 1 <= length <= 4:
        raise not_understood("NRRD", "its vectors are not written as they should be")
    vectors = [
        None if match[2] else reals("NRRD", match[1].replace(",", " "), length) for match in found
    ]
    return " ".join(
        "none" if vector is None else f"({written(vector).replace(' ', ',')})" for vector in vectors
    )


def _one_of(known: dict[str, _Value], fields: dict[str, str], name: str) -> _Value:
    value = fields.get(name, "").lower()
    if value not in known:
        raise not_understood("NRRD", f"its {name} is none that is read")
    return known[value]
