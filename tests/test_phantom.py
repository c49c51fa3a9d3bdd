# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.imaging import Plane, Volume, slice_mapping
from medreasoner_infer.imaging import letterbox as library_letterbox
from medreasoner_infer.types import SliceImage
from medreasoner_training.embedded.phantom import (
    Label,
    Phase,
    SliceGrid,
    Tissue,
    render_section,
    sample_image,
    sample_torso,
    torso_ct,
)
from medreasoner_training.embedded.phantom.anatomy import Tube
from medreasoner_training.embedded.phantom.canvas import tube_section
from medreasoner_training.embedded.phantom.scanner import apply_window, letterbox
from medreasoner_training.embedded.phantom.tissues import sample_hu_table
from medreasoner_training.embedded.phantom.torso import Variation

GRID = SliceGrid((120, 128), 3.2)


def centroid_xy(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


@pytest.fixture(scope="module")
def study():
    return torso_ct(seed=4, spacing_mm=(3.2, 3.2, 8.0), matrix=128)


def test_equal_seeds_give_equal_images():
    first, second = (sample_image(np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.grey, second.grey)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_different_seeds_give_different_images():
    first, second = (sample_image(np.random.default_rng(seed)) for seed in (7, 8))
    assert (first.grey != second.grey).any()


def test_image_is_a_square_of_bytes():
    image = sample_image(np.random.default_rng(3), 128)
    assert image.grey.shape == image.labels.shape == (128, 128)
    assert image.grey.dtype == image.labels.dtype == np.uint8


@pytest.mark.parametrize("seed", range(6))
def test_liver_lies_on_the_left_of_the_image_and_spleen_on_the_right(seed):
    torso = sample_torso(np.random.default_rng(seed))
    section = render_section(torso, 310.0 * torso.height_scale, GRID)
    liver_x, _ = centroid_xy(section.labels == Label.LIVER)
    assert liver_x < 64
    spleen = section.labels == Label.SPLEEN
    if spleen.any():
        assert centroid_xy(spleen)[0] > 64


@pytest.mark.parametrize("seed", range(6))
def test_spine_lies_behind_the_aorta_and_the_vena_cava_right_of_it(seed):
    torso = sample_torso(np.random.default_rng(seed))
    labels = render_section(torso, 300.0 * torso.height_scale, GRID).labels
    spine, aorta, cava = (
        centroid_xy(labels == label) for label in (Label.SPINE, Label.AORTA, Label.VENA_CAVA)
    )
    assert spine[1] > aorta[1] + 5
    assert cava[0] < aorta[0]


def test_right_and_left_lung_lie_on_their_sides(study):
    for label, is_right in ((Label.RIGHT_LUNG, True), (Label.LEFT_LUNG, False)):
        k, j, i = (int(axis.mean()) for axis in np.nonzero(study.labels == label))
        x_lps_mm = (study.ijk_to_lps @ [i, j, k, 1])[0]
        assert bool(x_lps_mm < 0) is is_right


def test_bladder_lies_below_the_kidneys_and_these_below_the_heart(study):
    height = {
        label: np.nonzero(study.labels == label)[0].mean()
        for label in (Label.BLADDER, Label.RIGHT_KIDNEY, Label.HEART)
    }
    assert height[Label.BLADDER] < height[Label.RIGHT_KIDNEY] < height[Label.HEART]


@pytest.mark.parametrize(
    ("label", "low_hu", "high_hu"),
    [
        (Label.LIVER, 30, 160),
        (Label.RIGHT_LUNG, -950, -600),
        (Label.SPINE, 100, 700),
        (Label.BLADDER, -20, 40),
    ],
)
def test_mean_ct_number_of_an_organ_is_in_its_range(study, label, low_hu, high_hu):
    assert low_hu < study.hu[study.labels == label].mean() < high_hu


def test_contrast_agent_brightens_the_aorta():
    native, arterial = (
        torso_ct(5, (4.0, 4.0, 20.0), 100, (230.0, 300.0), 5.0, phase)
        for phase in (Phase.NATIVE, Phase.ARTERIAL)
    )
    aorta = native.labels == Label.AORTA
    assert arterial.hu[aorta].mean() > native.hu[aorta].mean() + 80


def test_study_geometry_agrees_with_its_spacing():
    study = torso_ct(1, (2.5, 2.5, 10.0), 96, (100.0, 200.0))
    assert study.hu.dtype == np.int16
    assert study.hu.shape == study.labels.shape
    assert study.hu.shape[1:] == (96, 96)
    affine = study.ijk_to_lps
    np.testing.assert_allclose(np.diag(affine), [2.5, 2.5, 10.0, 1.0])
    np.testing.assert_allclose(affine[0, 3], -(96 - 1) / 2 * 2.5)
    assert set(study.label_names) == set(np.unique(study.labels)) - {0}


def test_study_rejects_pixels_that_are_not_square():
    with pytest.raises(ValueError, match="first two equal"):
        torso_ct(1, (1.0, 2.0, 5.0))


def test_labels_only_lie_inside_the_body():
    torso = sample_torso(np.random.default_rng(11))
    for z_mm in (50.0, 250.0, 330.0, 450.0):
        section = render_section(torso, z_mm, GRID)
        assert not (section.labels[section.tissue == Tissue.AIR]).any()


def test_tube_is_interpolated_between_its_stations():
    tube = Tube(
        "x", Tissue.SOFT, Label.BACKGROUND, ((0, 0.0, 0.2, 0.1, 0.3), (10, 0.4, 0.2, 0.3, 0.3))
    )
    assert tube_section(tube, Variation(), 5.0) == pytest.approx((0.2, 0.2, 0.2, 0.3))
    assert tube_section(tube, Variation(), 11.0) is None
    assert tube_section(tube, Variation(absent=True), 5.0) is None
    moved = Variation(shift_uv=(0.1, -0.1), scale_uv=(2.0, 1.0), shift_z_mm=2.0)
    assert tube_section(tube, moved, 7.0) == pytest.approx((0.3, 0.1, 0.4, 0.3))


def test_window_maps_its_edges_to_black_and_white():
    hu = np.array([[-200.0, -160.0, 40.0, 240.0, 500.0]])
    np.testing.assert_array_equal(apply_window(hu, 40.0, 400.0), [[0, 0, 127, 255, 255]])


def test_letterbox_centres_a_wide_image_and_keeps_labels():
    grey = np.full((32, 64), 200, np.uint8)
    labels = np.zeros((32, 64), np.uint8)
    labels[:, 32:] = Label.LIVER
    square, square_labels = letterbox(grey, labels, 128)
    assert (square[:32] == 0).all()
    assert (square[96:] == 0).all()
    assert (square[32:96] == 200).all()
    assert (square_labels[32:96, 64:] == Label.LIVER).all()
    assert not square_labels[:, :64].any()


@pytest.mark.parametrize("shape_hw", [(101, 122), (200, 160), (64, 64)])
def test_letterbox_agrees_with_that_of_the_inference_library(shape_hw):
    rows, columns = shape_hw
    grey = np.random.default_rng(0).integers(0, 256, shape_hw).astype(np.uint8)
    volume = Volume(grey.T[..., None].astype(np.int16), np.eye(4), "CT", "content", Path("image"))
    mapping = slice_mapping(volume, Plane.ACQUIRED, 0, model_size=128)
    expected = library_letterbox(SliceImage(grey, (1.0, 1.0), "key"), mapping)
    ours, _ = letterbox(grey, np.zeros((rows, columns), np.uint8), 128)
    np.testing.assert_array_equal(ours, expected[..., 0])


def test_hu_table_keeps_the_order_of_densities():
    for seed in range(20):
        table = sample_hu_table(np.random.default_rng(seed), Phase.NATIVE)
        assert table[Tissue.GAS] < table[Tissue.LUNG] < table[Tissue.FAT]
        assert table[Tissue.FAT] < table[Tissue.URINE] < table[Tissue.CORTICAL_BONE]
