# SPDX-License-Identifier: Apache-2.0
"""The simulated reader clicks where it says, and its figures count what they name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from medreasoner_infer.types import SliceImage, SliceMask

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "corrections.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("corrections_simulation", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    # dataclasses looks the module up by its name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


def test_a_click_goes_into_the_middle_of_the_largest_mistake(simulation) -> None:
    truth = np.zeros((20, 30), bool)
    truth[2:9, 3:10] = True
    mask = np.zeros_like(truth)
    mask[15:18, 20:23] = True
    assert simulation.middle_of(simulation.largest_mistake(mask, truth)) == ((6.5, 5.5),)
    mask[2:9, 3:10] = True
    assert simulation.middle_of(simulation.largest_mistake(mask, truth)) == ((21.5, 16.5),)
    assert simulation.largest_mistake(truth, truth) is None


def test_a_scribble_goes_through_the_core_of_the_largest_mistake_from_end_to_end(
    simulation,
) -> None:
    truth = np.zeros((20, 40), bool)
    truth[4:9, 3:35] = True
    stroke = simulation.stroke_through(simulation.largest_mistake(np.zeros_like(truth), truth))
    assert len(stroke) == simulation.PLACES_OF_STROKE
    assert {y for _, y in stroke} == {6.5}
    columns = sorted(x for x, _ in stroke)
    assert columns[0] < 10
    assert columns[-1] > 28


def test_the_figures_of_readings(simulation) -> None:
    readings = [
        simulation.Reading("a", (0.5, 0.86, 0.84, 0.91)),
        simulation.Reading("b", (0.8, 0.795, 0.82, 0.83)),
    ]
    found = simulation.figures(readings)
    assert found["dice_after"] == {"0": 0.65, "1": 0.8275, "3": 0.87, "5": 0.87}
    assert found["mean_clicks_to"] == {"0.85": 2.5, "0.90": 3.5}
    assert found["reached"] == {"0.85": 0.5, "0.90": 0.5}
    assert (found["clicks"], found["share_of_clicks_that_lower"]) == (6, round(1 / 6, 4))
    assert found["largest_loss"] == pytest.approx(0.02)


def test_both_semantics_are_measured_by_the_same_reader(simulation) -> None:
    """A segmenter that fills the box and knows no mask prompt, on a disc."""

    class Filling:
        def segment_slice(self, image, prompt):
            x1, y1, x2, y2 = (round(edge) for edge in prompt.bbox_xyxy_px)
            mask = np.zeros(image.shape_hw, bool)
            mask[y1:y2, x1:x2] = True
            return SliceMask(mask, 0.5)

    rows, columns = np.mgrid[:60, :60] + 0.5
    truth = np.hypot(rows - 30, columns - 28) < 17
    case = simulation.Case("disc", SliceImage(np.zeros((60, 60), np.uint8), (1.0, 1.0), "d"), truth)
    read = {
        name: simulation.read_case(case, Filling(), make(Filling()), 5, seed=3).scores
        for name, make in simulation.SEMANTICS.items()
    }
    joining = simulation.joining(Filling())
    scribbled = simulation.read_case(case, Filling(), joining, 5, seed=3, marks="scribble").scores
    assert scribbled[0] == read["joining"][0]
    assert scribbled[-1] > scribbled[0] + 0.02
    assert read["joining"][0] == read["replacing"][0]
    assert len(set(read["replacing"])) == 1
    assert (np.diff(read["joining"]) >= 0).all()
    assert read["joining"][-1] > read["joining"][0] + 0.02
