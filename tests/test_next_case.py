# SPDX-License-Identifier: Apache-2.0
"""Which image is offered next, by what is known of all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreasoner_infer.imaging import Volume
from medreasoner_training.next_case import (
    FEATURES,
    Case,
    Kind,
    Ranked,
    Reading,
    Strategy,
    appearance,
    pick,
    ranked,
)


def case(name: str, patient: str = "", *, feature=None, readings=(), **sorts: str) -> Case:
    vector = None if feature is None else np.array(feature, np.float32)
    told = {Kind[kind.upper()]: frozenset([value]) for kind, value in sorts.items()}
    return Case(name, patient or name, told, tuple(readings), vector)


def names(order: list[Ranked]) -> list[str]:
    return [each.case.image_id for each in order]


def volume(array: np.ndarray) -> Volume:
    from pathlib import Path

    return Volume(array, np.eye(4), "OT", "key", Path("picture"))


def test_what_is_probably_wrong_comes_before_what_is_unread_and_that_before_what_is_right() -> None:
    waiting = [
        case("sure", readings=[Reading(probability=0.9)]),
        case("unread"),
        case("doubtful", readings=[Reading(probability=0.95), Reading(probability=0.2)]),
        case("puzzled", readings=[Reading(understood=False)]),
    ]
    order = ranked(Strategy.UNCERTAINTY, waiting, [])
    assert names(order) == ["puzzled", "doubtful", "unread", "sure"]
    assert "20%" in order[1].reason
    assert order[2].reason.startswith("The model has not read it yet")


def test_the_models_own_figure_without_a_calibration_is_no_doubt() -> None:
    order = ranked(Strategy.UNCERTAINTY, [case("a", readings=[Reading(agreement=0.1)])], [])
    assert order[0].reason.startswith("No calibrated answer about it is recorded")
    order = ranked(Strategy.DISAGREEMENT, [case("a", readings=[Reading(probability=0.1)])], [])
    assert order[0].reason.startswith("Only single answers about it are recorded")


def test_of_sampled_answers_those_that_differ_most_come_first() -> None:
    waiting = [
        case("same", readings=[Reading(agreement=1.0)]),
        case("other", readings=[Reading(agreement=0.9), Reading(agreement=0.3)]),
    ]
    order = ranked(Strategy.DISAGREEMENT, waiting, [])
    assert names(order) == ["other", "same"]
    assert order[0].reason == "Sampled answers about it agree to 30%."


def test_the_support_for_an_answer_counts_before_how_far_samples_agree() -> None:
    waiting = [
        case("agreed", readings=[Reading(agreement=0.9)]),
        case("backed", readings=[Reading(agreement=0.2, support=0.95)]),
        case("alone", readings=[Reading(agreement=1.0, support=0.4)]),
    ]
    order = ranked(Strategy.DISAGREEMENT, waiting, [])
    assert names(order) == ["alone", "agreed", "backed"]
    assert order[0].reason == "The support for the answer about it is 40%."
    assert [each.score for each in order] == pytest.approx([0.6, 0.1, 0.05])
    assert names(ranked(Strategy.COMBINED, waiting, [])) == names(order)


def test_what_has_fewest_approved_masks_comes_first_and_is_named_by_its_code() -> None:
    approved = [case(f"ct{n}", modality="CT") for n in range(3)] + [case("mr0", modality="MR")]
    waiting = [case("ct", modality="CT"), case("mr", modality="MR"), case("us", modality="US")]
    order = ranked(Strategy.COVERAGE, waiting, approved)
    assert names(order) == ["us", "mr", "ct"]
    assert order[0].reason == "Nothing of modality US is approved or with a reader."
    assert order[1].reason == "Only 1 of modality MR is approved or with a reader."


def test_a_scanner_is_counted_and_never_named() -> None:
    approved = [case("a", modality="CT", scanner="known")]
    waiting = [case("b", modality="CT", scanner="known"), case("c", modality="CT", scanner="new")]
    order = ranked(Strategy.COVERAGE, waiting, approved)
    assert names(order) == ["c", "b"]
    assert order[0].reason == "Nothing of its scanner is approved or with a reader."


def test_what_looks_farthest_from_everything_approved_comes_first() -> None:
    approved = [case("a", feature=[0, 0]), case("b", feature=[10, 0])]
    waiting = [
        case("near", feature=[0, 1]),
        case("between", feature=[5, 0]),
        case("far", feature=[5, 9]),
        case("unseen"),
    ]
    order = ranked(Strategy.NOVELTY, waiting, approved)
    assert names(order)[0] == "far"
    assert names(order).index("between") < names(order).index("near")
    assert order[0].score == pytest.approx(1)


def test_farthest_first_is_as_a_plain_search_of_k_centres() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 5)).astype(np.float32)
    waiting = {f"{n:02d}": case(f"{n:02d}", feature=point) for n, point in enumerate(points)}
    covered = [waiting.pop("00")]
    for _ in range(6):
        scale = points.std(axis=0)
        far = max(
            waiting.values(),
            key=lambda c: min(np.linalg.norm((c.feature - o.feature) / scale) for o in covered),
        )
        assert names(ranked(Strategy.NOVELTY, list(waiting.values()), covered))[0] == far.image_id
        covered.append(waiting.pop(far.image_id))


def test_the_first_of_all_is_typical_and_no_outlier() -> None:
    waiting = [case("odd", feature=[99, 99]), *(case(f"{n}", feature=[n, 1]) for n in range(5))]
    order = ranked(Strategy.NOVELTY, waiting, [])
    assert names(order)[-1] == "odd"
    assert order[0].reason == "Nothing is approved yet and it is typical of the images that wait."


def test_combined_prefers_what_several_speak_for() -> None:
    approved = [case("a", feature=[0, 0], modality="CT")]
    waiting = [
        case("one", feature=[0, 0], modality="CT", readings=[Reading(probability=0.0)]),
        case("all", feature=[9, 9], modality="US", readings=[Reading(probability=0.1)]),
        case("none", feature=[0, 0], modality="CT", readings=[Reading(probability=1.0)]),
    ]
    assert names(ranked(Strategy.COMBINED, waiting, approved)) == ["all", "one", "none"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.one_of(st.none(), st.floats(0, 1)),
            st.one_of(st.none(), st.floats(0, 1)),
            st.sampled_from(["", "CT", "MR"]),
            st.one_of(st.none(), st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))),
        ),
        max_size=8,
    ),
    st.integers(0, 8),
    st.sampled_from(Strategy),
)
def test_every_waiting_image_has_one_place_a_finite_score_and_a_sentence(
    told, covered, strategy
) -> None:
    cases = [
        Case(
            f"secret-{place}",
            f"patient-{patient}",
            {Kind.MODALITY: frozenset([modality])} if modality else {},
            () if chance is None and share is None else (Reading(True, chance, share),),
            None if feature is None else np.array(feature, np.float32),
        )
        for place, (patient, chance, share, modality, feature) in enumerate(told)
    ]
    waiting, rest = cases[covered:], cases[:covered]
    order = ranked(strategy, waiting, rest)
    assert sorted(names(order)) == sorted(each.image_id for each in waiting)
    for each in order:
        assert -1e-6 <= each.score <= 1 + 1e-6
        assert each.reason.endswith(".")
        assert each.reason[0].isupper()
        assert "secret" not in each.reason
        assert "patient" not in each.reason


def test_no_patient_comes_twice_in_a_row_while_others_wait() -> None:
    patients = ["a"] * 4 + ["b"] * 2 + ["c"]
    waiting = {str(n): case(str(n), patient) for n, patient in enumerate(patients)}
    seen: list[str] = []
    while waiting:
        order = ranked(Strategy.COMBINED, list(waiting.values()), [])
        chosen = pick(order, seen[-1:])
        assert chosen is not None
        others = {each.patient for each in waiting.values()} - set(seen[-1:])
        assert chosen.case.patient in others or not others
        seen.append(waiting.pop(chosen.case.image_id).patient)
    assert all(one != two for one, two in itertools.pairwise(seen[:5]))


def test_of_nothing_nothing_is_offered() -> None:
    assert pick(ranked(Strategy.COMBINED, [], [case("a")]), []) is None


# --- appearance -----------------------------------------------------------------------------------


def checkers(side: int, cells: int) -> np.ndarray:
    place = np.arange(side) * cells // side
    return ((place[:, None] + place[None, :]) % 2 * 200.0)[..., None]


def distance(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.linalg.norm(appearance(volume(one)) - appearance(volume(two))))


def test_a_brighter_noisier_or_larger_copy_is_nearer_than_another_texture() -> None:
    rng = np.random.default_rng(0)
    image = checkers(128, 4)
    copies = [image * 3 + 500, image + rng.normal(0, 4, image.shape), checkers(256, 4)]
    assert max(distance(image, copy) for copy in copies) < distance(image, checkers(128, 32)) / 2


def test_colour_is_told_from_grey() -> None:
    grey = np.repeat(checkers(64, 4)[..., None], 3, axis=-1).astype(np.uint8)
    red = grey * np.array([1, 0, 0], np.uint8)
    assert distance(grey, red) > 0.2


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 1, 1)),
        np.full((5, 3, 40), np.nan),
        np.array([[[-np.inf, np.inf, 1e300, -1e300]]]),
        np.zeros((2, 2, 2, 3), np.uint8),
        np.random.default_rng(0).normal(size=(30, 31, 7)),
    ],
)
def test_every_image_has_finite_figures(array) -> None:
    found = appearance(volume(array))
    assert found.shape == (FEATURES,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
