# SPDX-License-Identifier: Apache-2.0
"""A small image file of every kind that is read, each coding of it once."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

NOISE = np.random.default_rng(5).integers(-900, 900, (12, 10, 8)).astype(np.int16)


def itk_file(path: Path, **options: bool) -> None:
    image = sitk.GetImageFromArray(NOISE)
    image.SetSpacing((0.5, 0.75, 3))
    sitk.WriteImage(image, str(path), **options)


def slice_of(stored: np.ndarray, syntax: str = ExplicitVRLittleEndian) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3.4.5"
    meta.FileMetaInformationGroupLength, meta.TransferSyntaxUID = 0, syntax  # set on writing
    made = FileDataset("made", {}, file_meta=meta, preamble=b"\0" * 128)
    made.is_little_endian, made.is_implicit_VR = True, False
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, "1.2.3.4.5"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.PatientName, made.PatientID, made.Modality = "Doe^Jane", "4711", "CT"
    made.Rows, made.Columns = stored.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8 * stored.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(stored.dtype.kind == "i")
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 5], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness = [0.7, 0.7], 3
    made.RescaleSlope, made.RescaleIntercept = 2, -1000
    made.WindowCenter, made.WindowWidth = 40, 400
    made.PixelData = stored.tobytes()
    return made


def enhanced(path: Path) -> None:
    made = slice_of(NOISE[:4])
    made.NumberOfFrames = 4
    items = []
    for number in range(4):
        item, place = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 2 * number]
        item.PlanePositionSequence = Sequence([place])
        items.append(item)
    made.PerFrameFunctionalGroupsSequence = Sequence(items)
    made.save_as(path)


def compressed(path: Path, syntax: str) -> None:
    import openjpeg

    bytes_ = np.abs(NOISE[0]).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    made = slice_of(bytes_, syntax)
    if syntax == RLELossless:
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.compress(RLELossless)
    elif syntax == JPEGLSLossless:
        made.PixelData = encapsulate([_packed_by_pillow(bytes_, "JPEG-LS")])
    elif syntax == JPEG2000Lossless:
        made.PixelData = encapsulate([openjpeg.encode(bytes_, bits_stored=8)])
    else:
        made.PixelData = encapsulate([_packed_by_pillow(bytes_, "JPEG")])
    made["PixelData"].is_undefined_length = True
    made.save_as(path)


def _packed_by_pillow(values: np.ndarray, kind: str) -> bytes:
    if kind == "JPEG-LS":
        import pillow_jpls  # noqa: F401 # tells Pillow of it

    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def in_syntax(path: Path, syntax: str) -> None:
    """A slice in another uncompressed transfer syntax."""
    made = slice_of(NOISE[0], syntax)
    made.is_implicit_VR = syntax == ImplicitVRLittleEndian
    if syntax == ExplicitVRBigEndian:
        made.is_little_endian = False
        made.PixelData = NOISE[0].astype(">i2").tobytes()
    made.save_as(path)


def without_preamble(path: Path) -> None:
    """The data set of a slice alone, as old programs wrote it."""
    buffer = io.BytesIO()
    slice_of(NOISE[0]).save_as(buffer)
    content = buffer.getvalue()
    path.write_bytes(content[144 + int.from_bytes(content[140:144], "little") :])


def palette(path: Path) -> None:
    made = slice_of(np.abs(NOISE[0]).astype(np.uint8))
    made.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        entries = np.arange(0, 65536, 256, dtype="<u2").tobytes()
        setattr(made, f"{colour}PaletteColorLookupTableData", entries)
    made.save_as(path)


def picture(path: Path, **options: object) -> None:
    Image.fromarray(np.abs(NOISE[0]).astype(np.uint8).repeat(3, 0)).save(path, **options)


def colours(path: Path, **options: object) -> None:
    rgb = np.abs(NOISE[:3]).astype(np.uint8).transpose(1, 2, 0).repeat(3, 0)
    Image.fromarray(np.ascontiguousarray(rgb)).save(path, **options)


def nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(NOISE, np.diag([1, 2, 3, 1])), path)


def with_notes(path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "a note " * 60)
    notes.add_itxt("Title", "a picture", "en", "a picture")
    colours(path, pnginfo=notes, dpi=(204, 98), exif=TURNED, icc_profile=b"profile" * 40)


TURNED = Image.Exif()
TURNED[0x0112] = 6
SAMPLES: dict[str, Callable[[Path], None]] = {
    "plain.nii": nifti,
    "packed.nii.gz": nifti,
    "raw.nrrd": lambda path: itk_file(path),
    "packed.nrrd": lambda path: itk_file(path, useCompression=True),
    "raw.mha": lambda path: itk_file(path),
    "packed.mha": lambda path: itk_file(path, useCompression=True),
    "grey.png": picture,
    "deep.png": lambda path: Image.fromarray(np.abs(NOISE[0]).astype(np.uint16)).save(path),
    "colours.png": lambda path: colours(path),
    "notes.png": with_notes,
    "grey.jpg": picture,
    "turned.jpg": lambda path: colours(path, exif=TURNED),
    "progressive.jpg": lambda path: picture(path, progressive=True),
    "plain.tif": picture,
    "lzw.tif": lambda path: picture(path, compression="tiff_lzw"),
    "deflate.tif": lambda path: picture(path, compression="tiff_adobe_deflate"),
    "grey.bmp": picture,
    "slice.dcm": lambda path: slice_of(NOISE[0]).save_as(path),
    "enhanced.dcm": enhanced,
    "deflated.dcm": lambda path: slice_of(NOISE[0], DeflatedExplicitVRLittleEndian).save_as(path),
    "implicit.dcm": lambda path: in_syntax(path, ImplicitVRLittleEndian),
    "big_endian.dcm": lambda path: in_syntax(path, ExplicitVRBigEndian),
    "no_preamble.dcm": without_preamble,
    "palette.dcm": palette,
    "rle.dcm": lambda path: compressed(path, RLELossless),
    "jpeg.dcm": lambda path: compressed(path, JPEGBaseline8Bit),
    "jpegls.dcm": lambda path: compressed(path, JPEGLSLossless),
    "j2k.dcm": lambda path: compressed(path, JPEG2000Lossless),
}
