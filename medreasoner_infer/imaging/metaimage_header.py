# SPDX-License-Identifier: Apache-2.0
"""The header of a MetaImage file, checked before a library reads it; see :mod:`nrrd_header`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

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

_LINE = re.compile(rb"([A-Za-z0-9_|]{1,64})[ \t]*=[ \t]*([^\x00-\x08\x0a-\x1f\x7f]{0,4000})")
_DATA = "ElementDataFile"
# https://itk.org/Wiki/ITK/MetaIO/Documentation: the fields that say how large the voxels are.
_SIZES = frozenset(
    ("NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "HeaderSize", "BinaryData",
     "CompressedData", "CompressedDataSize", _DATA, "ObjectType")
)  # fmt: skip
_BITS_OF_TYPE = {
    "MET_CHAR": 8, "MET_UCHAR": 8, "MET_SHORT": 16, "MET_USHORT": 16, "MET_INT": 32,
    "MET_UINT": 32, "MET_LONG": 32, "MET_ULONG": 32, "MET_LONG_LONG": 64, "MET_ULONG_LONG": 64,
    "MET_FLOAT": 32, "MET_DOUBLE": 64,
}  # fmt: skip
_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
# Names of one meaning in the order in which MetaIO looks for them, and how many numbers they have.
_GEOMETRY: tuple[tuple[tuple[str, ...], Callable[[int], int]], ...] = (
    (("Offset", "Position", "Origin"), lambda axes: axes),
    (("TransformMatrix", "Rotation", "Orientation"), lambda axes: axes * axes),
    (("ElementSpacing",), lambda axes: axes),
    (("ElementSize",), lambda axes: axes),
)
_OTHER_UNITS = ("um", "cm")
_TRUE, _FALSE = ("True", "true", "1"), ("False", "false", "0")


def read_metaimage_header(file: BinaryIO) -> TextHeader:
    """Parse the header at the start of a MetaImage file; its shape begins with the channels.

    Raises:
        UnreadableImageError: it is not of the form that is understood.
    """
    fields, data_offset = _fields(file.read(HEADER_BYTES))
    if fields.get("ObjectType", "Image") != "Image" or fields.get("HeaderSize", "0") != "0":
        raise not_understood("MetaImage", "it is no image, or skips a part of its file")
    if not _flag(fields, "BinaryData", "True"):
        raise not_understood("MetaImage", "its voxels are written as text")
    local = fields[_DATA] in ("LOCAL", "Local", "local")
    return TextHeader(
        kind="MetaImage",
        shape=(_number(fields, "ElementNumberOfChannels", "1"), *_shape(fields)),
        voxel_bits=_bits(fields),
        encoding=Encoding.DEFLATE if _flag(fields, "CompressedData", "False") else Encoding.RAW,
        packed_bytes=_number(fields, "CompressedDataSize", "0"),
        data_file=None if local else bare_file_name("MetaImage", fields[_DATA]),
        data_offset=data_offset if local else 0,
        written_anew=_written_anew(fields),
        spacing_known="ElementSpacing" in fields or "ElementSize" in fields,
        other_unit=fields.get("DistanceUnits") in _OTHER_UNITS,
    )


def is_metaimage(head: bytes) -> bool:
    """Whether these may be the first bytes of a MetaImage file: a text of its first fields."""
    return re.match(rb"(ObjectType|NDims|Comment)[ \t]*=", head) is not None


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """The header's fields, and where the line that ends it ends."""
    fields: dict[str, str] = {}
    offset = 0
    while _DATA not in fields:
        end = head.find(b"\n", offset)
        line = _LINE.fullmatch(head[offset:end].removesuffix(b"\r"))
        if end < 0 or line is None:
            raise not_understood("MetaImage", "a line is no field, or the last one is missing")
        name, value = line[1].decode(), line[2].decode("utf-8", "surrogateescape").strip()
        known = {field.lower() for field in (*fields, *_SIZES - {name})}
        if name.lower() in known:
            raise not_understood("MetaImage", "a field is there twice, or is misspelt")
        fields[name] = value
        offset = end + 1
    return fields, offset


def _shape(fields: dict[str, str]) -> tuple[int, ...]:
    axes = _number(fields, "NDims", "")
    shape = whole_numbers("MetaImage", fields.get("DimSize", ""))
    if not 2 <= axes <= 4 or len(shape) != axes:
        raise not_understood("MetaImage", "it does not name the size of two to four axes")
    return shape


def _number(fields: dict[str, str], name: str, default: str) -> int:
    numbers = whole_numbers("MetaImage", fields.get(name, default))
    if len(numbers) != 1 or numbers[0] < 0:
        raise not_understood("MetaImage", f"{name} is not one number")
    return numbers[0]


def _bits(fields: dict[str, str]) -> int:
    kind = fields.get("ElementType", "")
    if kind not in _BITS_OF_TYPE:
        raise not_understood("MetaImage", "its element type is none that is read")
    return _BITS_OF_TYPE[kind]


def _flag(fields: dict[str, str], name: str, default: str) -> bool:
    value = fields.get(name, default)
    if value not in _TRUE + _FALSE:
        raise not_understood("MetaImage", f"{name} is neither True nor False")
    return value in _TRUE


def _written_anew(fields: dict[str, str]) -> bytes:
    """A header of the values that were understood, which ends where the voxels begin."""
    shape = _shape(fields)
    packed = _number(fields, "CompressedDataSize", "0")
    values = {
        "ObjectType": "Image",
        "NDims": str(len(shape)),
        "BinaryData": "True",
        **_flags(fields),
        **({"CompressedDataSize": str(packed)} if packed else {}),
        **_geometry(fields, len(shape)),
        "DimSize": " ".join(map(str, shape)),
        "ElementNumberOfChannels": str(_number(fields, "ElementNumberOfChannels", "1")),
        "ElementType": fields["ElementType"],
        _DATA: "LOCAL",
    }
    return "".join(f"{name} = {value}\n" for name, value in values.items()).encode("ascii")


def _flags(fields: dict[str, str]) -> dict[str, str]:
    """The byte order under its two names, and whether the voxels are packed."""
    names = [name for name in _ORDERS if name in fields]
    order = {_ORDERS[0]: str(_flag(fields, names[0], "False"))} if names else {}
    return {**order, "CompressedData": str(_flag(fields, "CompressedData", "False"))}


def _geometry(fields: dict[str, str], axes: int) -> dict[str, str]:
    """The first field of each meaning that is there."""
    found: dict[str, str] = {}
    for names, count in _GEOMETRY:
        name = next((name for name in names if name in fields), None)
        if name is not None:
            found[name] = written(reals("MetaImage", fields[name], count(axes)))
    if "DistanceUnits" in fields:
        if fields["DistanceUnits"] not in ("mm", "um", "cm", "?"):
            raise not_understood("MetaImage", "its unit of length is none that is read")
        found["DistanceUnits"] = fields["DistanceUnits"]
    return found
