# SPDX-License-Identifier: Apache-2.0
"""Files as public bug reports of other programs describe them, each with the value that is right.

They lie beside the public test data, in ``cases``; README.md of each names the report.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume, choose_window, load_volume
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import SegmentRequest, SliceSelection
from medreasoner_infer.types import SlicePrompt
from monailabel_app.cli.app import app
from monailabel_app.studies.dicom_folder import write_nifti


@pytest.fixture(scope="session")
def cases(shared_data: Path) -> Path:
    folder = shared_data.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"files after public bug reports are absent: no folder {folder}")
    return folder


def segmented(image: Path, box: str, out: Path, *more: str) -> Path:
    """What ``medreasoner segment`` writes."""
    done = CliRunner().invoke(app, ["segment", str(image), "--box", box, "--out", str(out), *more])
    assert done.exit_code == 0, done.output
    return out


# The images are phantoms: air of -1000 HU around organs, the brightest of 700 HU.
READ = {
    "01_decimal_comma/ct.dcm": ((48, 48, 1), (0.7, 0.7, 5), "decimal comma"),
    "01_decimal_comma/one_value.dcm": ((48, 48, 1), (0.7, 0.7, 5), "one pixel spacing"),
    "01_decimal_comma/window_text.dcm": ((48, 48, 1), (4, 4, 5), "decimal comma"),
    "02_truncated_sequence_in_folder/folder": ((32, 32, 5), (4, 4, 5), "1 damaged DICOM file"),
    "04_unused_high_bits/overlay_in_bit_12.dcm": ((64, 64, 1), (4, 4, 5), None),
    "04_unused_high_bits/signed_12_bit.dcm": ((64, 64, 1), (4, 4, 5), None),
    "05_same_sop_instance_uid/folder": ((32, 32, 8), (4, 4, 5), "7 DICOM file(s) bear the SOP"),
    "06_orientation_noise/folder": ((32, 32, 8), (4, 4, 5), None),
    "14_nifti_quaternion_and_units/quaternion.nii": ((48, 48, 8), (4, 4, 5), "taken for CT"),
    "14_nifti_quaternion_and_units/units.nii": ((48, 48, 8), (4, 4, 5), "taken for millimetres"),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_against_the_standard_is_read_with_its_values(name: str, cases: Path) -> None:
    shape, spacing, warning = READ[name]
    volume = load_volume(cases / name)
    assert volume.shape_ijk == shape
    assert volume.spacing_ijk_mm == pytest.approx(spacing, abs=1e-6)
    assert (volume.array.min(), volume.array.max()) == (-1000, 700)
    if warning is None:
        assert volume.warnings == ()
    else:
        assert warning in volume.warnings[0]


REFUSED = {
    "14_nifti_quaternion_and_units/no_slices.nii": "5 x 5 x 0 voxels",
    "14_nifti_quaternion_and_units/dim_negative.nii": "48 x 48 x -8 voxels",
    "42_number_of_frames/ct.dcm": "claims 999999 frames",
    "42_number_of_frames/text.dcm": r"Number of Frames \(0028, 0008\)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_holds_no_image_is_refused_in_a_sentence(name: str, cases: Path) -> None:
    with pytest.raises(UnreadableImageError, match=REFUSED[name]):
        load_volume(cases / name)


def test_padding_does_not_choose_the_window_of_the_mr(cases: Path) -> None:
    window = choose_window(load_volume(cases / "09_pixel_padding_value" / "mr.dcm"))
    assert window is not None
    assert (window.lower, window.upper) == (420, 1200)


@pytest.mark.parametrize("name", ["long_text.png", "short_phys.png"])
def test_a_png_is_read_whatever_its_notes(name: str, cases: Path) -> None:
    volume = load_volume(cases / "18_png_chunks" / name)
    assert volume.shape_ijk == (64, 64, 1)
    assert (volume.array.min(), volume.array.max()) == (0, 212)


def test_mask_and_viewers_copy_of_a_tilted_gantry_open_in_simpleitk(
    cases: Path, tmp_path: Path
) -> None:
    folder = cases / "07_gantry_tilt_mask_unreadable" / "folder"
    out = segmented(folder, "5,8,16,20", tmp_path, "--slice", "3")
    write_nifti(load_volume(folder), tmp_path / "copy.nii.gz")
    mask, copy = (sitk.ReadImage(str(out / name)) for name in ("mask.nii.gz", "copy.nii.gz"))
    assert mask.GetSize() == copy.GetSize() == (32, 32, 6)
    assert mask.TransformIndexToPhysicalPoint((3, 4, 5)) == pytest.approx(
        copy.TransformIndexToPhysicalPoint((3, 4, 5))
    )
    assert mask.GetSpacing()[2] == pytest.approx(5, abs=1e-4)


def test_two_patients_whose_names_hold_brackets_have_their_own_masks(cases: Path) -> None:
    folder = cases / "21_brackets_share_a_key"
    volumes = [load_volume(folder / f"CT[{number}].mhd") for number in (1, 2)]
    assert volumes[0].key != volumes[1].key
    pipeline = Pipeline.from_registry(segmenter="embedded", device="cpu")
    request = SegmentRequest(SliceSelection(None, 1), SlicePrompt((24, 28, 80, 68), (), ()))
    for volume in volumes:
        assert dice(pipeline.segment(volume, request).mask_ijk[:, :, 1], volume) > 0.9


def dice(mask: np.ndarray, volume: Volume) -> float:
    truth = volume.array[:, :, 1] == 180
    return 2 * float((mask > 0)[truth].sum()) / float((mask > 0).sum() + truth.sum())


def test_a_photo_has_no_square_centimetres(cases: Path, tmp_path: Path) -> None:
    photo = cases / "22_area_of_a_picture_in_cm2" / "photo.png"
    out = segmented(photo, "12,18,34,42", tmp_path)
    told = json.loads((out / "answer.json").read_text(encoding="utf-8"))
    assert told["mask"]["voxels"] > 0
    assert (told["mask"]["volume_mm3"], told["mask"]["slice_area_mm2"]) == (None, None)
