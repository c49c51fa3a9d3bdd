# SPDX-License-Identifier: Apache-2.0
"""What is said of a target in two examinations: sizes, uncertainty, and never more than is known.

Truth is a ball of known radius, drawn by its equation on each examination's own grid.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.moving import middle_lps_mm, motion, volume_of

from medreasoner_infer.change import Alignment, Uncertain, as_matrix, signed
from medreasoner_infer.imaging import Plane, Volume
from medreasoner_infer.priors import (
    Examination,
    ExaminationFacts,
    NotComparableError,
    OtherPatientError,
    OutsidePriorError,
    align,
    compare,
    measured_change,
    read_facts,
)
from medreasoner_infer.priors.changing import size_change
from medreasoner_infer.priors.comparing import shown_by
from medreasoner_infer.priors.sizes import box_scatter, surface_uncertainty_mm3
from medreasoner_infer.priors.telling import change_rows, write_comparison
from medreasoner_infer.request import AskRequest, SliceSelection
from medreasoner_infer.result import Inference, SampleRecord

UNMOVED = Alignment("stated", as_matrix(np.eye(4)))
NOW = ExaminationFacts("7", "", "1.1", "1.1.1", "", "CT", "ABDOMEN", "20260301", "101010", "")
THEN = replace(NOW, study_uid="1.0", series_uid="1.0.1", study_date="20250301")


def grid(spacing, shape, corner=(0.0, 0.0, 0.0)) -> Volume:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(corner) + np.array(spacing) / 2
    return volume_of(np.zeros(shape, np.int16), affine, f"{spacing}{shape}{corner}")


def ball(volume: Volume, centre, radius_mm) -> np.ndarray:
    """By the equation of a sphere, at voxel centres."""
    ijk = np.stack(np.meshgrid(*map(np.arange, volume.shape_ijk), indexing="ij"), axis=-1)
    lps = ijk @ volume.ijk_to_lps[:3, :3].T + volume.ijk_to_lps[:3, 3]
    return (np.linalg.norm(lps - centre, axis=-1) <= radius_mm).astype(np.uint8)


def of_ball(radius_mm) -> float:
    return 4 / 3 * np.pi * radius_mm**3 / 1000


def found(answered, volume, mask, centre, **told):
    index = int(np.floor(centre[2] / volume.spacing_ijk_mm[2]))
    return answered(volume, Plane.AXIAL, index, mask, **told)


def change_of_balls(answered, radii_mm, spacings=((1, 1, 2), (0.8, 0.8, 3)), **told):
    """Of a ball in the middle of 80 mm, before and after."""
    centre = np.array([40.3, 39.1, 41.7])
    volumes = [grid(s, tuple(round(80 / n) for n in s)) for s in spacings]
    results = [
        found(answered, volume, ball(volume, centre, radius), centre, **told)
        for volume, radius in zip(volumes, radii_mm, strict=True)
    ]
    return measured_change(*results, tuple(volumes), UNMOVED)


@pytest.mark.parametrize("spacings", [((1, 1, 2), (0.8, 0.8, 3)), ((1.5, 1.5, 5), (1, 1, 1))])
@pytest.mark.parametrize("radii_mm", [(14, 14), (10, 20), (20, 14), (25, 26), (8, 8.2)])
def test_the_true_change_lies_within_the_uncertainty(answered, radii_mm, spacings) -> None:
    change = change_of_balls(answered, radii_mm, spacings)
    volume, long_axis = change.volume_ml, change.long_axis_mm
    truth = of_ball(radii_mm[1]) - of_ball(radii_mm[0])
    assert abs(volume.difference - truth) <= volume.uncertainty
    assert abs(volume.percent - 100 * truth / of_ball(radii_mm[0])) <= volume.percent_uncertainty
    diameters = 2 * (radii_mm[1] - radii_mm[0])
    assert abs(long_axis.difference - diameters) <= long_axis.uncertainty + 1


@pytest.mark.parametrize(
    ("radii_mm", "kind"),
    [((10, 20), "larger"), ((20, 10), "smaller"), ((14, 14), "within_uncertainty")],
)
def test_the_statement_says_what_the_sizes_say(answered, radii_mm, kind) -> None:
    change = change_of_balls(answered, radii_mm)
    assert change.kind == kind
    word = {"within_uncertainty": "within the uncertainty"}.get(kind, kind)
    assert change.statement.startswith(f"Volume {word}: ")
    assert next(row.verdict for row in change_rows(change)) == word


def test_nothing_is_larger_that_is_only_drawn_on_another_grid(answered) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        radius = rng.uniform(4, 30)
        spacings = [tuple(rng.uniform((0.6, 0.6, 1), (1.5, 1.5, 6))) for _ in range(2)]
        spacings = [(s[0], s[0], s[2]) for s in spacings]
        assert change_of_balls(answered, (radius, radius), spacings).kind == "within_uncertainty"


@pytest.mark.parametrize(
    ("before", "after", "kind", "words"),
    [
        (False, True, "new", "may have been missed"),
        (True, False, "not_found_any_more", "may have been missed"),
        (False, False, "absent_in_both", "Not found in either"),
    ],
)
def test_what_is_in_one_examination_only_may_have_been_missed(
    answered, before, after, kind, words
) -> None:
    volume = grid((1, 1, 2), (80, 80, 40))
    centre = np.array([40.0, 40, 40])
    results = []
    for present in (before, after):
        mask = ball(volume, centre, 10) * present
        results.append(found(answered, volume, mask, centre, present=present))
    change = measured_change(*results, (volume, volume), UNMOVED)
    assert change.kind == kind
    assert words in change.statement
    assert any("can miss" in caution for caution in change.cautions)
    assert change.volume_ml.verdict is None


def test_a_question_that_was_not_understood_says_nothing_of_a_change(answered) -> None:
    volume = grid((1, 1, 2), (80, 80, 40))
    centre = np.array([40.0, 40, 40])
    result = found(answered, volume, ball(volume, centre, 10), centre)
    puzzled = replace(result, present=False, outcome="not_understood", mask_ijk=result.mask_ijk * 0)
    change = measured_change(result, puzzled, (volume, volume), UNMOVED)
    assert change.kind == "not_comparable"


def test_what_one_examination_cuts_off_is_no_change(answered) -> None:
    """Half of the ball lies below the first slice of the prior."""
    centre = np.array([40.0, 40, 40])
    current, prior = grid((1, 1, 2), (80, 80, 40)), grid((1, 1, 2), (80, 80, 20), (0, 0, 40))
    masks = [ball(volume, centre, 18) for volume in (prior, current)]
    assert masks[0].sum() < 0.6 * masks[1].sum()
    then = answered(prior, Plane.AXIAL, 0, masks[0])
    now = found(answered, current, masks[1], centre)
    change = measured_change(then, now, (prior, current), UNMOVED)
    assert change.kind == "within_uncertainty"
    assert any("does not show 5" in caution for caution in change.cautions)


def test_the_common_region_is_that_of_the_moved_examination() -> None:
    volume = grid((1, 1, 1), (40, 40, 40))
    shift = motion((0, 0, 0), (10, 0, 0), (0, 0, 0))
    kept, lost = shown_by(np.ones((40, 40, 40), np.uint8), volume, volume, shift)
    assert kept.sum() == 30 * 40 * 40
    assert kept[:30].all()
    assert lost == pytest.approx(0.25)


def test_half_a_voxel_of_the_surface_is_uncertain() -> None:
    """Of a cube of 4 voxels a side, 56 of 64 touch the outside."""
    volume = grid((2, 2, 3), (10, 10, 10))
    cube = np.zeros((10, 10, 10), np.uint8)
    cube[3:7, 3:7, 3:7] = 1
    assert surface_uncertainty_mm3(cube, volume) == pytest.approx(56 * 12 / 2)


def test_scattered_samples_widen_the_uncertainty(answered) -> None:
    volume = grid((1, 1, 2), (80, 80, 40))
    centre = np.array([40.0, 40, 40])
    result = found(answered, volume, ball(volume, centre, 15), centre)
    x1, y1, x2, y2 = result.prompts.bbox_xyxy_slice_px
    boxes = [(x1, y1, x1 + f * (x2 - x1), y1 + f * (y2 - y1)) for f in (0.5, 1.5)]
    samples = tuple(
        SampleRecord(present=True, reasoning="", bbox_xyxy_slice_px=box, points_xy_slice_px=(),
                     confidence=None, bbox_iou_with_answer=None)
        for box in boxes
    )  # fmt: skip
    scattered = replace(result, samples=samples)
    assert box_scatter(result) == 0
    assert box_scatter(scattered) == pytest.approx(0.5)
    change = measured_change(scattered, result, (volume, volume), UNMOVED)
    assert change.volume_ml.before.source == "samples"
    assert change.volume_ml.before.uncertainty == pytest.approx(1.5 * change.volume_ml.before.value)
    assert change.volume_ml.after.source == "voxels"


def test_a_second_look_that_differs_makes_a_change_uncertain(answered) -> None:
    """The answer about the prior took half of the ball; the box of the current one shows it all."""
    volume = grid((1, 1, 2), (80, 80, 40))
    centre = np.array([40.0, 40, 40])
    whole = ball(volume, centre, 15)
    half = whole.copy()
    half[40:] = 0
    before, after = (found(answered, volume, mask, centre) for mask in (half, whole))
    requests = []

    def segment(shown, request):
        requests.append(request)
        return found(answered, shown, whole, centre)

    volumes = volume, volume
    alone = measured_change(before, after, volumes, UNMOVED)
    looked = measured_change(before, after, volumes, UNMOVED, segment)
    assert alone.kind == "larger"
    assert looked.kind == "within_uncertainty"
    assert looked.volume_ml.before.source == "second_look"
    assert looked.volume_ml.before.uncertainty == pytest.approx(
        looked.volume_ml.after.value - looked.volume_ml.before.value
    )
    boxes = [request.prompt.bbox_xyxy_px for request in requests]
    assert boxes == [(25, 25, 55, 55), (25, 25, 40, 55)]  # of the other's mask, in each


def test_a_volume_that_the_diameters_contradict_is_no_change(answered) -> None:
    """A mask that runs on through ten more slices has the same diameters where it was read."""
    volume = grid((1, 1, 2), (80, 80, 40))
    centre = np.array([40.0, 40, 40])
    usual = np.zeros(volume.shape_ijk, np.uint8)
    usual[25:55, 25:55, 18:23] = 1
    running_on = usual.copy()
    running_on[25:55, 25:55, 8:33] = 1
    results = [found(answered, volume, mask, centre) for mask in (usual, running_on)]
    change = measured_change(*results, (volume, volume), UNMOVED)
    assert change.volume_ml.percent == pytest.approx(400)
    assert (change.kind, change.volume_ml.verdict) == ("not_comparable", None)
    assert "one of the masks may be wrong" in change.statement


def test_a_ratio_within_its_uncertainty_is_no_change() -> None:
    change = size_change(Uncertain(10, 6, "voxels"), Uncertain(22, 9, "voxels"))
    assert change.difference > change.uncertainty
    assert change.percent < change.percent_uncertainty
    assert change.verdict == "within_uncertainty"


def test_uncertainties_join_as_independent_ones() -> None:
    before = Uncertain(100, 3, "voxels")
    change = size_change(before, Uncertain(104.9, 4, "voxels"))
    assert (change.uncertainty, change.verdict) == (5, "within_uncertainty")
    assert size_change(before, Uncertain(106, 4, "voxels")).verdict == "larger"
    assert size_change(before, Uncertain(94, 4, "voxels")).verdict == "smaller"
    assert change.percent == pytest.approx(4.9)
    # d(after / before), by its two parts
    assert change.percent_uncertainty == pytest.approx(100 * np.hypot(0.04, 1.049 * 0.03))


# --- whose examinations, and which ----------------------------------------------------------------


def body(corner=(0, 0, 0), shape=(80, 80, 40)) -> Volume:
    """An ellipse of water in air."""
    volume = grid((4, 4, 6), shape, corner)
    i, j = np.mgrid[: shape[0], : shape[1]]
    inside = np.hypot((i - 40) / 32, (j - 40) / 24) < 1
    values = np.where(inside[..., None], 40, -1000).astype(np.int16)
    return replace(volume, array=np.broadcast_to(values, shape).copy())


class Asked:
    """Answers by a ball about a place of the patient that is known for each volume."""

    def __init__(self, answered, balls) -> None:
        self.answered, self.balls, self.requests = answered, balls, []

    def __call__(self, volume, request, keep):
        self.requests.append(request)
        centre, radius = self.balls[volume.key]
        inverse = np.linalg.inv(volume.ijk_to_lps)
        place = request.selection.position_lps_mm or centre
        index = round(float((inverse @ [*place, 1])[2]))
        mask = ball(volume, centre, radius)
        name = f"inference-{len(self.requests)}"
        return keep(self.answered(volume, Plane.AXIAL, index, mask, name=name))


def test_both_are_asked_where_the_target_is_and_the_prior_keeps_the_change(
    answered, tmp_path
) -> None:
    current, prior = body(), replace(body((8, -12, 60)), key="prior")
    place = np.array([170.0, 150, 130])
    ask = Asked(answered, {current.key: (place, 30), prior.key: (place, 20)})
    request = AskRequest("Where is it?", SliceSelection(plane="axial"), samples=1)
    now, then = Examination(current, NOW), Examination(prior, THEN)
    comparison = compare(ask, now, then, request, same_space=True)
    first, second = ask.requests
    assert first.propagate
    assert second.propagate
    assert second.query == first.query
    np.testing.assert_allclose(second.selection.position_lps_mm, place, atol=6)
    assert second.selection.window == "40/400"
    assert comparison.prior.prior_of == comparison.told
    assert comparison.current.prior_of is None
    assert comparison.told.current_inference_id == "inference-1"
    assert comparison.told.change.kind == "larger"
    assert (comparison.told.prior_date, comparison.told.current_date) == ("20250301", "20260301")
    again = Inference.from_dict(comparison.prior.to_dict())
    assert again.prior_of == comparison.told
    names = {path.name for path in write_comparison(comparison, current, prior, tmp_path)}
    assert names == {
        "answer_current.json", "mask_current.nii.gz", "overlay_current.png", "answer_prior.json",
        "mask_prior.nii.gz", "overlay_prior.png", "change.json", "side_by_side.png",
    }  # fmt: skip


def test_a_record_from_before_comparisons_reads_as_before(answered) -> None:
    volume = grid((1, 1, 2), (20, 20, 10))
    told = answered(volume, Plane.AXIAL, 3, np.zeros(volume.shape_ijk, np.uint8)).to_dict()
    del told["prior_of"]
    assert Inference.from_dict(told).prior_of is None


def test_a_place_that_the_prior_did_not_examine_is_told(answered) -> None:
    current = body()
    prior = replace(body((0, 0, 0), (80, 80, 16)), key="prior")
    place = np.array([160.0, 160, 200])
    ask = Asked(answered, {current.key: (place, 20), prior.key: (place, 20)})
    request = AskRequest("Where is it?", SliceSelection(plane="axial"))
    with pytest.raises(OutsidePriorError, match="outside the prior"):
        compare(ask, Examination(current), Examination(prior), request,
                same_patient=True, same_space=True)  # fmt: skip


@pytest.mark.parametrize(
    ("told", "stated", "error"),
    [
        ({"patient_id": "8"}, False, "different patients"),
        ({"patient_id": "8"}, True, "different patients"),
        ({"patient_id": ""}, False, "do not tell whose"),
        ({"patient_id": ""}, True, None),
        ({}, False, None),
    ],
)
def test_another_patient_is_refused_whatever_the_user_says(answered, told, stated, error) -> None:
    current, prior = body(), replace(body(), key="prior")
    place = np.array([160.0, 160, 100])
    ask = Asked(answered, {current.key: (place, 30), prior.key: (place, 30)})
    examinations = Examination(current, NOW), Examination(prior, replace(THEN, **told))
    request = AskRequest("Where is it?", SliceSelection(plane="axial"))

    def asked():
        return compare(ask, *examinations, request, same_patient=stated, same_space=True)

    if error is None:
        assert asked().told.change.kind == "within_uncertainty"
    else:
        with pytest.raises(OtherPatientError, match=error) as caught:
            asked()
        assert "8" not in str(caught.value)
        assert ask.requests == []


def test_issuers_tell_patients_of_one_number_apart(answered) -> None:
    facts = [replace(NOW, issuer=issuer) for issuer in ("A", "B")]
    examinations = [Examination(body(), each) for each in facts]
    with pytest.raises(OtherPatientError):
        compare(Asked(answered, {}), *examinations, AskRequest("?"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modality": "MR"}, "one modality"),
        ({"is_picture": True}, "no place in the patient"),
        ({"spacing_known": False}, "no place in the patient"),
    ],
)
def test_what_cannot_be_compared_is_refused(answered, change, words) -> None:
    prior = Examination(replace(body(), **change), THEN)
    with pytest.raises(NotComparableError, match=words):
        compare(Asked(answered, {}), Examination(body(), NOW), prior, AskRequest("?"))


def test_examinations_in_the_wrong_order_are_refused(answered) -> None:
    with pytest.raises(NotComparableError, match="exchange"):
        compare(Asked(answered, {}), Examination(body(), THEN), Examination(body(), NOW),
                AskRequest("?"))  # fmt: skip


def test_facts_are_those_of_the_headers(tmp_path) -> None:
    import pydicom

    from medreasoner_infer.imaging import write_mask
    from monailabel_app.cli.quickstart_study import CtGrid, write_ct_series

    folder = write_ct_series(
        np.zeros((3, 4, 5)), CtGrid((1, 1, 1), (0, 0, 0), np.eye(3)), tmp_path / "ct", seed=4
    )
    header = pydicom.dcmread(folder / "0001.dcm")
    for series_uid in (None, str(header.SeriesInstanceUID)):
        facts = read_facts(folder, series_uid)
        assert facts.patient_id == header.PatientID
        assert facts.frame_of_reference_uid == header.FrameOfReferenceUID
        assert facts.study_date == header.StudyDate
    volume = grid((1, 1, 1), (3, 3, 3))
    nifti = write_mask(np.ones((3, 3, 3), np.uint8), volume, Path(tmp_path / "m.nii.gz"))
    assert read_facts(nifti) == ExaminationFacts()


def test_the_middle_of_the_mask_is_followed_through_a_motion(answered) -> None:
    from medreasoner_infer.priors import corresponding

    volume = grid((1, 1, 2), (80, 80, 40))
    centre = np.array([30.0, 50, 41])
    result = found(answered, volume, ball(volume, centre, 10), centre)
    moved = motion((4, -3, 9), (3, -2, 6), middle_lps_mm(volume))
    alignment = Alignment("rigid", as_matrix(moved))
    selection = corresponding(result, result.mask_ijk, volume, volume, alignment)
    np.testing.assert_allclose(
        selection.position_lps_mm, moved[:3, :3] @ centre + moved[:3, 3], atol=1e-6
    )


def test_positions_of_one_space_need_no_registration() -> None:
    alignment = align(Examination(body()), Examination(body()), same_space=True)
    assert alignment.method == "stated"
    assert alignment.overlap == 1


@pytest.mark.parametrize(
    ("value", "digits", "told"), [(-0.04, 1, "+0.0"), (-0.06, 1, "-0.1"), (2.0, 0, "+2")]
)
def test_what_is_nothing_after_rounding_is_no_loss(value, digits, told) -> None:
    assert signed(value, digits) == told
