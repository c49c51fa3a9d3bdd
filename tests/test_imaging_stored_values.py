# SPDX-License-Identifier: Apache-2.0
"""What stored values mean: bits, sign, colours, byte order and polarity, against SimpleITK's GDCM.

Values are literal, or those that were encoded; GDCM is a second decoder with code of its own.
"""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from test_imaging_dicom import dataset, save

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Plane, choose_window, load_volume
from medreasoner_infer.imaging.mapping import slice_mapping
from medreasoner_infer.imaging.slices import slice_image

# -1000, -1, 0 and 700 HU in 12 bits, of which the sign is bit 11.
HU = np.array([[-1000, -1, 0], [700, -2048, 2047]], dtype=np.int16)
COLOURS = np.random.default_rng(4).integers(0, 256, (16, 24, 3)).astype(np.uint8)


def values_of(path: Path) -> np.ndarray:
    """Rows and columns as they are in the file."""
    return load_volume(path).array[:, :, 0].swapaxes(0, 1)


def gdcm_values(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))[0]


def in_12_bits(values: np.ndarray, **attributes: object) -> FileDataset:
    return dataset(values, BitsStored=12, HighBit=11, **attributes)


def compressed(made: FileDataset, stream: bytes, syntax: str) -> FileDataset:
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([stream])
    made["PixelData"].is_undefined_length = True
    return made


UNUSED_BITS = {"zeros": 0x0000, "an overlay": 0x1000, "all": 0xF000, "noise": 0xA000}


@pytest.mark.parametrize("above", UNUSED_BITS.values(), ids=UNUSED_BITS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("coding", ["plain", "big endian", "rle"])
def test_bits_that_are_not_stored_mean_nothing(
    above: int, signed: bool, coding: str, tmp_path: Path
) -> None:
    meant = HU if signed else HU.astype(np.uint16) & 0x0FFF
    stored = (meant.astype(np.uint16) & 0x0FFF) | above
    made = in_12_bits(stored.astype("<u2"), PixelRepresentation=int(signed))
    if coding == "rle":
        made.compress(RLELossless)
    if coding == "big endian":
        made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        made.is_little_endian = False
        made.PixelData = stored.astype(">u2").tobytes()
    path = save(tmp_path / "x.dcm", made)
    assert values_of(path).tolist() == meant.tolist()
    if coding == "plain":
        assert gdcm_values(path).tolist() == meant.tolist()


def test_values_that_end_at_the_high_bit_are_moved_down(tmp_path: Path) -> None:
    stored = (np.array([[1, 4095], [2048, 77]], np.uint16) << 4) | 0x5
    path = save(tmp_path / "x.dcm", dataset(stored, BitsStored=12, HighBit=15))
    assert values_of(path).tolist() == [[1, 4095], [2048, 77]]


def test_more_bits_stored_than_allocated_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.dcm", dataset(HU, BitsStored=17, HighBit=16))
    with pytest.raises(UnreadableImageError, match="17 bits stored"):
        load_volume(path)


@pytest.mark.parametrize("coded_bits", [12, 16])
def test_signed_jpeg_ls_keeps_its_sign(coded_bits: int, tmp_path: Path) -> None:
    pytest.importorskip("pillow_jpls")
    stored = HU.astype(np.uint16) & (0x0FFF if coded_bits == 12 else 0xFFFF)
    path = save(
        tmp_path / "x.dcm",
        compressed(in_12_bits(HU), jpeg_ls(stored, coded_bits), JPEGLSLossless),
    )
    assert values_of(path).tolist() == HU.tolist()


def jpeg_ls(values: np.ndarray, bits: int = 8) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(values)
    picture.save(buffer, "JPEG-LS", **({"bits_per_component": bits} if bits != 8 else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_jpeg_ls_holds_the_colours_that_the_header_names(photometric: str, tmp_path: Path) -> None:
    pytest.importorskip("pillow_jpls")
    from pydicom.pixel_data_handlers import convert_color_space

    made = compressed(dataset(COLOURS), jpeg_ls(COLOURS), JPEGLSLossless)
    made.PhotometricInterpretation = photometric
    path = save(tmp_path / "x.dcm", made)
    expected = COLOURS if photometric == "RGB" else convert_color_space(COLOURS, "YBR_FULL", "RGB")
    np.testing.assert_array_equal(values_of(path), expected)
    if photometric == "RGB":
        np.testing.assert_array_equal(gdcm_values(path), COLOURS)


def jpeg(rgb: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95, subsampling=0, **options)
    return buffer.getvalue()


def without(stream: bytes, code: int) -> bytes:
    """A JPEG stream without its first segment of a code."""
    at = stream.find(bytes((0xFF, code)))
    length = int.from_bytes(stream[at + 2 : at + 4], "big")
    return stream[:at] + stream[at + 2 + length :]


def numbered(stream: bytes) -> bytes:
    """Components that are called 1, 2, 3 instead of R, G, B."""
    for letter, number in zip(b"RGB", (1, 2, 3), strict=True):
        frame, scan = stream.find(b"\xff\xc0"), stream.find(b"\xff\xda")
        changed = bytearray(stream)
        changed[stream.index(letter, frame + 10)] = number
        changed[stream.index(letter, scan + 5)] = number
        stream = bytes(changed)
    return stream


# How the colours of a stream are known, and what the header says of them.
SMOOTH = np.zeros((16, 24, 3), np.uint8)
SMOOTH[..., 0], SMOOTH[..., 2] = np.arange(0, 240, 10), 90
SMOOTH[..., 1] = np.arange(0, 240, 15)[:, np.newaxis]
JPEGS = {
    "RGB with APP14": (jpeg(SMOOTH, keep_rgb=True), "RGB"),
    "RGB by the components' names": (without(jpeg(SMOOTH, keep_rgb=True), 0xEE), "RGB"),
    "RGB by the header alone": (numbered(without(jpeg(SMOOTH, keep_rgb=True), 0xEE)), "RGB"),
    "RGB that the header calls YBR": (jpeg(SMOOTH, keep_rgb=True), "YBR_FULL_422"),
    "YBR with JFIF": (jpeg(SMOOTH), "YBR_FULL_422"),
    "YBR by the header alone": (without(jpeg(SMOOTH), 0xE0), "YBR_FULL_422"),
    "YBR with JFIF that the header calls RGB": (jpeg(SMOOTH), "RGB"),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_the_colours_of_a_jpeg_are_those_that_were_encoded(kind: str, tmp_path: Path) -> None:
    stream, photometric = JPEGS[kind]
    made = compressed(dataset(SMOOTH), stream, JPEGBaseline8Bit)
    made.PhotometricInterpretation = photometric
    difference = values_of(save(tmp_path / "x.dcm", made)).astype(int) - SMOOTH
    assert np.abs(difference).max() <= 12
    assert np.abs(difference).mean() < 2


PALETTE = np.random.default_rng(2).permutation(256).astype(np.uint8)


def with_palette(indices: np.ndarray, entries: bytes, count: int, bits: int) -> FileDataset:
    made = dataset(indices, PhotometricInterpretation="PALETTE COLOR", Modality="US")
    for colour in ("Red", "Green", "Blue"):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [count, 0, bits])
        setattr(made, f"{colour}PaletteColorLookupTableData", entries)
    return made


@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_read_in_the_files_byte_order(order: str, bits: int, tmp_path: Path) -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    words = PALETTE.astype("u2") << 8 if bits == 16 else PALETTE.view("<u2")
    made = with_palette(indices, words.astype(f"{order}u2").tobytes(), 256, bits)
    if order == ">":
        made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        made.is_little_endian = False
        made["PixelData"].VR = "OB"
    path = save(tmp_path / "x.dcm", made)
    for channel in range(3):
        np.testing.assert_array_equal(values_of(path)[..., channel], PALETTE.reshape(16, 16))


def test_8_bit_entries_in_16_bit_words_are_not_black(tmp_path: Path) -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    made = with_palette(indices, PALETTE.astype("<u2").tobytes(), 256, 16)
    path = save(tmp_path / "x.dcm", made)
    np.testing.assert_array_equal(values_of(path)[..., 0], PALETTE.reshape(16, 16))


def test_indices_behind_the_palette_get_its_last_colour(tmp_path: Path) -> None:
    indices = np.array([[0, 1], [300, 65535]], np.uint16)
    entries = bytes([10, 20, 30, 40])
    path = save(tmp_path / "x.dcm", with_palette(indices, entries, 4, 8))
    assert values_of(path)[..., 0].tolist() == [[10, 20], [40, 40]]


def deep_tiff(values: np.ndarray, photometric: int) -> bytes:
    """An uncompressed 16-bit grey TIFF file (TIFF 6.0, section 4)."""
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, photometric), (273, 134),
            (277, 1), (278, height), (279, values.nbytes), (339, 1)]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + bytes(4)
    assert len(head) == 134
    return head + values.astype("<u2").tobytes()


@pytest.mark.parametrize(("photometric", "lowest"), [(0, 255), (1, 0)])
def test_white_is_zero_of_16_bits_shows_zero_white(
    photometric: int, lowest: int, tmp_path: Path
) -> None:
    values = np.arange(1, 65001, 1000).reshape(5, 13)
    (tmp_path / "x.tif").write_bytes(deep_tiff(values, photometric))
    volume = load_volume(tmp_path / "x.tif")
    assert volume.array[:, :, 0].T.tolist() == values.tolist()
    shown = slice_image(volume, slice_mapping(volume, Plane.ACQUIRED, 0), choose_window(volume))
    assert shown.pixels[0, 0] == lowest
    assert shown.pixels[-1, -1] == 255 - lowest


def test_a_decoder_in_want_of_its_package_is_named(tmp_path: Path, monkeypatch) -> None:
    made = compressed(dataset(COLOURS), jpeg(COLOURS), JPEGBaseline8Bit)
    path = save(tmp_path / "x.dcm", made)
    monkeypatch.setitem(sys.modules, "libjpeg", None)
    with pytest.raises(UnreadableImageError, match="pylibjpeg-libjpeg"):
        load_volume(path)
