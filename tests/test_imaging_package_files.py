# SPDX-License-Identifier: Apache-2.0
"""Every test file that pydicom, nibabel and highdicom bring with them is read right, or refused.

``data/package_files.tsv`` says which: read with the values of a second decoder, or refused with
certain words. Files of other versions of the packages are read or refused as well.
"""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medreasoner_infer.errors import MedReasonerError, UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume

TABLE = Path(__file__).parent / "data" / "package_files.tsv"
FOLDERS = {
    "pydicom": ("data",),
    "nibabel": ("tests/data", "nicom/tests/data"),
    "highdicom": ("_icc_profiles",),
}
NO_DATA = (".py", ".pyc", ".json", ".txt", ".m", ".rst", ".md")


class Expected(NamedTuple):
    """One line of the table; ``path`` is a pattern, ``detail`` words or the largest difference."""

    package: str
    path: str
    outcome: str
    detail: str

    def fits(self, package: str, path: str) -> bool:
        return self.package == package and fnmatchcase(path, self.path)


@cache
def table() -> tuple[Expected, ...]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return tuple(Expected(*[*line.split("\t"), ""][:4]) for line in lines)


def package_files() -> list[tuple[str, Path, str]]:
    """Package, file, and path within the package of all that is installed."""
    found = []
    for package, folders in FOLDERS.items():
        spec = find_spec(package)
        root = Path(spec.origin).parent if spec and spec.origin else Path("absent")
        for folder in folders:
            for path in sorted((root / folder).rglob("*")):
                seen = not path.name.startswith((".", "README")) and path.suffix not in NO_DATA
                if path.is_file() and seen:
                    found.append((package, path, path.relative_to(root).as_posix()))
    return found


FILES = package_files()


@pytest.mark.parametrize(("package", "path", "name"), FILES, ids=[f"{p}-{n}" for p, _, n in FILES])
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_a_package_is_right_or_refused(package: str, path: Path, name: str) -> None:
    expected = next((line for line in table() if line.fits(package, name)), None)
    if expected is None:
        read_or_refused(path)
    elif expected.outcome == "refused":
        with pytest.raises(UnreadableImageError) as refused:
            load_volume(path)
        assert expected.detail in str(refused.value)
    else:
        SECOND_DECODERS[expected.outcome](path, load_volume(path), expected.detail)


def read_or_refused(path: Path) -> None:
    with suppress(MedReasonerError):
        assert isinstance(load_volume(path), Volume)


def same_as_gdcm(path: Path, volume: Volume, detail: str) -> None:
    """Values, and of slices in the patient their place; ITK turns MONOCHROME1 into MONOCHROME2."""
    image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    ours = np.moveaxis(volume.array, (0, 1, 2), (2, 1, 0)).astype(float)
    theirs = sitk.GetArrayFromImage(image).reshape(ours.shape)
    if detail == "inverted":
        assert volume.inverted
        assert np.ptp(ours + theirs) < 1e-3
    else:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=float(detail or 0))
    if not volume.is_picture:
        for index in ((0, 0, 0), (volume.shape_ijk[0] - 1, volume.shape_ijk[1] - 1, 0)):
            there = image.TransformIndexToPhysicalPoint(index)
            assert (volume.ijk_to_lps @ (*index, 1))[:3] == pytest.approx(there, abs=5e-3)


def same_as_nibabel(path: Path, volume: Volume, _detail: str) -> None:
    image = nibabel.load(path)
    theirs = np.nan_to_num(np.asarray(image.dataobj), nan=0.0)
    np.testing.assert_allclose(volume.array, theirs.reshape(volume.array.shape), rtol=1e-6)
    affine = np.diag([-1, -1, 1, 1]) @ image.affine
    assert volume.ijk_to_lps == pytest.approx(affine, abs=1e-4)


def same_as_beside(path: Path, volume: Volume, detail: str) -> None:
    """Where GDCM takes a quarter of a minute: the same picture beside it, uncompressed."""
    ours, theirs = (one.array.astype(int) for one in (volume, load_volume(path.parent / detail)))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1)


SECOND_DECODERS = {"gdcm": same_as_gdcm, "nibabel": same_as_nibabel, "beside": same_as_beside}


def test_the_table_names_files_that_are_read_and_files_that_are_refused() -> None:
    outcomes = {line.outcome for line in table()}
    assert outcomes == {"refused", *SECOND_DECODERS}
