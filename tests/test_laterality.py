# SPDX-License-Identifier: Apache-2.0
"""500 mirrored and re-oriented images: no code, word or letter names the wrong side.

One of the phantom's kidneys is painted brighter than all else, so that models which look at nothing
but their pixels find it. The images are re-oriented by nibabel and written as other scanners and
programs would, so that which kidney it is, is known without any code of the product; a question
asks for it, or for the other one. What comes out is read back by pydicom and nibabel.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

pytest.importorskip("highdicom")
pytest.importorskip("sqlalchemy")

from support.bright import BrightReasoner, BrightSegmenter
from support.physical_space import segment_lps_mm
from support.series import dx_study

from medreasoner_infer.imaging import Volume, load_volume
from medreasoner_infer.laterality import judge_side, told_side, without_side
from medreasoner_infer.output import overlay_content
from medreasoner_infer.pipeline import Pipeline
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import Inference, InferenceResult
from medreasoner_training.embedded.phantom import torso_ct
from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series
from monailabel_app.dicom.encoding import new_ids, to_bytes
from monailabel_app.dicom.label_segments import Answered, segments_of
from monailabel_app.dicom.report import ReferencedSegment, ReportContent, write_report
from monailabel_app.dicom.segmentation import write_segmentation
from monailabel_app.dicom.sides import with_checked_sides
from monailabel_app.dicom.source import open_source
from monailabel_app.inference.replies import result_params
from monailabel_app.labels.segments import segment_info
from monailabel_app.store.records import InferenceRecord

SIDES = ("left", "right")
OTHER = {"left": "right", "right": "left"}
CODE = {"left": "7771000", "right": "24028007"}  # SNOMED CT, PS3.16 CID 244
PLANES = ("axial", "coronal", "sagittal")
BRIGHT_HU = 3000
WINDOW = "1500/3000"
LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# What radiologists see at the left, right, top and bottom edge, however the file is stored.
EDGES = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "H", "F"),
    "sagittal": ("A", "P", "H", "F"),
}

# --- images whose truth is known -----------------------------------------------------------------


@cache
def phantom(target: str) -> nibabel.Nifti1Image:
    """A torso in RAS+ with one kidney painted; x = 0 is its middle."""
    for seed in itertools.count(3):
        study = torso_ct(seed, spacing_mm=(7.0, 7.0, 18.0), matrix=64, z_range_mm=(200.0, 320.0))
        values = {name: value for value, name in study.label_names.items()}
        sizes = [np.sum(study.labels == values.get(f"{side} kidney", -1)) for side in SIDES]
        if min(sizes) > 20:
            break
    hu = np.clip(study.hu, -1024, 1200)
    hu[study.labels == values[f"{target} kidney"]] = BRIGHT_HU
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), LPS_OF_RAS @ study.ijk_to_lps)
    return nibabel.as_closest_canonical(image)


def reoriented(image: nibabel.Nifti1Image, letters: str) -> nibabel.Nifti1Image:
    """The same patient with voxel axes that grow towards these letters, as nibabel has it."""
    wanted = axcodes2ornt(tuple(letters))
    return image.as_reoriented(ornt_transform(io_orientation(image.affine), wanted))


def all_orientations() -> list[str]:
    """All 48, half of them left-handed."""
    pairs = itertools.product("RL", "AP", "SI")
    return ["".join(order) for pair in pairs for order in itertools.permutations(pair)]


ORIENTATIONS = all_orientations()
# From the scanner's axes (those of LPS for a patient head first on the back) to the patient's:
# PS3.3 C.7.3.1.1.2.
POSITIONS = {
    "HFS": np.eye(3),
    "HFP": np.diag([-1.0, -1.0, 1.0]),
    "HFDR": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "HFDL": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    "FFS": np.diag([-1.0, 1.0, -1.0]),
    "FFP": np.diag([1.0, -1.0, -1.0]),
    "FFDR": np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]]),
    "FFDL": np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]]),
}
ACQUISITIONS = {
    "axial": np.eye(3),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
}


def letters_of(directions: np.ndarray) -> str:
    """Of signed axes of LPS in the columns."""
    axes = np.abs(directions).argmax(axis=0)
    positive = directions.sum(axis=0) > 0
    return "".join("RAI"[a] if not p else "LPS"[a] for a, p in zip(axes, positive, strict=True))


def write_series(folder: Path, target: str, position: str, acquisition: str) -> Path:
    """A DICOM series of a patient who lies so."""
    directions = POSITIONS[position] @ ACQUISITIONS[acquisition]
    image = reoriented(phantom(target), letters_of(directions))
    affine = LPS_OF_RAS @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(affine[:3, :3] / spacing, directions, atol=1e-6)
    grid = CtGrid(tuple(spacing), tuple(affine[:3, 3]), directions)
    write_ct_series(np.asarray(image.dataobj).transpose(2, 1, 0), grid, folder, seed=3)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.PatientPosition = position
        header.save_as(path)
    return folder


def write_rotated(path: Path, target: str, seed: int) -> Path:
    """An oblique acquisition: the body lies aslant, up to 20 degrees about each axis."""
    rng = np.random.default_rng(seed)
    a, b, c = np.deg2rad(rng.uniform(-20, 20, 3))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    image = reoriented(phantom(target), ORIENTATIONS[seed * 7 % len(ORIENTATIONS)])
    turned = np.eye(4)
    turned[:3, :3] = about_x @ about_y @ about_z
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), turned @ image.affine), path)
    return path


def write_mirrored_patient(path: Path, target: str, letters: str) -> Path:
    """Situs inversus, as of pixels that were mirrored and a header that was not."""
    image = phantom(target)
    mirrored = nibabel.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine)
    nibabel.save(reoriented(mirrored, letters), path)
    return path


def projection(target: str) -> np.ndarray:
    """Maximum from front to back with the head on top and the patient's left on the right."""
    values = np.asarray(reoriented(phantom(target), "LPI").dataobj).max(axis=1).T
    return np.kron(values, np.ones((3, 1)))  # slices are thicker than pixels are wide


def write_picture(path: Path, target: str, flip: str) -> Path:
    grey = np.clip((projection(target) + 1000) / 4000 * 255, 0, 255).astype(np.uint8)
    grey = grey[:: -1 if "v" in flip else 1, :: -1 if "h" in flip else 1]
    Image.fromarray(np.ascontiguousarray(grey)).save(path)
    return path


@cache
def radiograph_header() -> pydicom.Dataset:
    return dx_study(None).images[0]


def write_radiograph(path: Path, target: str, orientation: str) -> Path:
    """Rows run to the first letter of the orientation, columns to the second; ``none``: untold."""
    stored = np.clip((projection(target) + 1024), 0, 4095).astype("<u2")
    if orientation != "none":
        across, down = orientation
        stored = stored[:: -1 if down == "H" else 1, :: -1 if across == "R" else 1]
    image = pydicom.dcmread(pydicom.filebase.DicomBytesIO(to_bytes(radiograph_header())))
    image.PatientOrientation = None if orientation == "none" else list(orientation)
    image.Rows, image.Columns = stored.shape
    image.PixelData = np.ascontiguousarray(stored).tobytes()
    image.PixelSpacing = image.ImagerPixelSpacing = ["7", "7"]
    image.WindowCenter, image.WindowWidth = 2500, 3000
    image.save_as(path, write_like_original=False)
    return path


# --- the cases -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A question for one of the kidneys; ``painted`` is the side by the phantom's label."""

    kind: str
    geometry: str
    plane: str | None
    painted: str
    asked: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.geometry}-{self.plane}-{self.painted}-asked-{self.asked}"

    @property
    def true_side(self) -> str:
        """By LPS; of a patient who is mirrored the other one."""
        return OTHER[self.painted] if self.kind == "mirrored" else self.painted


def cases() -> list[Case]:
    found = []
    for number, letters in enumerate(ORIENTATIONS):
        for place, plane in enumerate(PLANES):
            painted = SIDES[(number + place) % 2]
            found += [Case("nifti", letters, plane, painted, asked) for asked in SIDES]
    for number, letters in enumerate(ORIENTATIONS[::6]):
        for plane in PLANES:
            painted = SIDES[number % 2]
            found += [Case("mirrored", letters, plane, painted, asked) for asked in SIDES]
    for seed in range(40):
        found += [
            Case("oblique", str(seed), PLANES[seed % 3], SIDES[seed // 3 % 2], asked)
            for asked in SIDES
        ]
    for number, (position, acquisition) in enumerate(itertools.product(POSITIONS, ACQUISITIONS)):
        name = f"{position} {acquisition}"
        plane = None if number % 2 else PLANES[number // 2 % 3]
        found += [Case("dicom", name, plane, SIDES[number % 2], asked) for asked in SIDES]
    both = list(itertools.product(SIDES, SIDES))
    flips = ("none", "h", "v", "hv")
    found += [Case("picture", flip, None, *sides) for flip in flips for sides in both]
    turns = ("LF", "RF", "LH", "RH", "none")
    found += [Case("radiograph", turn, None, *sides) for turn in turns for sides in both]
    return found


CASES = cases()


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(BrightReasoner, BrightSegmenter)


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Callable[[Case], Volume]:
    """The volume of a case's file, which is written and read once."""
    folder = tmp_path_factory.mktemp("laterality")

    @cache
    def of(kind: str, geometry: str, painted: str) -> Volume:
        path = folder / f"{kind}-{geometry}-{painted}".replace(" ", "-")
        match kind:
            case "nifti":
                path = path.with_suffix(".nii")
                nibabel.save(reoriented(phantom(painted), geometry), path)
            case "mirrored":
                path = write_mirrored_patient(path.with_suffix(".nii"), painted, geometry)
            case "oblique":
                path = write_rotated(path.with_suffix(".nii"), painted, int(geometry))
            case "dicom":
                path = write_series(path, painted, *geometry.split())
            case "picture":
                path = write_picture(path.with_suffix(".png"), painted, geometry)
            case "radiograph":
                path = write_radiograph(path.with_suffix(".dcm"), painted, geometry)
        has_no_modality = kind in ("nifti", "mirrored", "oblique")
        return load_volume(path, **({"modality": "CT"} if has_no_modality else {}))

    return lambda case: of(case.kind, case.geometry, case.painted)


def asked(pipeline: Pipeline, volume: Volume, case: Case) -> InferenceResult:
    selection = SliceSelection(
        plane=case.plane, window=None if case.kind in ("picture", "radiograph") else WINDOW
    )
    query = f"Where is the {case.asked} kidney?"
    return pipeline.ask(volume, AskRequest(query, selection, propagate=not volume.is_picture))


# --- what must hold ------------------------------------------------------------------------------


def test_there_are_as_many_cases_as_the_document_says() -> None:
    assert len(set(CASES)) == 500
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_side_is_wrong(case: Case, pipeline, opened, tmp_path) -> None:
    volume = opened(case)
    result = asked(pipeline, volume, case)
    assert result.mask_ijk.any(), "the models should have found the painted kidney"
    is_known = case.kind != "picture" and case.geometry != "none"
    is_right = case.asked == case.true_side
    _check_record(result, case, is_known, is_right)
    _check_letters(result, volume, case)
    _check_words(result, is_known, is_right)
    _check_codes(result, volume, case, is_known, is_right)
    if case.kind == "dicom":
        _check_documents(result, volume, case, is_right)


def _check_record(result: InferenceResult, case: Case, is_known: bool, is_right: bool) -> None:
    found = Inference.from_dict(result.to_dict()).laterality
    assert found == result.laterality
    assert found is not None
    assert found.told == case.asked
    if not is_known:
        assert (found.verdict, found.found) == ("unspecified", None)
        return
    assert found.found == case.true_side
    assert found.verdict == ("agrees" if is_right else "contradicts")
    if case.kind in ("picture", "radiograph"):
        return
    (x1, _, _), (x2, _, _) = result.prompts.bbox_corners_lps_mm
    if case.kind == "oblique":  # the patient's middle is not where x is 0
        return
    assert ((x1 + x2) / 2 > 0) == (case.true_side == "left")


def _check_letters(result: InferenceResult, volume: Volume, case: Case) -> None:
    """The painted kidney is drawn nearer to the edge that has the letter of its side."""
    content = overlay_content(result, result.mask_ijk, volume)
    if case.kind == "picture" or case.geometry == "none":
        assert content.edge_letters is None
        return
    if case.plane is not None and case.kind != "oblique":
        assert content.edge_letters == EDGES[case.plane]
    left, right, top, bottom = (letters[0] for letters in content.edge_letters)
    rows, columns = np.nonzero(content.mask)
    body = np.nonzero(content.image.pixels.reshape(*content.mask.shape, -1).max(axis=2) > 0)
    toward_right = columns.mean() > (body[1].min() + body[1].max()) / 2
    toward_bottom = rows.mean() > (body[0].min() + body[0].max()) / 2
    letter = case.true_side[0].upper()
    if {left, right} == {"L", "R"}:
        assert (right if toward_right else left) == letter
    if {top, bottom} == {"L", "R"}:
        assert (bottom if toward_bottom else top) == letter


def _check_words(result: InferenceResult, is_known: bool, is_right: bool) -> None:
    name = result_params(result)["target"]["name"]
    warned = [text for text in result.warnings if "body's middle" in text]
    if is_known and not is_right:
        assert told_side(name) is None
        assert len(warned) == 1
    else:
        assert warned == []


def _check_codes(
    result: InferenceResult, volume: Volume, case: Case, is_known: bool, is_right: bool
) -> None:
    (segment,) = segments_of(
        [segment_info(result.inference_id)], [1], Answered(result.inference_id, result.query)
    )
    checked = with_checked_sides([segment], result.mask_ijk, volume)
    (stated,) = checked.segments
    assert stated.codes.kind.value == "64033007"  # a kidney in any case
    if not is_known:
        assert stated.codes.laterality is None
    elif is_right:
        assert stated.codes.laterality.value == CODE[case.true_side]
        assert told_side(stated.label) == case.true_side
    else:
        assert (stated.codes.laterality, stated.label) == (None, "kidney")
        assert len(checked.warnings) == 1


def _check_documents(result: InferenceResult, volume: Volume, case: Case, is_right: bool) -> None:
    """SEG and SR, read by pydicom; where the pixels lie is told by DICOM's own formula."""
    source = open_source(volume.source, volume)
    segments = segments_of(
        [segment_info(result.inference_id)], [1], Answered(result.inference_id, result.query)
    )
    checked = with_checked_sides(segments, result.mask_ijk, volume)
    segmentation = write_segmentation(result.mask_ijk, checked.segments, source, new_ids())
    record = InferenceRecord(
        result.inference_id, datetime.fromisoformat(result.created_at), "medreasoner", "image",
        result.present, result.record(), None, None,
    )  # fmt: skip
    answer = ReferencedSegment(segmentation, 1)
    content = ReportContent(
        record, result.mask_ijk, answer, checked.segments[0].codes, checked.segments[0].label
    )
    report = write_report(content, source, new_ids())
    x_mm = segment_lps_mm(reread(segmentation))[:, 0].mean()
    side = "left" if x_mm > 0 else "right"
    assert side == case.true_side
    for document in (reread(segmentation), reread(report)):
        coded = coded_sides(document)
        assert coded == ({CODE[side]} if is_right else set())
        assert OTHER[side] not in document.SeriesDescription.lower()
    assert OTHER[side] not in reread(segmentation).SegmentSequence[0].SegmentLabel.lower()


def coded_sides(document: pydicom.Dataset) -> set[str]:
    """Codes of a side anywhere in an object."""
    values = {
        element.value
        for element in document.iterall()
        if element.keyword == "CodeValue" and element.value in CODE.values()
    }
    return set(values)


def reread(dataset: pydicom.Dataset) -> pydicom.Dataset:
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(to_bytes(dataset)))


# --- names ---------------------------------------------------------------------------------------

NAMES = {
    "{side} kidney": ("left", "right"),
    "kidney_{side}": ("left", "right"),
    "Kidney, {side}": ("left", "right"),
    "{side} renal cyst": ("left", "right"),
    "Where is the {side} kidney?": ("left", "right"),
    "{side} lung": ("left", "right"),
    "{side} adrenal gland": ("left", "right"),
    "{side} ovary": ("left", "right"),
    "{side}e Niere": ("link", "recht"),
    "Wo ist die {side}e Niere?": ("link", "recht"),
    "rein {side}": ("gauche", "droit"),
    "riñón {side}": ("izquierdo", "derecho"),
    "rene {side}": ("sinistro", "destro"),
    "rim {side}": ("esquerdo", "direito"),
}


@pytest.mark.parametrize("painted", SIDES)
@pytest.mark.parametrize("form", NAMES)
def test_a_reader_s_name_that_tells_the_wrong_side_loses_it(form, painted, opened) -> None:
    """In any language, as TotalSegmentator writes it, and of what the vocabulary does not know."""
    volume = opened(Case("nifti", "RAS", "axial", painted, painted))
    mask = np.asarray(volume.array == BRIGHT_HU).astype(np.uint8)
    for told in SIDES:
        name = form.format(side=dict(zip(SIDES, NAMES[form], strict=True))[told])
        assert told_side(name) == told
        (segment,) = segments_of([{"name": name, "idx": 1}], [1], None)
        checked = with_checked_sides([segment], mask, volume)
        (stated,) = checked.segments
        if told == painted:
            assert (stated, checked.warnings) == (segment, ())
        else:
            assert told_side(stated.label) is None
            assert stated.codes.laterality is None
            assert name in checked.warnings[0]


@pytest.mark.parametrize("name", ["liver", "both kidneys", "left and right kidney", "kidney", ""])
def test_a_name_without_one_side_tells_none_and_stays(name) -> None:
    assert told_side(name) is None
    assert without_side(name) == name


def test_a_side_that_is_part_of_the_code_goes_with_it(opened) -> None:
    volume = opened(Case("nifti", "RAS", "axial", "left", "left"))
    mask = np.asarray(volume.array == BRIGHT_HU).astype(np.uint8)
    (segment,) = segments_of([{"name": "lung_middle_lobe_right", "idx": 1}], [1], None)
    (stated,) = with_checked_sides([segment], mask, volume).segments
    assert stated.codes.kind.meaning == "Tissue"
    assert stated.label == "lung middle lobe"


# --- where nothing may be claimed ----------------------------------------------------------------


def test_half_a_body_and_a_limb_contradict_nobody(opened) -> None:
    """The body is cut off in the middle, or too narrow to be one."""
    whole = opened(Case("nifti", "LPS", "axial", "left", "left"))
    mask = np.asarray(whole.array == BRIGHT_HU)
    half = slice(whole.shape_ijk[0] // 2, None)
    cut = Volume(whole.array[half], whole.ijk_to_lps, "CT", "half", whole.source)
    small = whole.ijk_to_lps @ np.diag([0.3, 0.3, 0.3, 1.0])
    limb = Volume(whole.array, small, "CT", "limb", whole.source)
    for volume, inside in ((cut, mask[half]), (limb, mask)):
        found = judge_side("right", inside, volume)
        assert (found.verdict, found.found) == ("not_judged", None)


def test_what_lies_in_the_middle_is_on_neither_side(opened) -> None:
    volume = opened(Case("nifti", "LPS", "axial", "left", "left"))
    mask = np.zeros(volume.shape_ijk, np.uint8)
    middle = volume.shape_ijk[0] // 2
    mask[middle - 1 : middle + 1, 30:34, 2:4] = 1
    for told in SIDES:
        found = judge_side(told, mask, volume)
        assert (found.verdict, found.found) == ("not_judged", "middle")


def test_a_side_is_judged_on_other_modalities_as_well(opened) -> None:
    """Air is dark in MR, whatever its values are."""
    ct = opened(Case("nifti", "PIR", "axial", "right", "right"))
    signal = np.interp(ct.array, [-900, -100, 50, 3000], [3, 700, 350, 900]).astype(np.float32)
    volume = Volume(signal, ct.ijk_to_lps, "MR", "mr", ct.source)
    assert judge_side("left", ct.array == BRIGHT_HU, volume).verdict == "contradicts"
    assert judge_side("left", np.zeros(ct.shape_ijk, np.uint8), volume) is None


def test_a_question_without_a_side_has_no_laterality(pipeline, opened) -> None:
    volume = opened(Case("nifti", "LPS", "axial", "left", "left"))
    request = AskRequest("Where is the kidney?", SliceSelection("axial", window=WINDOW))
    result = pipeline.ask(volume, request)
    assert (result.laterality, result.warnings) == (None, volume.warnings)


@pytest.mark.parametrize(
    ("image", "labels", "modality", "table"),
    [
        ("example_ct", "example_seg_fast_force_split", "CT", "total ("),
        ("example_mr_sm", "example_seg_mr", "MR", "total_mr ("),
    ],
)
def test_no_structure_of_a_real_image_is_told_to_be_on_the_wrong_side(
    image, labels, modality, table, shared_data
) -> None:
    """TotalSegmentator named them; with the other side's name none of them agrees."""
    folder = shared_data / "totalsegmentator"
    volume = load_volume(folder / f"{image}.nii.gz", modality=modality)
    values_ijk = load_volume(folder / f"{labels}.nii.gz").array
    groups = json.loads((shared_data / "manifest.json").read_text())["label_names"]
    names = next(group for title, group in groups.items() if title.startswith(table))
    judged = 0
    for value, name in names.items():
        told, mask = told_side(name), values_ijk == int(value)
        if told is None or not mask.any():
            continue
        right, wrong = (judge_side(side, mask, volume).verdict for side in (told, OTHER[told]))
        assert (right, wrong) in (("agrees", "contradicts"), ("not_judged", "not_judged")), name
        judged += right == "agrees"
    assert judged >= 8


# --- with weights --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("query", ["Where is the left kidney?", "Wo ist die rechte Lunge?"])
def test_the_embedded_models_find_one_place_however_the_file_is_stored(query, tmp_path) -> None:
    """Whatever they answer, it is the same place in the patient, and its side the one by LPS."""
    study = torso_ct(5, spacing_mm=(3.2, 3.2, 15.0), matrix=128, z_range_mm=(180.0, 480.0))
    affine = LPS_OF_RAS @ study.ijk_to_lps
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(study.hu.transpose(2, 1, 0), affine))
    middle = LPS_OF_RAS @ image.affine @ [*(np.array(image.shape) // 2), 1]
    selection = SliceSelection("axial", position_lps_mm=tuple(middle[:3]))
    pipeline, masks = Pipeline.from_registry(), []
    for letters in ORIENTATIONS[::5]:
        path = tmp_path / f"{letters}.nii"
        nibabel.save(reoriented(image, letters), path)
        result = pipeline.ask(load_volume(path, modality="CT"), AskRequest(query, selection))
        stored = nibabel.Nifti1Image(result.mask_ijk, nibabel.load(path).affine)
        masks.append(np.asarray(nibabel.as_closest_canonical(stored).dataobj))
        found = result.laterality
        if found is not None and found.found in SIDES:
            x_mm = -(image.affine @ [*np.argwhere(masks[-1]).mean(axis=0), 1])[0]
            assert found.found == ("left" if x_mm > 0 else "right")
            warned = any("body's middle" in text for text in result.warnings)
            assert warned == (found.found != found.told)
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])
