# SPDX-License-Identifier: Apache-2.0
"""Reading NRRD and MetaImage files through SimpleITK."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging.content import volume_of_files
from medreasoner_infer.imaging.formats import DETACHED_HEADERS, ImageFormat
from medreasoner_infer.imaging.inflating import unpacked_length
from medreasoner_infer.imaging.limits import (
    DEFAULT_LIMITS,
    FileLimits,
    require_present,
    require_size,
)
from medreasoner_infer.imaging.metaimage_header import read_metaimage_header
from medreasoner_infer.imaging.nrrd_header import read_nrrd_header
from medreasoner_infer.imaging.places import open_file
from medreasoner_infer.imaging.text_header import TextHeader
from medreasoner_infer.imaging.volume import Volume

if TYPE_CHECKING:
    import SimpleITK

_CHUNK = 1 << 20
_OTHER_UNIT = (
    "The file gives its lengths in another unit than millimetres, which other programs take them "
    "for; the image is placed as they do it, and no size is told."
)
_READERS = {ImageFormat.NRRD: "NrrdImageIO", ImageFormat.METAIMAGE: "MetaImageIO"}


def load_itk(
    path: Path,
    kind: ImageFormat,
    modality: str | None = None,
    limits: FileLimits = DEFAULT_LIMITS,
) -> Volume:
    """Read a .nrrd, .nhdr, .mha or .mhd file; sheared directions are kept.

    SimpleITK never sees the file itself, as damaged headers make its parsers write beyond their
    buffers. The header is parsed here: it names no other file (a ``.nhdr`` or ``.mhd`` one may name
    one beside it), and the voxels that it claims are there; then it is written anew before them.

    Raises:
        UnreadableImageError: damaged file, several time points, or unusable geometry.
        ImageTooLargeError: more voxels than ``limits``.
    """
    import SimpleITK as sitk

    header = _checked_header(path, kind, limits)
    with _written_anew(path, header) as copy:
        reader = sitk.ImageFileReader()
        reader.SetImageIO(_READERS[kind])
        reader.SetFileName(str(copy))
        image = reader.Execute()
    warnings = (*_orientation_warnings(kind, image), *((_OTHER_UNIT,) * header.other_unit))
    return volume_of_files(
        path,
        _index_order(image),
        _ijk_to_lps(image),
        modality,
        warnings,
        spacing_known=header.spacing_known and not header.other_unit,
    )


@contextmanager
def _written_anew(path: Path, header: TextHeader) -> Iterator[Path]:
    """A copy of the image in one file, with a header of our own, for as long as it is read."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "image"
        with copy.open("xb") as target, open_file(_voxel_file(path, header)) as source:
            target.write(header.written_anew)
            source.seek(header.data_offset)
            shutil.copyfileobj(source, target, _CHUNK)
        yield copy


def _checked_header(path: Path, kind: ImageFormat, limits: FileLimits) -> TextHeader:
    """The header, once it is found to be good."""
    parse = read_nrrd_header if kind is ImageFormat.NRRD else read_metaimage_header
    with open_file(path) as file:
        header = parse(file)
    if not path.name.lower().endswith(DETACHED_HEADERS):
        header.require_attached()
    size = require_size(header.shape, header.voxel_bits, limits)
    with open_file(_voxel_file(path, header)) as file:
        available = os.fstat(file.fileno()).st_size - header.data_offset
        require_present(header.least_bytes(size), available)
        if header.compressed:
            # Of a stream that ends early ITK leaves the rest as it was in memory, and says nothing.
            file.seek(header.data_offset)
            packed = io.BytesIO(file.read(header.packed_bytes)) if header.packed_bytes else file
            require_present(size, unpacked_length(packed, size))
    return header


def _voxel_file(path: Path, header: TextHeader) -> Path:
    if header.data_file is None:
        return path
    beside = path.parent / header.data_file
    if not beside.exists():
        raise UnreadableImageError(
            "The file with the image's pixels is not beside its header under the name that the "
            "header gives, or the header names several files. Copy it there, or save the image as "
            "one file."
        )
    if beside.resolve().parent != path.parent.resolve():
        raise UnreadableImageError(
            "The file with the image's pixels is a link to another folder, which is not followed. "
            "Copy it beside its header, or save the image as one file."
        )
    return beside


def _index_order(image: SimpleITK.Image) -> NDArray[Any]:
    import SimpleITK as sitk

    components = image.GetNumberOfComponentsPerPixel()
    values = sitk.GetArrayFromImage(image)
    channels = values.ndim - image.GetDimension()
    values = values.transpose(*range(image.GetDimension())[::-1], *range(-channels, 0))
    if image.GetDimension() == 2:
        values = np.expand_dims(values, 2)
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        values = values[:, :, :, 0]
    grey = components == 1 and values.ndim == 3
    colour = components == 3 and values.ndim == 4 and values.dtype == np.uint8
    if grey or colour:
        return values
    raise UnreadableImageError(
        f"The file holds {components} value(s) per voxel on a grid of {image.GetSize()}; expected "
        "one grey 3-D image or 8-bit RGB. Export a single time point or channel."
    )


def _ijk_to_lps(image: SimpleITK.Image) -> NDArray[np.float64]:
    dimension = image.GetDimension()
    kept = min(dimension, 3)
    direction = np.array(image.GetDirection()).reshape(dimension, dimension)[:kept, :kept]
    affine = np.eye(4)
    affine[:kept, :kept] = direction * np.array(image.GetSpacing()[:kept])
    affine[:kept, 3] = image.GetOrigin()[:kept]
    return affine


def _orientation_warnings(kind: ImageFormat, image: SimpleITK.Image) -> tuple[str, ...]:
    if kind is not ImageFormat.NRRD or image.HasMetaDataKey("NRRD_space"):
        return ()
    return (
        "The NRRD file does not say how the patient lies; left and right, front and back may be "
        "displayed the wrong way round.",
    )
