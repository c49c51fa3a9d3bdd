# SPDX-License-Identifier: Apache-2.0
"""Thousands of damaged files: each is read or refused, in bounded time and memory.

``MEDREASONER_MUTATIONS=2000 pytest tests/test_imaging_mutations.py`` tries as many of each format.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from support.mutations import mutations

from medreasoner_infer.errors import MedReasonerError
from medreasoner_infer.imaging import load_volume
from medreasoner_infer.imaging.volume import Volume

COUNT = int(os.environ.get("MEDREASONER_MUTATIONS", "400"))
# Generous: most take a millisecond, and a busy machine is no failure.
LONGEST_S = 10.0
MOST_GROWTH_KB = 1 << 20
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
    elif syntax == JPEG2000Lossless:
        made.PixelData = encapsulate([openjpeg.encode(bytes_, bits_stored=8)])
    else:
        buffer = io.BytesIO()
        Image.fromarray(bytes_).save(buffer, "JPEG")
        made.PixelData = encapsulate([buffer.getvalue()])
    made["PixelData"].is_undefined_length = True
    made.save_as(path)


def picture(path: Path, **options: object) -> None:
    Image.fromarray(np.abs(NOISE[0]).astype(np.uint8).repeat(3, 0)).save(path, **options)


def nifti(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(NOISE, np.diag([1, 2, 3, 1])), path)


SAMPLES: dict[str, Callable[[Path], None]] = {
    "plain.nii": nifti,
    "packed.nii.gz": nifti,
    "raw.nrrd": lambda path: itk_file(path),
    "packed.nrrd": lambda path: itk_file(path, useCompression=True),
    "raw.mha": lambda path: itk_file(path),
    "packed.mha": lambda path: itk_file(path, useCompression=True),
    "grey.png": picture,
    "grey.jpg": picture,
    "progressive.jpg": lambda path: picture(path, progressive=True),
    "plain.tif": picture,
    "lzw.tif": lambda path: picture(path, compression="tiff_lzw"),
    "deflate.tif": lambda path: picture(path, compression="tiff_adobe_deflate"),
    "grey.bmp": picture,
    "slice.dcm": lambda path: slice_of(NOISE[0]).save_as(path),
    "enhanced.dcm": enhanced,
    "deflated.dcm": lambda path: slice_of(NOISE[0], DeflatedExplicitVRLittleEndian).save_as(path),
    "rle.dcm": lambda path: compressed(path, RLELossless),
    "jpeg.dcm": lambda path: compressed(path, JPEGBaseline8Bit),
    "j2k.dcm": lambda path: compressed(path, JPEG2000Lossless),
}


def read_each(sample: Path, count: int, seed: int) -> dict[str, int]:
    """Try the variants one after the other; how many were read, refused, and memory in kB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome, messages = {"read": 0, "refused": 0}, set[str]()
    variant = sample.with_name(f"variant-{sample.name}")
    for number, content in enumerate(mutations(sample.read_bytes(), count, seed)):
        variant.write_bytes(content)
        started = time.monotonic()
        try:
            assert isinstance(load_volume(variant), Volume)
            outcome["read"] += 1
        except MedReasonerError as error:
            outcome["refused"] += 1
            messages.add(str(error))
        except BaseException as error:
            raise AssertionError(f"variant {number} of seed {seed}") from error
        assert time.monotonic() - started < LONGEST_S, f"variant {number} of seed {seed}"
    assert not [text for text in messages if "Doe" in text or "4711" in text]
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return outcome | {"grown_kb": after - before}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_damaged_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """In a process of its own: a decoder that crashes would take the server with it."""
    sample = tmp_path / name
    SAMPLES[name](sample)
    assert load_volume(sample).array.size
    run_in_child(sample)


def run_in_child(sample: Path) -> None:
    seed = os.environ.get("MEDREASONER_MUTATIONS_SEED", "20")
    command = [sys.executable, "-W", "ignore", __file__, str(sample), str(COUNT), seed]
    paths = os.pathsep.join((str(Path(__file__).parent), *sys.path))
    run = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert run.returncode == 0, run.stderr[-3000:]


REAL = {
    "ct.dcm": "dcmqi/ct-3slice/01.dcm",
    "radiograph.dcm": "highdicom/dx_image.dcm",
    "mr.nii.gz": "totalsegmentator/example_mr_sm.nii.gz",
    "ultrasound.jpg": "real/busi/images/10025.jpg",
}


@pytest.mark.parametrize("name", REAL)
def test_a_damaged_real_file_is_read_or_refused(
    name: str, shared_data: Path, tmp_path: Path
) -> None:
    original = shared_data / REAL[name]
    if not original.is_file():
        pytest.skip(f"of the public test data {REAL[name]} is absent")
    (tmp_path / name).write_bytes(original.read_bytes())
    run_in_child(tmp_path / name)


if __name__ == "__main__":
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    found = read_each(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    print(found)
    assert found["grown_kb"] < MOST_GROWTH_KB, found


@pytest.mark.parametrize("kind", ["nrrd", "mha"])
def test_no_line_of_a_header_ends_the_process(kind: str) -> None:
    """``space origin: aaa…`` made ITK's parser write beyond a buffer, and the server was gone."""
    count = os.environ.get("MEDREASONER_MUTATIONS", "400")
    command = [sys.executable, "-m", "support.hostile_headers", kind, count, "7"]
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    read = int(done.stdout.split()[0])
    assert 0 < read < int(count)
