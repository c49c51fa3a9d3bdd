# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.errors import ImageKindError, InputError
from medreasoner_infer.imaging import Volume, Window, apply_window, choose_window, parse_window
from medreasoner_infer.imaging.window import percentile_window


def volume_of(array: np.ndarray, modality: str = "CT", **changes: object) -> Volume:
    return Volume(array, np.eye(4), modality, key="k", source=Path("image"), **changes)


def test_soft_tissue_maps_known_hounsfield_values_to_literal_grey_levels() -> None:
    hounsfield = np.array([-1000, -160, -159, 0, 40, 60, 239, 240, 3000], dtype=np.int16)
    grey = apply_window(hounsfield, Window(40, 400))
    # black at -160, white at 240, 400 HU over 255 grey levels
    assert grey.tolist() == [0, 0, 1, 102, 128, 140, 254, 255, 255]
    assert grey.dtype == np.uint8


def test_linear_exact_needs_no_integer_width() -> None:
    assert apply_window(np.array([0.1, 0.3, 0.5]), Window(0.3, 0.4)).tolist() == [0, 128, 255]


def test_inverted_shows_the_lowest_value_white() -> None:
    assert apply_window(np.array([-160, 240]), Window(40, 400), inverted=True).tolist() == [255, 0]


def test_without_a_window_8_bit_values_stay_and_others_are_refused() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert np.array_equal(apply_window(values, None), values)
    assert np.array_equal(apply_window(values, None, inverted=True), 255 - values)
    with pytest.raises(InputError, match="int16 need a window"):
        apply_window(np.zeros(2, dtype=np.int16), None)


@pytest.mark.parametrize(
    ("spec", "center", "width"),
    [
        ("soft_tissue", 40, 400),
        ("Soft tissue", 40, 400),
        ("lung", -600, 1500),
        ("bone", 400, 1800),
        ("brain", 40, 80),
        ("liver", 30, 150),
        ("mediastinum", 50, 350),
        ("40/400", 40, 400),
        (" -600 / 1500 ", -600, 1500),
        ("c=40,w=400", 40, 400),
        ("center=0.5; width=.25", 0.5, 0.25),
        ("1e2/2.5e1", 100, 25),
    ],
)
def test_window_texts(spec: str, center: float, width: float) -> None:
    window = parse_window(spec)
    assert window is not None
    assert (window.center, window.width) == (center, width)


@pytest.mark.parametrize("spec", [None, "", " ", "auto", "AUTO"])
def test_no_window_text_leaves_the_choice_to_the_modality(spec: str | None) -> None:
    assert parse_window(spec) is None


@pytest.mark.parametrize("spec", ["lungs", "40", "40/400/1", "40-400", "nan/400", "w=400,c=40"])
def test_unknown_window_texts_are_refused_with_the_presets_named(spec: str) -> None:
    with pytest.raises(InputError, match="Expected one of soft_tissue, lung, bone, brain"):
        parse_window(spec)


@pytest.mark.parametrize("spec", ["40/0", "40/-400"])
def test_a_width_of_zero_or_less_is_refused(spec: str) -> None:
    with pytest.raises(InputError, match="width above 0"):
        parse_window(spec)


def test_ct_defaults_to_soft_tissue() -> None:
    window = choose_window(volume_of(np.zeros((2, 2, 2), dtype=np.int16)))
    assert window == Window(40, 400, "soft_tissue")


def test_mr_defaults_to_percentiles_of_the_non_zero_voxels() -> None:
    # 1000 zeros of background and the values 1...1000: percentiles by hand are 5.995 and 995.005
    values = np.concatenate([np.zeros(1000), np.arange(1, 1001)]).astype(np.int16)
    window = choose_window(volume_of(values.reshape(20, 10, 10), "MR"))
    assert window is not None
    assert window.lower == pytest.approx(5.995)
    assert window.upper == pytest.approx(995.005)


def test_values_below_zero_count_among_the_percentiles() -> None:
    # 1000 zeros and the values -500...-1, 1...500, such as phase or subtraction images hold. Of
    # those 1000 values the 0.5th percentile lies 4.995 steps above -500, the 99.5th below 500.
    values = np.concatenate([np.zeros(1000), np.arange(-500, 0), np.arange(1, 501)])
    window = percentile_window(values.reshape(20, 10, 10))
    assert window.lower == pytest.approx(-495.005)
    assert window.upper == pytest.approx(495.005)
    assert window.name == "0.5–99.5 %"


def test_percentiles_of_a_constant_image_give_a_usable_window() -> None:
    assert percentile_window(np.full((3, 3, 3), 7)).width == 1.0
    assert percentile_window(np.zeros((3, 3, 3))).center == 0.0


def test_thinning_of_a_large_image_keeps_its_percentiles() -> None:
    values = np.random.default_rng(1).normal(500, 100, (260, 250, 90)).astype(np.float32)
    window = percentile_window(values)
    low, high = np.percentile(values, [0.5, 99.5])
    assert abs(window.lower - low) < 3
    assert abs(window.upper - high) < 3


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 4, 1, 3)])
def test_8_bit_and_colour_are_shown_as_they_are(shape: tuple[int, ...]) -> None:
    assert choose_window(volume_of(np.zeros(shape, dtype=np.uint8), "OT")) is None


def test_an_explicit_window_wins_over_the_modality() -> None:
    volume = volume_of(np.zeros((2, 2, 2), dtype=np.int16), "MR")
    assert choose_window(volume, "100/200") == Window(100, 200)
    assert choose_window(volume, Window(1, 2, "mine")) == Window(1, 2, "mine")


def test_the_stored_window_is_used_on_request_only() -> None:
    array = np.zeros((2, 2, 2), dtype=np.int16)
    stored = Window(35, 350, "stored")
    assert choose_window(volume_of(array, stored_window=stored), "stored") == stored
    assert choose_window(volume_of(array, stored_window=stored)).name == "soft_tissue"
    with pytest.raises(InputError, match="stores no window"):
        choose_window(volume_of(array), "stored")


def test_a_ct_preset_is_refused_for_mr_and_any_window_for_colour() -> None:
    with pytest.raises(ImageKindError, match="Hounsfield units, but this image is MR"):
        choose_window(volume_of(np.zeros((2, 2, 2), dtype=np.int16), "MR"), "lung")
    with pytest.raises(ImageKindError, match="colour image"):
        choose_window(volume_of(np.zeros((2, 2, 1, 3), dtype=np.uint8), "OT"), "40/400")


def test_a_window_reads_as_a_person_would_write_it() -> None:
    assert str(Window(40, 400, "soft_tissue")) == "soft tissue (C 40 / W 400)"
    assert str(Window(0.5, 1500)) == "C 0.5 / W 1500"


def _spread(low: int, high: int, count: int = 2001) -> np.ndarray:
    return np.linspace(low, high, count).round()


def test_both_ends_of_a_padding_range_are_padding() -> None:
    values = np.concatenate([_spread(100, 200), np.full(200, 1000), np.full(200, 2000)])
    window = percentile_window(values, padding=[(1000, 2000)])
    assert (window.center, window.width) == pytest.approx((150.0, 100.0), abs=1.5)


@pytest.mark.parametrize(
    ("fill", "share", "tissue", "expected"),
    [
        (-2000, 0.10, (100, 200), (100, 200)),  # negative below what is not: at any distance
        (-1, 0.10, (0, 200), (0, 200)),
        (-2000, 0.008, (100, 200), (-2000, 200)),  # too few to be filled in
        (-150, 0.05, (-100, 100), (-150, 100)),  # near others that are negative: a tissue
        (-32768, 0.05, (-100, 100), (-100, 100)),  # far from them: filled in
        (-880, 0.05, (-100, 100), (-880, 100)),  # less than four times as far as they are wide
        (65535, 0.05, (10, 200), (10, 200)),
        (60000, 0.05, (10, 200), (10, 60000)),  # not the highest of 16 bits: maybe metal
    ],
)
def test_a_constant_filled_in_around_the_image_is_no_tissue(
    fill: int, share: float, tissue: tuple[int, int], expected: tuple[int, int]
) -> None:
    inside = _spread(*tissue)
    filled = np.full(round(len(inside) * share / (1 - share)) + 1, fill)
    window = percentile_window(np.concatenate([inside, filled]))
    ends = window.center - window.width / 2, window.center + window.width / 2
    assert ends == pytest.approx(expected, abs=max(2.0, 0.02 * (tissue[1] - tissue[0])))
