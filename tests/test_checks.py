# SPDX-License-Identifier: Apache-2.0
"""Statements of a reasoning: where they stand, what they claim, and whether they hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.checks.checking import check_statements
from medreasoner_infer.checks.statements import statements_in
from medreasoner_infer.imaging import Plane, Volume, Window
from medreasoner_infer.slice_choice import DisplayedSlice
from medreasoner_infer.types import EarlierTarget

TORSO = (
    "The question points to the spleen, a bright round region at the patient's back left, "
    "left of the liver. It is asked for by its function."
)
PICTURE = "The question points to the polyp, a dark oval region in the upper right of the image."


def claims(text: str, query: str = "") -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.claim) for s in statements_in(text, query)]


def test_the_embedded_models_traces_are_read_whole() -> None:
    assert claims(TORSO, "Where is the spleen?") == [
        ("bright", "bright"),
        ("round", "round"),
        ("patient's back left", "the patient's back left"),
        ("left of the liver", "left of the liver"),
    ]
    assert claims(PICTURE) == [
        ("dark", "dark"),
        ("oval", "oval"),
        ("upper right of the image", "upper right of the image"),
    ]
    middle = "The question points to the aorta, a grey round region in the patient's middle."
    assert claims(middle)[-1] == ("patient's middle", "the patient's middle")
    assert claims("It lies on the midline.") == [("the midline", "the patient's midline")]
    assert not claims("The question points to the heart, which is not visible on this slice.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It lies on the left.", ("on the left", "the patient's left")),
        ("It lies on the left side of the image.", ("on the left side", "left of the image")),
        ("It is in the left upper quadrant.", ("left upper quadrant", "the patient's head left")),
        ("It is in the upper left quadrant.", ("upper left quadrant", "upper left of the image")),
        ("The arrow points to the left kidney.", ("the left kidney", "the patient's left")),
        ("This hypodense area.", ("hypodense", "dark")),
        ("It lies adjacent to the stomach.", ("adjacent to the stomach", "beside the stomach")),
        ("It lies posterior to the stomach.", ("posterior to the stomach", "behind the stomach")),
        ("Es liegt auf der linken Seite.", ("auf der linken Seite", "the patient's left")),
        ("Une région sombre.", ("sombre", "dark")),
        ("Está detrás del estómago, oscura.", ("detrás del estómago", "behind the stomach")),
        ("在胃后方，低密度。", ("胃后方", "behind the stomach")),
        ("患者の左側にある。", ("患者の左側", "the patient's left")),
    ],
)
def test_free_wording_is_read(text, expected) -> None:
    assert expected in claims(text)


def test_a_relation_is_the_pictures_only_in_a_sentence_about_the_picture() -> None:
    text = "It is in the centre of the image, left of the liver. It is left of the liver."
    assert [claim for _, claim in claims(text)] == [
        "centre of the image", "in the image left of the liver", "left of the liver",
    ]  # fmt: skip


def test_what_is_denied_is_left_out_and_what_is_said_of_others_is_told_apart() -> None:
    assert not claims("It is not bright and there is no round edge.")
    text = "The liver is large and on the right. The spleen is small."
    found = statements_in(text, "Where is the spleen?")
    assert [(s.claim, s.subject) for s in found] == [
        ("large", "liver"), ("the patient's right", "liver"), ("small", ""),
    ]  # fmt: skip


def test_places_are_counted_in_code_points() -> None:
    text = "🫁 the dark lung"
    (found,) = statements_in(text, "lung")
    assert text[found.start : found.end] == "dark"


# --- verdicts ------------------------------------------------------------------------------------

WIDTH_MM, DEPTH_MM, SPACING_MM = 240.0, 160.0, 2.0
SIZE = 160
WINDOW = Window(40, 400, "test")


def torso(flips=(1, 1, 1), **values):
    """An elliptic body of water in air, centred at LPS (10, -20), and a round target 60 mm to the
    patient's left and 30 mm to the back of its middle, of 30 mm diameter and 100 HU.

    ``flips`` are the signs of I, J and K in LPS: how the same patient may be stored.
    """
    signs = np.array(flips, float)
    affine = np.diag([*(signs * [SPACING_MM, SPACING_MM, 5.0]), 1.0])
    shape = np.array([SIZE, SIZE, 3])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    ijk = np.moveaxis(np.indices(shape), 0, -1)
    x, y, _ = np.moveaxis(ijk @ affine[:3, :3].T + affine[:3, 3], -1, 0)
    hu = np.full(shape, -1000, np.int16)
    hu[((x - 10) / (WIDTH_MM / 2)) ** 2 + ((y + 20) / (DEPTH_MM / 2)) ** 2 <= 1] = 0
    mask = np.hypot(x - 70, y - 10) <= 15
    hu[mask] = 100
    volume = Volume(hu, affine, "CT", f"torso{flips}", Path("torso.nii.gz"), **values)
    return volume, mask.astype(np.uint8)


def verdicts(text, volume, mask_ijk, plane=Plane.AXIAL, index=1, known=(), outcome="present"):
    shown = DisplayedSlice.of(volume, plane, index, WINDOW)
    from medreasoner_infer.imaging import slice_of_mask

    mask = slice_of_mask(mask_ijk, shown.mapping)
    found = check_statements(text, "Where is the spleen?", outcome, shown, mask, known)
    return {check.claim: (check.verdict, check.measured) for check in found.statements}


@pytest.mark.parametrize("flips", itertools.product((1, -1), repeat=3))
def test_the_patients_sides_do_not_depend_on_how_the_image_is_stored(flips) -> None:
    text = "At the patient's left. At the patient's right. At the patient's back. Anteriorly."
    found = verdicts(text, *torso(flips))
    assert found["the patient's left"] == ("holds", "centre 60 mm left of the midline of the body")
    assert found["the patient's right"][0] == "does not hold"
    assert found["the patient's back"] == ("holds", "centre 30 mm behind the middle of the body")
    assert found["the patient's front"][0] == "does not hold"
    text = "In the lower right of the image. In the upper left of the image."
    found = verdicts(text, *torso(flips))
    assert found["lower right of the image"][0] == "holds"
    assert found["upper left of the image"][0] == "does not hold"


def test_values_are_those_of_mask_and_ring() -> None:
    volume, mask = torso()
    found = verdicts("A bright, dark, grey region.", volume, mask)
    assert found["bright"] == (
        "holds",
        "mean 100 HU inside, 0 HU around; grey 166 inside, 102 around as displayed",
    )  # by the window: 260 and 160 of 400 HU
    assert found["dark"][0] == found["grey"][0] == "does not hold"
    shape = verdicts("A round, oval, elongated, irregular, small, large region.", volume, mask)
    assert {claim for claim, found in shape.items() if found[0] == "holds"} == {"round", "small"}
    share = np.pi * 15**2 / (np.pi * WIDTH_MM * DEPTH_MM / 4)
    assert shape["small"][1] == f"{100 * share:.1f} % of the body's area on this slice"


def test_brightness_is_judged_by_what_was_displayed() -> None:
    """100 HU and 0 HU are one grey in a window of bone."""
    volume, mask = torso()
    shown = DisplayedSlice.of(volume, Plane.AXIAL, 1, Window(1000, 500, "bone"))
    found = check_statements("A bright spot.", "", "present", shown, mask[:, :, 1].T > 0)
    assert found.statements[0].verdict == "does not hold"


def test_what_nobody_can_know_is_not_checked() -> None:
    volume, mask = torso()
    why = {
        claim: said
        for text in ("Left of the liver.", "The largest one.", "Superiorly.", "Next to the liver.")
        for claim, (verdict, said) in verdicts(text, volume, mask).items()
        if verdict == "cannot be checked"
    }
    assert set(why) == {
        "left of the liver", "largest", "the patient's head", "beside the liver",
    }  # fmt: skip
    assert why["left of the liver"] == "where the liver lies is not known here"
    assert why["the patient's head"] == "this plane does not show that direction"
    left = "At the patient's left."
    absent = verdicts(left, volume, mask, outcome="absent")["the patient's left"]
    assert absent == ("cannot be checked", "there is no mask to measure")
    sagittal = verdicts(left, volume, mask, Plane.SAGITTAL, 110)["the patient's left"]
    assert sagittal[0] == "cannot be checked"
    assert not verdicts(left, volume, mask, outcome="not_understood")


def test_a_picture_without_known_sides_says_nothing_of_the_patients() -> None:
    text = "At the patient's left, in the lower right of the image."
    volume, mask = torso(is_picture=True)
    found = verdicts(text, volume, mask, Plane.ACQUIRED)
    assert found["the patient's left"] == (
        "cannot be checked", "the picture does not tell how the patient lies",
    )  # fmt: skip
    assert found["lower right of the image"][0] == "holds"
    for letters, verdict in ((("L", "F"), "holds"), (("R", "F"), "does not hold")):
        volume, mask = torso(is_picture=True, patient_orientation=letters)
        assert verdicts(text, volume, mask, Plane.ACQUIRED)["the patient's left"][0] == verdict


def test_a_body_that_is_cut_off_has_no_known_midline() -> None:
    volume, mask = torso()
    cut = Volume(volume.array[60:], volume.ijk_to_lps, "CT", "cut", Path("cut"))
    found = verdicts("At the patient's left.", cut, mask[60:])["the patient's left"]
    assert found[0] == "cannot be checked"
    assert "not whole" in found[1]


def test_no_side_is_told_of_what_lies_on_the_midline() -> None:
    volume, mask = torso()
    # 60 mm of 2 mm voxels to the patient's right: onto the midline
    found = verdicts(
        "At the patient's left, in the patient's middle.", volume, np.roll(mask, -30, 0)
    )
    assert found["the patient's left"][0] == "cannot be checked"
    assert found["the patient's middle"][0] == "holds"


def test_what_lies_in_the_middle_half_of_the_body_is_not_on_the_midline() -> None:
    volume, mask = torso()
    # The centre of the target goes from 60 mm to 40 mm beside the midline of a body of 240 mm.
    found = verdicts("In the patient's middle. On the midline.", volume, np.roll(mask, -10, 0))
    assert found["the patient's middle"][0] == "holds"
    assert found["the patient's midline"][0] == "does not hold"


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1)])
def test_neighbours_are_checked_by_the_boxes_of_other_answers(flips) -> None:
    """The liver lies in the display's left half and ends at x = -20 mm; the target begins at 56."""
    volume, mask = torso(flips)
    liver = EarlierTarget("Where is the liver?", "axial", 1, (30.0, 60.0, 70.0, 100.0))
    text = "Left of the liver. Right of the liver. Next to the liver. Above the liver."
    found = verdicts(text, volume, mask, known=(liver,))
    assert found["left of the liver"][0] == "holds"
    assert found["right of the liver"][0] == "does not hold"
    assert found["beside the liver"] == ("does not hold", "boxes 76 mm apart")
    assert found["above the liver"][0] == "cannot be checked"
    in_image = verdicts("Right of the liver in the image.", volume, mask, known=(liver,))
    assert in_image["in the image right of the liver"][0] == "holds"


def test_of_what_is_measured_near_a_limit_nothing_is_said() -> None:
    """Rectangles a little brighter than their surroundings, in a window of 400 values."""

    def found(text: str, width: int, height: int, brighter: int) -> dict[str, str]:
        values = np.full((200, 200, 1), 100, np.uint8)
        mask = np.zeros(values.shape, np.uint8)
        mask[100 : 100 + width, 60 : 60 + height] = 1
        values[mask > 0] += brighter
        picture = Volume(values, np.eye(4), "OT", "p", Path("p.png"), is_picture=True)
        told = verdicts(text, picture, mask, Plane.ACQUIRED, 0)
        assert all(
            said.endswith("too near to tell") == (verdict == "cannot be checked")
            for verdict, said in told.values()
        )
        return {claim: verdict for claim, (verdict, _) in told.items()}

    for brighter, verdict in ((1, "does not hold"), (8, "cannot be checked"), (14, "holds")):
        assert found("A bright spot.", 30, 30, brighter)["bright"] == verdict
    for brighter, verdict in ((24, "holds"), (32, "cannot be checked"), (38, "does not hold")):
        assert found("A grey spot.", 30, 30, brighter)["grey"] == verdict
    # The limits are 1.5 for round and 1.6 for elongated.
    for width, round_one, elongated in (
        (26, "holds", "does not hold"),
        (31, "cannot be checked", "cannot be checked"),
        (36, "does not hold", "holds"),
    ):
        told = found("A round, elongated spot.", width, 20, 50)
        assert (told["round"], told["elongated"]) == (round_one, elongated)


@pytest.mark.parametrize(
    ("angle_deg", "verdict"),
    # The cosine must reach a third: 70.5 degrees.
    [(0, "holds"), (60, "holds"), (70, "cannot be checked"), (80, "does not hold"),
     (180, "does not hold")],
)  # fmt: skip
def test_a_direction_near_the_limit_is_not_judged(angle_deg, verdict) -> None:
    volume, mask = torso()
    shown = DisplayedSlice.of(volume, Plane.AXIAL, 1, WINDOW)
    rows, columns = np.nonzero(mask[:, :, 1].T)
    centre = np.array([columns.min() + columns.max() + 1, rows.min() + rows.max() + 1]) / 2
    towards = np.array([np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))])
    for far_px, expected in ((40, verdict), (3, "cannot be checked")):
        x, y = centre - far_px * towards
        liver = EarlierTarget("liver", "axial", 1, (x - 5, y - 5, x + 5, y + 5))
        (check,) = check_statements(
            "Left of the liver.", "", "present", shown, mask[:, :, 1].T > 0, (liver,)
        ).statements
        assert check.verdict == expected


@pytest.mark.parametrize(
    "query",
    [
        "Où est la rate ?",
        "¿Dónde está el bazo?",
        "Wo ist die Milz?",
        "脾臓を示してください",
        "splen",
    ],
)
def test_a_question_in_another_language_than_the_reasoning_names_the_same_target(query) -> None:
    told = "The question points to the spleen, a dark oval region at the patient's left."
    found = statements_in(told, query)
    assert len(found) == 3
    assert [statement.subject for statement in found] == [""] * 3


def test_what_is_said_of_another_structure_than_the_one_asked_for_is_not_said_of_the_target() -> (
    None
):
    told = "The question points to the spleen, a dark oval region at the patient's left."
    assert {each.subject for each in statements_in(told, "Wo ist die Leber?")} == {"spleen"}


def test_a_neighbour_that_a_reader_called_in_another_language_is_known() -> None:
    volume, mask = torso()
    for query, name in (("La rate", "spleen"), ("Où est le foie ?", "liver"), ("Milz", "spleen")):
        other = EarlierTarget(query, "axial", 1, (30.0, 60.0, 70.0, 100.0))
        found = verdicts(f"Left of the {name}.", volume, mask, known=(other,))
        assert found[f"left of the {name}"][0] == "holds"
