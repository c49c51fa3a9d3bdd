# SPDX-License-Identifier: Apache-2.0
"""Image files that are damaged or hostile, by a seed: NIfTI, NRRD, MetaImage, pictures, DICOM."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import SimpleITK
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import RLELossless
from support.series import ct_study

_SHAPE_KJI = (6, 24, 24)
_SECRET = "/etc/os-release"


@dataclass(frozen=True)
class Mutant:
    """A file as it is sent; ``extension`` is what its name ends in, ``what`` is wrong with it."""

    what: str
    extension: str
    content: bytes

    @property
    def kind(self) -> str:
        """The format and the kind of fault."""
        return f"{self.extension.lstrip('.')}: {self.what}"


def valid_files() -> dict[str, bytes]:
    """One small valid file for each extension; a name may stand before the dot for a variant."""
    values = np.random.default_rng(0).normal(0, 300, _SHAPE_KJI).astype(np.int16)
    found = {".nii": nibabel.Nifti1Image(values.T, np.diag([2.0, 2, 5, 1])).to_bytes()}
    found[".nii.gz"] = gzip.compress(found[".nii"], mtime=0)
    found |= _itk_files(values)
    grey = np.clip(values[3] / 4 + 128, 0, 255).astype(np.uint8)
    for extension, format_name in (
        (".png", "PNG"), (".jpg", "JPEG"), (".tif", "TIFF"), (".bmp", "BMP"),
    ):  # fmt: skip
        found[extension] = _picture(grey, format_name)
    image = _image_with_fixed_uids()
    found[".dcm"] = _dicom(image)
    image.compress(RLELossless)
    found["rle.dcm"] = _dicom(image)
    return found


def _image_with_fixed_uids() -> Dataset:
    image = ct_study(None).images[0]
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.826.1", "1.2.826.2"
    image.FrameOfReferenceUID, image.SpecificCharacterSet = "1.2.826.3", "ISO_IR 192"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.826.4"
    return image


def _itk_files(values: np.ndarray) -> dict[str, bytes]:
    found = {}
    image = SimpleITK.GetImageFromArray(values)
    with tempfile.TemporaryDirectory() as folder:
        for name in (".nrrd", "gzip.nrrd", ".mha", "zlib.mha"):
            path = Path(folder) / f"x{name}"
            SimpleITK.WriteImage(image, str(path), useCompression=not name.startswith("."))
            found[name] = path.read_bytes()
    return found


def _picture(grey: np.ndarray, format_name: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(grey).save(content, format_name)
    return content.getvalue()


def _dicom(image: Dataset) -> bytes:
    content = io.BytesIO()
    pydicom.dcmwrite(content, image, write_like_original=False)
    return content.getvalue()


class Mutants:
    """Draws mutants of valid files; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._valid = valid_files()
        self._names = sorted(self._valid)

    def draw(self, count: int) -> Iterator[Mutant]:
        """``count`` mutants, each fifth of them made on purpose and not by chance."""
        for _ in range(count):
            yield self._made() if self.random.random() < 0.2 else self._damaged()

    def _damaged(self) -> Mutant:
        name = self.random.choice(self._names)
        damages: list[Callable[[bytes], tuple[str, bytes]]] = [
            self._flipped, self._cut, self._spliced, self._field, self._shifted, self._line,
        ]  # fmt: skip
        content = self._valid[name]
        if name == ".nii.gz" and self.random.random() < 0.7:
            # Inside, so that what is read after decompressing is reached.
            what, inner = self.random.choice(damages)(gzip.decompress(content))
            return Mutant(what, name, gzip.compress(inner, 1, mtime=0))
        what, damaged = self.random.choice(damages)(content)
        return Mutant(what, _extension(name), damaged)

    def _flipped(self, content: bytes) -> tuple[str, bytes]:
        changed = bytearray(content)
        for _ in range(self.random.choice((1, 4, 30))):
            # Half of the flips lie in the header.
            end = min(len(changed), self.random.choice((400, len(changed))))
            changed[self.random.randrange(end)] ^= 1 << self.random.randrange(8)
        return "bits flipped", bytes(changed)

    def _cut(self, content: bytes) -> tuple[str, bytes]:
        end = self.random.choice((len(content), min(len(content), 500)))
        return "cut short", content[: self.random.randrange(end)]

    def _spliced(self, content: bytes) -> tuple[str, bytes]:
        other = self._valid[self.random.choice(self._names)]
        place, from_place = self.random.randrange(len(content)), self.random.randrange(len(other))
        return "spliced with another file", content[:place] + other[from_place:]

    def _field(self, content: bytes) -> tuple[str, bytes]:
        extreme = self.random.choice(
            (b"\xff\x7f", b"\xff\xff", b"\0\0", b"\x00\x80", b"\xff\xff\xff\x7f",
             b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xc0\x7f", b"\0\0\x80\x7f",
             struct.pack("<d", float("nan")), struct.pack("<q", 2**62))
        )  # fmt: skip
        place = self.random.randrange(max(1, min(len(content), 400) - len(extreme)))
        return "a header field", content[:place] + extreme + content[place + len(extreme) :]

    def _shifted(self, content: bytes) -> tuple[str, bytes]:
        place, size = self.random.randrange(len(content)), self.random.choice((1, 7, 300))
        if self.random.random() < 0.5:
            return "bytes left out", content[:place] + content[place + size :]
        return "bytes put in", content[:place] + self.random.randbytes(size) + content[place:]

    def _line(self, content: bytes) -> tuple[str, bytes]:
        """One value of a text header; binary headers get a field instead."""
        head, found, data = content.partition(b"\n\n")
        separator = b": "
        if not content.startswith(b"NRRD"):
            head, found, data = content.partition(b"LOCAL\n")
            separator = b" = "
        lines = head.split(b"\n")
        chosen = [n for n, line in enumerate(lines) if separator in line]
        if not found or not chosen or len(head) > 5_000:
            return self._field(content)
        number = self.random.choice(chosen)
        value = self.random.choice(
            (b"-1", b"0", b"999999999", b"99999999999999999999", b"NaN NaN NaN", b"1e999", b"",
             b"a" * 70_000, b"(0,0,0) (0,0,0) (0,0,0)", b"1 2 3 4 5 6 7", b"raw", b"double",
             b"\xff\xfe", b"%s%n", b"LIST", b"block", b"hex", b"100000 100000 100000")
        )  # fmt: skip
        lines[number] = lines[number].partition(separator)[0] + separator + value
        return "a header line", b"\n".join(lines) + found + data

    def _made(self) -> Mutant:
        return self.random.choice(self._purposeful)()

    @property
    def _purposeful(self) -> Sequence[Callable[[], Mutant]]:
        return (
            self._python, self._detached_nrrd, self._detached_mha, self._bomb, self._claims_much,
            self._polyglot, self._picture_bomb, self._deep_dicom, self._odd_element, self._archive,
        )  # fmt: skip

    def _python(self) -> Mutant:
        extension = self.random.choice((".nii.gz", ".png", ".nrrd", ".dcm", ".py", ".nii.gz.py"))
        return Mutant("Python", extension, b"import os\nos._exit(7)\n")

    def _detached_nrrd(self) -> Mutant:
        place = self.random.choice(
            (_SECRET, "../tokens", "LIST\n" + _SECRET, "%d.raw 1 9 1", "case0.nii.gz", "/dev/zero",
             "/proc/self/environ")
        )  # fmt: skip
        size = self.random.choice((9, 300))
        head = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {size} 1 1\nencoding: raw\n"
        return Mutant("detached data", ".nrrd", f"{head}data file: {place}\n\n".encode())

    def _detached_mha(self) -> Mutant:
        place = self.random.choice(
            (_SECRET, "../tokens", f"LIST\n{_SECRET}", "x%d.raw 1 9 1", "/dev/zero")
        )
        head = "ObjectType = Image\nNDims = 3\nDimSize = 9 1 1\nElementType = MET_UCHAR\n"
        return Mutant("detached data", ".mha", f"{head}ElementDataFile = {place}\n".encode())

    def _bomb(self) -> Mutant:
        """50 MB of zeros in 50 kB, behind a header that claims them or far more."""
        shape = self.random.choice(((500, 500, 200), (32_767, 32_767, 32_767), (1, 1, 1)))
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.uint8)
        header.set_data_shape(shape)
        header["vox_offset"] = 352
        raw = header.binaryblock + b"\0" * 4 + b"\0" * 50_000_000
        return Mutant(f"gzip bomb of {shape}", ".nii.gz", gzip.compress(raw, 9, mtime=0))

    def _claims_much(self) -> Mutant:
        """A few bytes that claim gigabytes."""
        which = self.random.choice((".nii.gz", ".nrrd", ".mha", ".bmp"))
        if which == ".nrrd":
            head = "NRRD0004\ntype: double\ndimension: 3\nsizes: 9999 9999 9999\nencoding: gzip\n\n"
            return Mutant("claims 8 TB", which, head.encode() + gzip.compress(b"\0" * 99, mtime=0))
        if which == ".mha":
            head = ("ObjectType = Image\nNDims = 3\nDimSize = 9999 9999 99\nElementType = "
                    "MET_DOUBLE\nCompressedData = True\nElementDataFile = LOCAL\n")  # fmt: skip
            return Mutant("claims 80 GB", which, head.encode() + zlib.compress(b"\0" * 99))
        if which == ".bmp":
            head = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24,
                               0, 0, 1, 1, 0, 0)  # fmt: skip
            return Mutant("claims 2^60 pixels", which, head + b"\0" * 20)
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.float64)
        header.set_data_shape((1_100, 1_100, 1_100))
        header["vox_offset"] = 352
        raw = header.binaryblock + b"\0" * 40
        return Mutant("claims 10 GB", which, gzip.compress(raw, mtime=0))

    def _polyglot(self) -> Mutant:
        """Two formats in one file."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(zipfile.ZipInfo("../../outside.py"), "import os")
        first, second = self.random.sample(self._names, 2)
        dicom = self._valid[".dcm"]
        return self.random.choice(
            (
                Mutant("a picture and a zip", ".png", self._valid[".png"] + archive.getvalue()),
                Mutant("DICOM behind a script", ".dcm",
                       b"#!/bin/sh\nexit 7\n".ljust(128, b"\n") + dicom[128:]),
                Mutant("DICOM behind a NIfTI", ".nii", self._valid[".nii"][:128] + dicom[128:]),
                Mutant("another format's name", _extension(first), self._valid[second]),
            )
        )  # fmt: skip

    def _picture_bomb(self) -> Mutant:
        """A picture that claims, or unpacks to, many more pixels than it has bytes."""

        def chunk(kind: bytes, data: bytes) -> bytes:
            check = struct.pack(">I", zlib.crc32(kind + data))
            return struct.pack(">I", len(data)) + kind + data + check

        side = self.random.choice((12_000, 30_000, 2**31 - 1))
        size = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        pixels = zlib.compress(b"\0" * 20_000_000, 9)
        text = chunk(b"zTXt", b"a\0\0" + pixels)
        content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + text + chunk(b"IDAT", pixels)
        return Mutant(f"a picture of {side} x {side}", ".png", content + chunk(b"IEND", b""))

    def _deep_dicom(self) -> Mutant:
        """Sequences in sequences; so deep as a writer can still make them."""
        dataset = pydicom.dcmread(io.BytesIO(self._valid[".dcm"]))
        depth, inner = self.random.choice((20, 120)), Dataset()
        inner.PatientName = "x"
        for _ in range(depth):
            outer = Dataset()
            outer.ReferencedImageSequence = DicomSequence([inner])
            inner = outer
        dataset.ReferencedImageSequence = inner.ReferencedImageSequence
        return Mutant(f"sequences {depth} deep", ".dcm", _dicom(dataset))

    def _odd_element(self) -> Mutant:
        """One element that says what cannot be."""
        dataset = pydicom.dcmread(io.BytesIO(self._valid[".dcm"]))
        keyword, value = self.random.choice(
            (
                ("Rows", 65_535), ("Columns", 0), ("NumberOfFrames", "1000000000"),
                ("NumberOfFrames", "-1"), ("BitsAllocated", 7), ("SamplesPerPixel", 99),
                ("PixelSpacing", ["0", "0"]), ("PixelSpacing", ["1e308", "1e-308"]),
                ("ImagePositionPatient", ["0", "0"]), ("ImageOrientationPatient", ["0"] * 6),
                ("SeriesInstanceUID", "../../x"), ("SeriesInstanceUID", ""),
                ("SeriesInstanceUID", "1." * 5_000), ("StudyInstanceUID", "a/b"),
                ("PatientName", "\u202e^" * 900), ("Modality", "SEG"), ("RescaleSlope", "0"),
                ("PhotometricInterpretation", "YBR_FULL_422"), ("PixelData", b""),
                ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.66.4"), ("SliceThickness", "-1e300"),
            )
        )  # fmt: skip
        with pydicom.config.disable_value_validation():
            setattr(dataset, keyword, value)
            return Mutant(f"{keyword} that cannot be", ".dcm", _dicom(dataset))

    def _archive(self) -> Mutant:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            member = zipfile.ZipInfo("../../outside.nii")
            packed.writestr(member, b"\0" * 5_000_000, zipfile.ZIP_DEFLATED)
        extension = self.random.choice((".zip", ".nii.gz", ".dcm"))
        return Mutant("an archive", extension, archive.getvalue())


def _extension(name: str) -> str:
    return name[name.index(".") :]
