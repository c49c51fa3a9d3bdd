# SPDX-License-Identifier: Apache-2.0
"""Sizes are in millimetres only where the image tells its scale; elsewhere they are in pixels."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_imaging_dicom import dataset, save

from medreasoner_infer.imaging import Plane, Volume, load_volume
from medreasoner_infer.mask_sizes import measure
from medreasoner_infer.output import overlay_content, write_result
from medreasoner_infer.result import Inference

SIZE = {"Rows": 20, "Columns": 30}
RADIOGRAPH = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "Modality": "DX"}


def picture(folder: Path) -> Volume:
    Image.new("L", (30, 20)).save(folder / "photo.png", dpi=(72, 72))
    return load_volume(folder / "photo.png")


def clip(folder: Path) -> Volume:
    made = dataset(np.zeros((4, 20, 30), np.uint8), **RADIOGRAPH | {"PixelSpacing": None},
                   NumberOfFrames=4)  # fmt: skip
    return load_volume(save(folder / "clip.dcm", made))


def radiograph(folder: Path) -> Volume:
    made = dataset(
        np.zeros((20, 30), np.uint8), **RADIOGRAPH, PixelSpacing=None, ImagerPixelSpacing=[2, 2]
    )
    return load_volume(save(folder / "dx.dcm", made))


def nrrd_without_spacing(folder: Path) -> Volume:
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 30 20 4\nencoding: raw\n\n"
    (folder / "x.nrrd").write_bytes(header.encode() + bytes(2400))
    return load_volume(folder / "x.nrrd")


def metaimage_without_spacing(folder: Path) -> Volume:
    header = "ObjectType = Image\nNDims = 3\nDimSize = 30 20 4\nElementType = MET_UCHAR\n"
    (folder / "x.mha").write_bytes(header.encode() + b"ElementDataFile = LOCAL\n" + bytes(2400))
    return load_volume(folder / "x.mha")


def ct_slice(folder: Path) -> Volume:
    return load_volume(save(folder / "ct.dcm", dataset(np.zeros((20, 30), np.int16))))


UNSCALED = (picture, clip, nrrd_without_spacing, metaimage_without_spacing)


def mask_of(volume: Volume) -> np.ndarray:
    mask = np.zeros(volume.shape_ijk, np.uint8)
    mask[3:13, 4:9] = 1  # 50 pixels on each slice
    return mask


@pytest.mark.parametrize("image", UNSCALED)
def test_without_a_scale_there_are_pixels_only(image, answered, tmp_path: Path) -> None:
    volume = image(tmp_path)
    assert not volume.spacing_known
    mask, plane = mask_of(volume), Plane.ACQUIRED if volume.is_picture else Plane.AXIAL
    result = replace(answered(volume, plane, 0, mask), propagated=True)
    outcome = overlay_content(result, mask, volume).outcome
    assert "50 pixels on this slice" in outcome
    assert f"{mask.sum()} voxels on slices" in outcome
    assert not re.search(r"cm|mm", outcome)
    files = write_result(result, mask, volume, tmp_path / "out")
    told = json.loads(files.answer.read_text(encoding="utf-8"))
    assert told["mask"]["voxels"] == mask.sum()
    assert (told["mask"]["volume_mm3"], told["mask"]["slice_area_mm2"]) == (None, None)
    assert told["slice"]["spacing_xy_mm"] is None
    assert Inference.from_dict(told) == result.record()
    assert set(vars(measure(mask, volume, result.mapping(volume))).values()) == {None}


def test_a_radiograph_has_an_area_and_no_volume(answered, tmp_path: Path) -> None:
    volume = radiograph(tmp_path)
    result = answered(volume, Plane.ACQUIRED, 0, mask_of(volume))
    assert (result.mask.slice_area_mm2, result.mask.volume_mm3) == (200.0, None)
    outcome = overlay_content(result, mask_of(volume), volume).outcome
    assert outcome.startswith("Target found: 2.0 cm² on this slice")
    assert "cm³" not in outcome
    sizes = measure(mask_of(volume), volume, result.mapping(volume))
    assert (sizes.area_mm2, sizes.volume_mm3) == (200.0, None)


def test_a_slice_in_the_patient_has_both(answered, tmp_path: Path) -> None:
    volume = ct_slice(tmp_path)
    result = answered(volume, Plane.AXIAL, 0, mask_of(volume))
    assert (result.mask.slice_area_mm2, result.mask.volume_mm3) == (50.0, 150.0)


def test_a_record_of_an_earlier_version_is_read(answered, tmp_path: Path) -> None:
    """It holds millimetres of a picture, as each pixel was taken for one."""
    volume = picture(tmp_path)
    told = answered(volume, Plane.ACQUIRED, 0, mask_of(volume)).record().to_dict()
    told["mask"] |= {"volume_mm3": 50.0, "slice_area_mm2": 50.0}
    told["slice"] |= {"spacing_xy_mm": [1.0, 1.0]}
    assert Inference.from_dict(told).mask.volume_mm3 == 50.0
