# SPDX-License-Identifier: Apache-2.0
"""What is written, drawn, sent and printed of a doubt."""

from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from PIL import Image
from support.bright import BRIGHT_IJK, SHAPE_IJK

from medreasoner_infer.doubt_record import Doubt, DoubtfulSlice, NamedReading
from medreasoner_infer.imaging import Plane, Volume
from medreasoner_infer.imaging.overlay_figure import overlay_figure
from medreasoner_infer.output import foreign_files, overlay_content, write_result, write_summary

DOUBT = Doubt(
    readings=4,
    agreement=0.625,
    named=(NamedReading("present", "liver", 3), NamedReading("absent", None, 1)),
    followed=2,
    doubtful_slices=tuple(
        DoubtfulSlice(*each) for each in ((2, "end"), (3, "end"), (5, "segmenter"), (6, "readings"))
    ),
)


@pytest.fixture
def doubted(answered, tmp_path):
    """A result, its image and how many readings hold each voxel: 4, but 1 in a corner."""
    volume = Volume(
        np.zeros(SHAPE_IJK, np.int16), np.diag([1.5, 2.0, 3.0, 1.0]), "CT", "k", tmp_path / "k.nii"
    )
    mask = np.zeros(SHAPE_IJK, np.uint8)
    mask[BRIGHT_IJK] = 1
    counts = mask * np.uint8(4)
    counts[0, 0, 4] = 1
    result = replace(answered(volume, Plane.AXIAL, 4, mask), doubt=DOUBT, readings_ijk=counts)
    return result, volume, counts


def test_the_agreement_is_written_in_per_cent_on_the_grid_of_the_image(doubted, tmp_path):
    result, volume, counts = doubted
    folder = tmp_path / "out"
    files = write_result(result, result.mask_ijk, volume, folder, readings_ijk=counts, suffix="_1")
    assert [path.name for path in files.paths] == [
        "answer_1.json", "mask_1.nii.gz", "overlay_1.png", "agreement_1.nii.gz"
    ]  # fmt: skip
    agreement, mask = (nibabel.load(folder / f"{name}_1.nii.gz") for name in ("agreement", "mask"))
    np.testing.assert_allclose(agreement.affine, mask.affine)
    np.testing.assert_array_equal(np.asarray(agreement.dataobj), counts * 25)
    assert len(write_result(result, result.mask_ijk, volume, folder).paths) == 3


def test_files_are_foreign_that_no_answer_lies_beside(doubted, tmp_path):
    result, volume, counts = doubted
    for suffix in ("", "_1", "_prior"):
        write_result(result, result.mask_ijk, volume, tmp_path, readings_ijk=counts, suffix=suffix)
    write_summary("Where?", [], tmp_path)
    for name in ("mask_of_mine.nii.gz", "mask_1.txt", "mask_a.png"):
        (tmp_path / name).touch()
    assert foreign_files(tmp_path) == ()
    (tmp_path / "answer_1.json").write_text('{"answer": "mine"}')
    (tmp_path / "answers.json").write_text("[]")
    (tmp_path / "mask_2.png").touch()
    assert [path.name for path in foreign_files(tmp_path)] == [
        "agreement_1.nii.gz", "answer_1.json", "answers.json", "mask_1.nii.gz", "mask_2.png",
        "overlay_1.png",
    ]  # fmt: skip
    assert foreign_files(tmp_path / "nowhere") == ()


def test_a_result_without_doubt_leaves_no_agreement_of_the_one_before(doubted, tmp_path):
    result, volume, counts = doubted
    folder = tmp_path / "out"
    write_result(result, result.mask_ijk, volume, folder, readings_ijk=counts)
    write_result(replace(result, doubt=None, readings_ijk=None), result.mask_ijk, volume, folder)
    assert {path.name for path in folder.iterdir()} == {
        "answer.json", "mask.nii.gz", "overlay.png"
    }  # fmt: skip


def test_the_picture_tells_the_readings_and_colours_what_they_hold(doubted):
    result, volume, counts = doubted
    content = overlay_content(result, result.mask_ijk, volume, counts)
    share = np.zeros((SHAPE_IJK[1], SHAPE_IJK[0]))
    share[BRIGHT_IJK[1], BRIGHT_IJK[0]], share[0, 0] = 1, 0.25
    np.testing.assert_allclose(content.agreement, share)
    figure = overlay_figure(content)
    texts = " ".join(text.get_text() for text in figure.texts)
    assert "3 of 4: liver; 1 of 4: not present." in texts.replace("\n", " ")
    assert "4 readings agree to 62%" in texts.replace("\n", " ")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[-4:] == ["0%–25%", "25%–50%", "50%–75%", "75%–100%"]
    slice_shown, heat = figure.axes[0].get_images()
    colours = heat.get_array()
    assert colours.shape[:2] == slice_shown.get_array().shape[:2] == share.shape
    assert (colours[..., 3] > 0).tolist() == (share > 0).tolist()
    assert not np.allclose(colours[0, 0], colours[BRIGHT_IJK[1].start, BRIGHT_IJK[0].start])


def test_the_bands_grow_lighter_so_that_everybody_tells_them_apart(doubted, tmp_path):
    result, volume, counts = doubted
    content = overlay_content(result, result.mask_ijk, volume, counts)
    (legend,) = overlay_figure(content).legends
    patches = legend.get_patches()[-4:]
    grey = Image.new("RGB", (4, 1))
    grey.putdata([tuple(round(255 * v) for v in patch.get_facecolor()[:3]) for patch in patches])
    lightness = np.asarray(grey.convert("L")).ravel().astype(int)
    assert (np.diff(lightness) > 30).all()


def test_a_stream_sends_how_many_readings_hold_each_voxel(doubted):
    events = pytest.importorskip("monailabel_app.web.streaming.events")
    result, volume, counts = doubted
    sent = []
    follower = events.EventFollower(lambda name, data: sent.append((name, data)))
    follower.finished(result, volume, {})
    assert [name for name, _ in sent] == ["mask", "doubt", "record"]
    told = sent[1][1]
    unpacked = np.repeat(told["counts"], told["runs"]).reshape(told["shape_ijk"], order="F")
    np.testing.assert_array_equal(unpacked, counts)
    assert all(first != second for first, second in itertools.pairwise(told["counts"]))
    assert told["named"][1]["outcome"] == "absent"
    assert told["ijk_to_lps"] == volume.ijk_to_lps.tolist()


def test_a_result_without_doubt_sends_none(doubted):
    events = pytest.importorskip("monailabel_app.web.streaming.events")
    result, volume, _ = doubted
    sent = []
    follower = events.EventFollower(lambda name, data: sent.append(name))
    follower.finished(replace(result, doubt=None, readings_ijk=None), volume, {})
    assert sent == ["mask", "record"]


def test_neighbouring_slices_with_one_reason_are_printed_as_a_range():
    doubt_lines = pytest.importorskip("monailabel_app.cli.doubt").doubt_lines
    lines = [line.plain for line in doubt_lines(DOUBT)]
    assert lines == [
        "Readings 3 of 4: liver; 1 of 4: not present.",
        "Their masks agree to 62%.",
        "Slices to look at: 2 to 3 (the mask ends at or near this slice, and the target may go "
        "on); 5 (the segmenter is not sure of its mask); 6 (the readings mark different areas).",
    ]
    calibrated = replace(DOUBT, probability=0.8, doubtful_slices=())
    assert [line.plain for line in doubt_lines(calibrated)][1:] == [
        "Their masks agree to 62%; a Dice of 0.7 or more has the probability 80%."
    ]
    supported = replace(DOUBT, support=0.5, doubtful_slices=())
    assert [line.plain for line in doubt_lines(supported)][1:] == [
        "Their masks agree to 62%, support for the answer 50%."
    ]
