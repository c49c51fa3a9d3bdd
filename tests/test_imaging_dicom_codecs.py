# SPDX-License-Identifier: Apache-2.0
"""Compressed DICOM images: decoded to the values that were compressed, or refused with a reason."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openjpeg
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from medreasoner_infer.errors import MissingDecoderError, UnreadableImageError
from medreasoner_infer.imaging import load_volume
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

GRID = CtGrid((1.5, 2.0, 3.0), (-20.5, 7.25, 100.0), np.eye(3))
HU_KJI = np.arange(4 * 33 * 35).reshape(4, 33, 35) // 2 - 1000


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    """A CT series as JPEG 2000 lossless, encoded by OpenJPEG."""
    folder = write_ct_series(HU_KJI, GRID, tmp_path / "ct", seed=1)
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.PixelData = encapsulate(
            [openjpeg.encode(image.pixel_array, bits_stored=image.BitsStored)]
        )
        image["PixelData"].is_undefined_length = True
        image.file_meta.TransferSyntaxUID = JPEG2000Lossless
        image.save_as(path)
    return folder


def test_jpeg_2000_gives_the_values_that_were_compressed(compressed) -> None:
    np.testing.assert_array_equal(load_volume(compressed).array, HU_KJI.T)


def test_an_absent_decoder_is_named(compressed, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openjpeg", None)  # as if it were not installed
    numpy_only = [pydicom.pixel_data_handlers.numpy_handler]
    monkeypatch.setattr(pydicom.config, "pixel_data_handlers", numpy_only)
    with pytest.raises(MissingDecoderError, match=r"JPEG 2000.*pip install .*pylibjpeg-openjpeg"):
        load_volume(compressed)


def test_damaged_pixels_are_no_missing_decoder(compressed) -> None:
    for path in compressed.iterdir():
        image = pydicom.dcmread(path)
        image.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
        image.save_as(path)
    with pytest.raises(UnreadableImageError, match="damaged") as refused:
        load_volume(compressed)
    assert not isinstance(refused.value, MissingDecoderError)
