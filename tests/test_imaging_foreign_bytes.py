# SPDX-License-Identifier: Apache-2.0
"""Foreign files: what they are is told by content, they name no other file, and lie in vain."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import threading
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from support.image_samples import SAMPLES, slice_of

from medreasoner_infer.errors import CancelledError, ImageTooLargeError, UnreadableImageError
from medreasoner_infer.imaging import load_volume
from medreasoner_infer.imaging.boundary import reading
from medreasoner_infer.imaging.formats import ImageFormat, identify
from medreasoner_infer.imaging.limits import FileLimits
from medreasoner_infer.imaging.places import files_below, inside, open_file

VALUES = np.arange(-60, 60, dtype=np.int16).reshape(4, 5, 6)
GIB = 1 << 30
MIB = 1 << 20
# What refusing at once costs; reading what is claimed would take hundreds of times as much.
AT_ONCE_S = 5.0
AT_ONCE_BYTES = 100 * MIB


def refused_at_once(path: Path, match: str | None = None, most_bytes: int = AT_ONCE_BYTES) -> None:
    """The file is refused, in little time and memory."""
    tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(UnreadableImageError, match=match):
            load_volume(path)
        assert time.monotonic() - started < AT_ONCE_S
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()


# What a file is


@pytest.mark.parametrize("name", SAMPLES)
def test_the_content_tells_the_format_whatever_the_name(name: str, tmp_path: Path) -> None:
    SAMPLES[name](tmp_path / name)
    (tmp_path / name).rename(tmp_path / "upload.py")
    expected = ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix
    assert identify(tmp_path / "upload.py").suffix == expected


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("a.nii", b"x" * 400)
    return buffer.getvalue()


def pil(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


NO_IMAGES: dict[str, bytes] = {
    "python": b"import os\nos.system('id')\n",
    "text": b"root:x:0:0:root:/root:/bin/bash\n" * 30,
    "elf": b"\x7fELF\x02\x01\x01" + bytes(600),
    "windows": b"MZ" + bytes(600),
    "zip": archive(),
    "pickle": b"\x80\x04\x95" + bytes(600),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>' + b" " * 500,
    "html": b"<!DOCTYPE html><script>alert(1)</script>" + b" " * 500,
    "gif": pil("GIF"),
    "webp": pil("WEBP"),
    "eps": pil("EPS"),
    "pdf": pil("PDF"),
    "icon": pil("ICO"),
    "netpbm": pil("PPM"),
    "gzipped python": gzip.compress(b"import os\n" * 100),
    "gzipped nrrd": gzip.compress(b"NRRD0004\n"),
    "a pair's header": struct.pack("<i", 348) + bytes(340) + b"ni1\0" + bytes(300),
    "analyze": struct.pack("<i", 348) + bytes(600),
    "bitmap by its two letters": b"BMW and other cars" + b" " * 500,
    "empty": b"",
    "one byte": b"\x1f",
    "zeros": bytes(1000),
    "dicom's mark too early": b"DICM" + bytes(600),
}  # fmt: skip
NAMES = ("x.nii.gz", "x.nii", "x.nrrd", "x.mha", "x.png", "x.jpg", "x.tif", "x.bmp", "x.dcm", "x")


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_no_image_is_refused_under_every_name(kind: str, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(NO_IMAGES[kind])
        with pytest.raises(UnreadableImageError):
            load_volume(tmp_path / name)
        with pytest.raises(UnreadableImageError):
            identify(tmp_path / name)


def test_a_misnamed_file_is_read_as_what_it_is_within_its_family(tmp_path: Path) -> None:
    Image.new("L", (7, 5), 9).save(tmp_path / "photo.png", "JPEG")
    assert load_volume(tmp_path / "photo.png").shape_ijk == (7, 5, 1)
    nibabel.save(nibabel.Nifti1Image(VALUES, np.eye(4)), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "a.nii")
    assert np.array_equal(load_volume(tmp_path / "a.nii").array, VALUES)


@pytest.mark.parametrize("name", ["x.png", "x.nii.gz", "x.nrrd"])
def test_a_name_that_promises_another_kind_of_image_is_refused(name: str, tmp_path: Path) -> None:
    slice_of(VALUES[0]).save_as(tmp_path / name)
    with pytest.raises(UnreadableImageError):
        load_volume(tmp_path / name)


# Other files


SECRET = b"only the server may read this " * 10
NRRD = (
    "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 10 10 3\nspace: left-posterior-superior\n"
    "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nencoding: raw\n"
)
DETACHED_NRRD = [
    "data file: {path}",
    "datafile: {path}",
    "Data File: {path}",
    "DATA FILE: {path}",
    "DataFile: {path}",
    " data file: {path}",
    "\tdata file: {path}",
    "data  file: {path}",
    "data file : {path}",
    "data file:\t{path}",
    "data file:{path}",
    "data file: LIST\n{path}",
    "data file: LIST 2\n{path}\n{path}",
    "data file: {folder}/secret.%03d 1 1 1",
    "data file: {folder}/secret.%d 1 1 1 2",
    "data file: ../{name}/secret.001",
    "data file: file://{path}",
    "data file: secret.001",
    "\ufeffdata file: {path}",
    "# comment\rdata file: {path}",
    "comment\0\ndata file: {path}",
    "key:=value\rdata file: {path}",
    "key:=value\x0bdata file: {path}",
    "content: x\r\ndata file: {path}",
    "sizes: 10 10 3\ndata file: {path}",
    "byte skip: -1",
    "line skip: 1",
    "content: " + "x" * 3_000_000 + "\ndata file: {path}",
]


@pytest.mark.parametrize("line", DETACHED_NRRD)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_nrrd_file_takes_its_voxels_from_no_other_file(
    line: str, ending: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.001"
    secret.write_bytes(SECRET)
    named = line.format(path=secret, folder=tmp_path, name=tmp_path.name)
    for place in (NRRD + named + "\n", NRRD.replace("type:", named + "\ntype:", 1)):
        header = (place + "\n").replace("\n", ending).encode()
        for tail in (b"", bytes(100)):
            (tmp_path / "x.nrrd").write_bytes(header + tail)
            with pytest.raises(UnreadableImageError):
                load_volume(tmp_path / "x.nrrd")
            with pytest.raises(UnreadableImageError):
                identify(tmp_path / "x.nrrd")


META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 10 10 3\nElementType = MET_UCHAR\n"
)
DETACHED_META = [
    "ElementDataFile = {path}",
    "ElementDataFile={path}",
    "ElementDataFile : {path}",
    " ElementDataFile = {path}",
    "ElementDataFile = LIST\n{path}",
    "ElementDataFile = LIST 2\n{path}\n{path}\n{path}",
    "ElementDataFile = {folder}/secret.%03d 1 3 1",
    "ElementDataFile = ../{name}/secret.001",
    "ElementDataFile = secret.001",
    "elementdatafile = LOCAL\nElementDataFile = {path}",
    "ElementDataFile = {path}\nElementDataFile = LOCAL",
    "Comment = x\rElementDataFile = {path}\nElementDataFile = LOCAL",
    "Comment = x\0\nElementDataFile = {path}\nElementDataFile = LOCAL",
    "Comment = x\x0bElementDataFile = {path}\nElementDataFile = LOCAL",
    "# ElementDataFile = {path}\nElementDataFile = LOCAL",
    "HeaderSize = -1\nElementDataFile = {path}",
    "HeaderSize = 10\nElementDataFile = LOCAL",
    "Comment = " + "x" * 100_000 + "\nElementDataFile = {path}",
    "CompressedData = True\nCompressedDataSize = -5\nElementDataFile = LOCAL",
]


@pytest.mark.parametrize("line", DETACHED_META)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_metaimage_file_takes_its_voxels_from_no_other_file(
    line: str, ending: str, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.001"
    secret.write_bytes(SECRET)
    named = line.format(path=secret, folder=tmp_path, name=tmp_path.name)
    for tail in (b"", bytes(100)):
        content = (META + named + "\n").replace("\n", ending).encode() + tail
        (tmp_path / "x.mha").write_bytes(content)
        with pytest.raises(UnreadableImageError):
            load_volume(tmp_path / "x.mha")
        with pytest.raises(UnreadableImageError):
            identify(tmp_path / "x.mha")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("x.nhdr", NRRD.replace("encoding", "data file: {}\nencoding") + "\n"),
        ("x.mhd", META + "ElementDataFile = {}\n"),
    ],
)
def test_a_detached_header_reads_a_bare_name_beside_it_and_no_more(
    name: str, header: str, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "outside.raw").write_bytes(SECRET)
    (tmp_path / "here" / "own.raw").write_bytes(SECRET)
    (tmp_path / "here" / "link.raw").symlink_to(tmp_path / "outside.raw")
    path = tmp_path / "here" / name
    path.write_text(header.format("own.raw"))
    assert load_volume(path).array[1, 0, 0] == SECRET[1]
    for other in ("../outside.raw", str(tmp_path / "outside.raw"), "./own.raw", "link.raw",
                  "LIST", "own.%d 1 1 1", "..", ".", "none.raw", r"..\outside.raw"):  # fmt: skip
        path.write_text(header.format(other))
        with pytest.raises(UnreadableImageError):
            load_volume(path)


@pytest.mark.parametrize("name", [
    "ct 50%.raw", "scan%20deep.raw", "c%d.raw", "list.raw", "LOCAL-ct.raw", "List of 3.raw",
    "[1] a.raw", "+1.raw", "#2.raw", "a:b.raw", "-x.raw", "größe ü.raw", "肝.raw", "a'b\".raw",
])  # fmt: skip
@pytest.mark.parametrize(
    ("header", "text"),
    [("x.nhdr", NRRD + "data file: {}\n\n"), ("x.mhd", META + "ElementDataFile = {}\n")],
)
def test_the_pixels_file_may_have_any_name(
    header: str, text: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(SECRET)
    (tmp_path / header).write_text(text.format(name))
    assert load_volume(tmp_path / header).array[1, 0, 0] == SECRET[1]


def test_a_name_of_another_encoding_is_taken_as_it_is(tmp_path: Path) -> None:
    name = "größe.raw".encode("latin-1")
    (tmp_path / os.fsdecode(name)).write_bytes(SECRET)
    (tmp_path / "x.mhd").write_bytes(META.encode() + b"ElementDataFile = " + name + b"\n")
    assert load_volume(tmp_path / "x.mhd").array[1, 0, 0] == SECRET[1]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_headers_that_other_programs_write_are_understood(suffix: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(VALUES)
    image.SetMetaData("0010|0020", "of DICOM's own tags")
    image.SetMetaData("Segment0_Name", "Leber – größer")
    for compress in (False, True):
        sitk.WriteImage(image, str(tmp_path / f"x{suffix}"), useCompression=compress)
        assert np.array_equal(load_volume(tmp_path / f"x{suffix}").array.transpose(2, 1, 0), VALUES)


# Sizes that a header claims


def nifti_header(shape: tuple[int, ...], code: int = 16, bits: int = 32) -> bytes:
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into(f"<{len(shape) + 1}h", header, 40, len(shape), *shape)
    struct.pack_into("<hh", header, 70, code, bits)
    struct.pack_into("<8f", header, 76, *[1.0] * 8)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    return bytes(header)


@pytest.mark.parametrize(
    "shape", [(1357, 1357, 1357), (32767,) * 3, (1000, 1000, 900), (32767,) * 7]
)
def test_a_tiny_gzip_nifti_that_claims_gigabytes_costs_nothing(
    shape: tuple[int, ...], tmp_path: Path
) -> None:
    packed = gzip.compress(nifti_header(shape))
    assert len(packed) < 200
    (tmp_path / "x.nii.gz").write_bytes(packed)
    refused_at_once(tmp_path / "x.nii.gz")
    (tmp_path / "x.nii").write_bytes(nifti_header(shape))
    refused_at_once(tmp_path / "x.nii")


def test_memory_follows_what_is_in_a_gzip_file_not_what_its_header_claims(tmp_path: Path) -> None:
    content = nifti_header((1000, 1000, 250)) + bytes(20 * MIB)  # a gigabyte, and a fiftieth of it
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(content) + os.urandom(MIB))
    refused_at_once(tmp_path / "x.nii.gz")


def test_what_lies_behind_the_voxels_is_not_unpacked(tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    content = packer.compress(nifti_header((4, 4, 4)) + bytes(256))
    content += b"".join(packer.compress(bytes(64 * MIB)) for _ in range(8)) + packer.flush()
    (tmp_path / "x.nii.gz").write_bytes(content)
    tracemalloc.start()
    assert load_volume(tmp_path / "x.nii.gz").shape_ijk == (4, 4, 4)
    assert tracemalloc.get_traced_memory()[1] < AT_ONCE_BYTES
    tracemalloc.stop()


def test_a_gzip_file_of_many_parts_is_joined_and_of_endless_ones_refused(tmp_path: Path) -> None:
    content = nifti_header((4, 4, 4)) + bytes(range(256))
    parts = [content[at : at + 50] for at in range(0, len(content), 50)]
    (tmp_path / "x.nii.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    assert load_volume(tmp_path / "x.nii.gz").array.size == 64
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(b"") * 400_000)
    with pytest.raises(UnreadableImageError):
        load_volume(tmp_path / "x.nii.gz")


@pytest.mark.parametrize(
    "sizes",
    ["2000 2000 2000", "5 5 5", "4294967296 4294967296 1", "99999999999999999 9 9", "0 5 5",
     "-1 5 5", "18446744073709551616 1 1", "5 5", "5 5 5 5", "a b c", "1e3 5 5", "5.0 5 5", ""],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["raw", "gzip", "hex", "text", "bzip2", "none"])
def test_a_nrrd_header_that_lies_about_its_size(sizes: str, encoding: str, tmp_path: Path) -> None:
    header = NRRD.replace("10 10 3", sizes).replace("raw", encoding)
    (tmp_path / "x.nrrd").write_bytes(header.encode() + b"\n" + gzip.compress(bytes(4)))
    refused_at_once(tmp_path / "x.nrrd")


@pytest.mark.parametrize(
    "sizes",
    ["2000 2000 2000", "5 5 5", "4294967296 4294967296 1", "0 5 5", "-1 5 5", "5 5", "5 5 5 5",
     "a b c", "99999999999999999999 1 1", ""],
)  # fmt: skip
@pytest.mark.parametrize(
    "compressed", ["True", "False", "True\nCompressedDataSize = 99999999999", "maybe"]
)
def test_a_metaimage_header_that_lies_about_its_size(
    sizes: str, compressed: str, tmp_path: Path
) -> None:
    header = META.replace("10 10 3", sizes) + f"CompressedData = {compressed}\n"
    content = header.encode() + b"ElementDataFile = LOCAL\n" + zlib.compress(bytes(4))
    (tmp_path / "x.mha").write_bytes(content)
    refused_at_once(tmp_path / "x.mha")


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks]
    made = b"\x89PNG\r\n\x1a\n"
    for name, content in (*parts, (b"IEND", b"")):
        check = struct.pack(">L", zlib.crc32(name + content))
        made += struct.pack(">L", len(content)) + name + content + check
    return made


BOMB = zlib.compress(bytes(200 * MIB))
PNGS = {
    "claims a gigapixel": png(40_000, 40_000, (b"IDAT", zlib.compress(bytes(9)))),
    "claims 500 MB": png(13_000, 13_000, (b"IDAT", zlib.compress(bytes(9)))),
    "claims 2^31": png(2**31 - 1, 2**31 - 1, (b"IDAT", zlib.compress(bytes(9)))),
    "international text and no pixels": png(4, 4, (b"iTXt", b"k\0\1\0\0\0" + BOMB)),
}
NOTES = {
    "long text": (b"zTXt", b"k\0\0" + BOMB),
    "long international text": (b"iTXt", b"k\0\1\0\0\0" + BOMB),
    "long colour profile": (b"iCCP", b"k\0\0" + BOMB),
    "text that is none": (b"zTXt", b""),
    "pixel size of one byte": (b"pHYs", b"\1"),
    "damaged orientation": (b"eXIf", b"MM\0*"),
    "transparency of no length": (b"tIME", b""),
}


@pytest.mark.parametrize("kind", PNGS)
def test_a_png_that_unpacks_to_more_than_its_pixels_costs_nothing(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "x.png").write_bytes(PNGS[kind])
    refused_at_once(tmp_path / "x.png")


@pytest.mark.parametrize("kind", NOTES)
def test_what_a_png_says_besides_its_pixels_costs_nothing_and_hides_nothing(
    kind: str, tmp_path: Path
) -> None:
    rows = b"".join(b"\0" + bytes(range(12 * row, 12 * row + 12)) for row in range(4))
    (tmp_path / "x.png").write_bytes(png(4, 4, NOTES[kind], (b"IDAT", zlib.compress(rows))))
    tracemalloc.start()
    volume = load_volume(tmp_path / "x.png")
    assert tracemalloc.get_traced_memory()[1] < AT_ONCE_BYTES
    tracemalloc.stop()
    assert volume.array[1, 2, 0].tolist() == [27, 28, 29]


def test_pixels_that_go_on_for_ever_cost_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png(4, 4, (b"IDAT", BOMB)))
    tracemalloc.start()
    assert load_volume(tmp_path / "x.png").shape_ijk == (4, 4, 1)
    assert tracemalloc.get_traced_memory()[1] < AT_ONCE_BYTES
    tracemalloc.stop()


def test_a_tiff_of_a_million_pages_is_refused_at_once(tmp_path: Path) -> None:
    entry = struct.pack("<HHHLL", 1, 256, 4, 1, 4)
    pages = [entry + struct.pack("<L", 8 + (number + 1) * 18) for number in range(300_000)]
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<L", 8) + b"".join(pages))
    refused_at_once(tmp_path / "x.tif")


def test_a_jpeg_that_is_painted_for_hours_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    scan = content.rindex(b"\xff\xda")
    (tmp_path / "x.jpg").write_bytes(content[:-2] + content[scan:-2] * 2000 + content[-2:])
    with pytest.raises(ImageTooLargeError, match="paints its 4000 x 4000 pixels"):
        load_volume(tmp_path / "x.jpg")


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(VALUES, np.eye(4)), tmp_path / "x.nii")
    assert load_volume(tmp_path / "x.nii", limits=FileLimits(voxel_bytes=240)).array.size == 120
    with pytest.raises(ImageTooLargeError, match=r"4 x 5 x 6 voxels"):
        load_volume(tmp_path / "x.nii", limits=FileLimits(voxel_bytes=239))


# DICOM


@pytest.mark.parametrize("frames", ["999999", "20001", "2", "-1", "abc", "1.5", "99999999999999"])
@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGBaseline8Bit, JPEG2000Lossless])
def test_absurd_numbers_of_frames_are_refused_at_once(
    frames: str, syntax: str | None, tmp_path: Path
) -> None:
    made = slice_of(VALUES[0])
    if syntax:
        made.file_meta.TransferSyntaxUID = syntax
        made.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        made["PixelData"].is_undefined_length = True
    made.add_new("NumberOfFrames", "IS", "1")
    made.save_as(tmp_path / "x.dcm")
    content = (tmp_path / "x.dcm").read_bytes()
    padded = frames.encode() + b" " * (len(frames) % 2)
    old = b"(\x00\x08\x00IS\x02\x001 "
    assert old in content
    new = b"(\x00\x08\x00IS" + struct.pack("<H", len(padded)) + padded
    (tmp_path / "x.dcm").write_bytes(content.replace(old, new))
    refused_at_once(tmp_path / "x.dcm")


@pytest.mark.parametrize(
    "claims",
    [{"Rows": 65535, "Columns": 65535}, {"Rows": 0}, {"BitsAllocated": 65535},
     {"SamplesPerPixel": 65535}, {"Rows": 65535, "Columns": 65535, "NumberOfFrames": 9999}],
)  # fmt: skip
def test_pixels_that_are_not_there_are_refused_at_once(
    claims: dict[str, int], tmp_path: Path
) -> None:
    made = slice_of(VALUES[0])
    made.update(claims)
    made.save_as(tmp_path / "x.dcm")
    refused_at_once(tmp_path / "x.dcm")


@pytest.mark.parametrize("size", [(4, 4), (60_000, 60_000)])
def test_a_compressed_frame_of_another_size_than_the_header_says_is_not_decoded(
    size: tuple[int, int], tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "JPEG")
    frame = bytearray(buffer.getvalue())
    at = frame.index(b"\xff\xc0") + 5
    frame[at : at + 4] = struct.pack(">HH", *size)
    made = slice_of(np.zeros((16, 16), np.uint8), JPEGBaseline8Bit)
    made.PixelData = encapsulate([bytes(frame)])
    made["PixelData"].is_undefined_length = True
    made.save_as(tmp_path / "x.dcm")
    refused_at_once(tmp_path / "x.dcm", "not of 16 rows and 16 columns")


def deflated(body: bytes) -> bytes:
    buffer = io.BytesIO()
    slice_of(VALUES[0], DeflatedExplicitVRLittleEndian).save_as(buffer)
    content = buffer.getvalue()
    length = struct.unpack_from("<L", content, 140)[0]
    packer = zlib.compressobj(wbits=-15)
    return content[: 144 + length] + packer.compress(body) + packer.flush()


def test_a_deflated_file_is_read_and_a_deflated_bomb_is_not_unpacked(tmp_path: Path) -> None:
    slice_of(VALUES[0], DeflatedExplicitVRLittleEndian).save_as(tmp_path / "good.dcm")
    volume = load_volume(tmp_path / "good.dcm")
    assert np.array_equal(volume.array[:, :, 0].T, 2 * VALUES[0] - 1000)
    element = struct.pack("<HH2sHL", 0x0009, 0x1001, b"OB", 0, 600 * MIB)
    (tmp_path / "bomb.dcm").write_bytes(deflated(element + bytes(600 * MIB)))
    refused_at_once(tmp_path / "bomb.dcm", most_bytes=256 * MIB)


def with_elements(path: Path, extra: bytes) -> None:
    """A slice whose data set starts with the given bytes."""
    slice_of(VALUES[0]).save_as(path)
    content = path.read_bytes()
    start = 144 + struct.unpack_from("<L", content, 140)[0]
    path.write_bytes(content[:start] + extra + content[start:])


SEQUENCE = struct.pack("<HH2sHL", 0x0008, 0x1111, b"SQ", 0, 0xFFFFFFFF)
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
TINY = struct.pack("<HH2sH", 0x0008, 0x0001, b"UL", 0)
ELEMENTS = {
    "a value longer than the file": struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, 0xFFFFFFF0),
    "100 MB of private data": struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, 100 * MIB)
    + bytes(100 * MIB),
    "sequences in sequences": (SEQUENCE + ITEM) * 50_000,
    "a sequence without an end": SEQUENCE + ITEM,
    "an undefined length of no sequence": struct.pack("<HH2sHL", 9, 0x1001, b"UT", 0, 0xFFFFFFFF),
}


@pytest.mark.parametrize("kind", ELEMENTS)
def test_headers_without_measure_are_refused_at_once(kind: str, tmp_path: Path) -> None:
    with_elements(tmp_path / "x.dcm", ELEMENTS[kind])
    refused_at_once(tmp_path / "x.dcm")


def test_a_header_of_millions_of_elements_is_refused(tmp_path: Path) -> None:
    with_elements(tmp_path / "x.dcm", SEQUENCE + ITEM + TINY * 3_000_000)
    with pytest.raises(ImageTooLargeError, match="too many parts"):
        load_volume(tmp_path / "x.dcm", limits=FileLimits(elements=50_000))


def test_a_damaged_file_in_a_folder_is_set_aside_with_a_warning(tmp_path: Path) -> None:
    for number in range(4):
        made = slice_of(VALUES[0])
        made.SOPInstanceUID = f"1.2.{number}"
        made.ImagePositionPatient = [0, 0, 3 * number]
        made.save_as(tmp_path / f"{number}.dcm")
    with_elements(tmp_path / "damaged.dcm", SEQUENCE + ITEM)
    os.mkfifo(tmp_path / "pipe.dcm")
    volume = load_volume(tmp_path)
    assert volume.shape_ijk[2] == 4
    assert volume.warnings[0].startswith("1 damaged DICOM file(s) in the folder are left out")


def test_a_damaged_file_names_nobody(tmp_path: Path) -> None:
    made = slice_of(VALUES[0])
    made.Modality = "DOE^JANE 4711"
    del made.Rows
    made.save_as(tmp_path / "x.dcm")
    with pytest.raises(UnreadableImageError, match="no modality") as refused:
        load_volume(tmp_path / "x.dcm")
    assert "DOE" not in str(refused.value)


# Numbers that can mean one thing only


@pytest.mark.parametrize(
    ("keyword", "text", "spacing", "warning"),
    [
        ("PixelSpacing", b"0,5\\0,25", (0.25, 0.5), "decimal comma"),
        ("PixelSpacing", b"0.5", (0.5, 0.5), "one pixel spacing"),
        ("PixelSpacing", b"0,5 ", (0.5, 0.5), "one pixel spacing"),
    ],
)
def test_numbers_against_the_standard_are_read_with_a_warning(
    keyword: str, text: bytes, spacing: tuple[float, float], warning: str, tmp_path: Path
) -> None:
    slice_of(VALUES[0]).save_as(tmp_path / "x.dcm")
    content = (tmp_path / "x.dcm").read_bytes()
    old = b"(\x000\x00DS\x08\x000.7\\0.7 "
    assert old in content
    padded = text + b" " * (len(text) % 2)
    new = b"(\x000\x00DS" + struct.pack("<H", len(padded)) + padded
    (tmp_path / "x.dcm").write_bytes(content.replace(old, new))
    volume = load_volume(tmp_path / "x.dcm")
    assert volume.spacing_ijk_mm[:2] == spacing
    assert any(warning in sentence for sentence in volume.warnings)
    assert pydicom.dcmread(tmp_path / "x.dcm").get_item(keyword).value.strip() == text.strip()


def nifti_with(path: Path, change: Callable[[nibabel.Nifti1Header], None]) -> None:
    image = nibabel.Nifti1Image(VALUES, np.diag([2, 3, 4, 1]))
    image.set_sform(np.diag([2, 3, 4, 1]), 1)
    nibabel.save(image, path)
    header = nibabel.Nifti1Header(path.read_bytes()[:348])
    change(header)
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])


def test_a_quaternion_that_is_no_rotation_leaves_the_sform(tmp_path: Path) -> None:
    def change(header: nibabel.Nifti1Header) -> None:
        header["qform_code"] = 1
        header["quatern_b"], header["quatern_c"], header["quatern_d"] = 0.70711, 0.70711, 0.01

    nifti_with(tmp_path / "x.nii", change)
    assert load_volume(tmp_path / "x.nii").spacing_ijk_mm == (2, 3, 4)


def test_an_unknown_unit_is_taken_for_millimetres_with_a_warning(tmp_path: Path) -> None:
    nifti_with(tmp_path / "x.nii", lambda header: header.__setitem__("xyzt_units", 5))
    volume = load_volume(tmp_path / "x.nii")
    assert volume.spacing_ijk_mm == (2, 3, 4)
    assert "taken for millimetres" in " ".join(volume.warnings)


@pytest.mark.parametrize("lengths", [(48, 48, 0), (48, 48, -8), (-1, -1, -1)])
def test_a_nifti_of_no_voxels_is_refused(lengths: tuple[int, ...], tmp_path: Path) -> None:
    nifti_with(tmp_path / "x.nii", lambda header: header["dim"].__setitem__(slice(1, 4), lengths))
    refused_at_once(tmp_path / "x.nii", "expected at least one along each axis")


@pytest.mark.parametrize("offset", [-1.0, 0.0, 1e30, float("nan"), float("inf"), 1e9])
def test_a_nifti_whose_voxels_start_nowhere_is_refused(offset: float, tmp_path: Path) -> None:
    nifti_with(tmp_path / "x.nii", lambda header: header.__setitem__("vox_offset", offset))
    refused_at_once(tmp_path / "x.nii")


# Memory of the server


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_voxels_that_are_not_in_the_file_are_never_made_of_memory(
    suffix: str, kept: float, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 32), dtype=np.uint8)
    path = tmp_path / f"x{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path), useCompression=True)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UnreadableImageError):
        load_volume(path)
    line = b"CompressedDataSize = "
    if line in whole:  # a stream that is said to be shorter than it is
        at = whole.index(line) + len(line)
        path.write_bytes(whole[:at] + b"000" + whole[at + 3 :])
        with pytest.raises(UnreadableImageError):
            load_volume(path)


# The boundary


@pytest.mark.parametrize(
    "fault",
    [KeyError("a"), TypeError(), IndexError(), AttributeError(), AssertionError(), MemoryError(),
     RecursionError(), OverflowError(), ZeroDivisionError(), NotImplementedError(), EOFError(),
     UnicodeDecodeError("utf-8", b"", 0, 1, ""), struct.error(), zlib.error(), OSError(),
     SyntaxError()],
)  # fmt: skip
def test_whatever_a_library_raises_becomes_a_typed_error_with_its_cause(fault: Exception) -> None:
    with (
        pytest.raises(UnreadableImageError, match="Export it again") as refused,
        reading("Export it again."),
    ):
        raise fault
    assert refused.value.__cause__ is fault


@pytest.mark.parametrize("error", [CancelledError("stop"), ImageTooLargeError("large"),
                                   KeyboardInterrupt(), SystemExit()])  # fmt: skip
def test_our_own_errors_and_interrupts_pass_the_boundary(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, reading("Export it again."):
        raise error
    assert raised.value is error


# Places


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    for name in ("a/one.png", ".medreasoner/records.png", "labels/final/label.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"secret")
    (tmp_path / "studies-of-others").mkdir()
    (tmp_path / "studies-of-others" / "x.png").write_bytes(b"secret")
    return folder


def test_links_count_only_where_they_lead_to_what_is_seen_of_the_studies(studies: Path) -> None:
    outside = studies.parent / "outside"
    links = {
        "within.png": (studies / "a" / "one.png", True),
        "relative.png": (Path("a/one.png"), True),
        "out.png": (outside / "secret.png", False),
        "relative-out.png": (Path("../outside/secret.png"), False),
        "neighbour.png": (studies.parent / "studies-of-others" / "x.png", False),
        "hidden.png": (studies / ".medreasoner" / "records.png", False),
        "broken.png": (studies / "nothing.png", False),
        "password.png": (Path("/etc/passwd"), False),
        "device.png": (Path("/dev/zero"), False),
        "chain.png": (studies / "out.png", False),
        "circle.png": (studies / "circle.png", False),
    }
    for name, (target, _) in links.items():
        (studies / name).symlink_to(target)
    (studies / "folder").symlink_to(outside)
    (studies / "up").symlink_to(studies.parent)
    for name, (_, allowed) in links.items():
        assert inside(studies, studies / name) == allowed, name
    for name in ("folder/secret.png", "up/outside/secret.png", "../outside/secret.png", "nothing",
                 "up/studies/.medreasoner/records.png", "a/../../outside/secret.png"):  # fmt: skip
        assert not inside(studies, studies / name), name
    names = {path.relative_to(studies).as_posix() for path in files_below(studies)}
    allowed = {name for name, (_, allowed) in links.items() if allowed}
    assert names == {"a/one.png", "labels/final/label.png"} | allowed


def test_the_studies_themselves_may_be_a_link_or_lie_in_a_hidden_folder(studies: Path) -> None:
    (studies.parent / ".hidden").mkdir()
    (studies.parent / "link").symlink_to(studies)
    moved = studies.rename(studies.parent / ".hidden" / "studies")
    (studies.parent / "link").unlink()
    (studies.parent / "link").symlink_to(moved)
    for root in (moved, moved.parent.parent / "link"):
        assert inside(root, root / "a" / "one.png")
        assert not inside(root, root / ".medreasoner" / "records.png")
        assert root / "a" / "one.png" in set(files_below(root))


def test_what_is_no_ordinary_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.png"))
        (tmp_path / "device.png").symlink_to("/dev/zero")
        (tmp_path / "link.dcm").symlink_to(tmp_path / "pipe.nii.gz")
        for path in sorted(tmp_path.iterdir()):
            done = threading.Event()

            def try_it(path: Path = path, done: threading.Event = done) -> None:
                for reader in (load_volume, identify, open_file):
                    with pytest.raises(UnreadableImageError):
                        reader(path)
                done.set()

            threading.Thread(target=try_it, daemon=True).start()
            assert done.wait(20), path.name
        assert list(files_below(tmp_path)) == []


def test_the_suffixes_are_those_that_are_listed_and_served() -> None:
    assert {kind.suffix for kind in ImageFormat} == {
        ".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg", ".tif", ".bmp", ".dcm",
    }  # fmt: skip
