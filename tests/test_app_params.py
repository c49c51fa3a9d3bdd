# SPDX-License-Identifier: Apache-2.0
"""Request parameters and settings as clients really send them."""

from __future__ import annotations

from pathlib import Path

import pytest

from medreasoner_infer.errors import InputError
from medreasoner_infer.request import Click, SliceSelection
from medreasoner_infer.types import EarlierTarget
from monailabel_app.errors import SettingsError
from monailabel_app.inference.params import InferParams, OutputFormat
from monailabel_app.settings import AppSettings

SLICER_UNTOUCHED = {
    "query": "",
    "plane": "default",
    "window": "",
    "slice": "",
    "position": "",
    "propagate": False,
    "samples": 1,
    "client_id": "user-xyz",
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
    "result_compress": False,
}

ABOUT = {"name": " liver ", "plane": "axial", "slice": 3, "box": [8, 2.5, 24, 12]}


def test_what_slicer_sends_untouched_means_nothing_given() -> None:
    parsed = InferParams.parse(SLICER_UNTOUCHED)
    assert parsed == InferParams(output=OutputFormat(".nrrd", "uint8", False))


def test_keys_that_are_not_ours_are_left_alone() -> None:
    assert InferParams.parse({"device": 3, "label_info": [], "logging": None}) == InferParams()


@pytest.mark.parametrize(
    ("values", "selection"),
    [
        ({"slice": 8}, SliceSelection(index=8)),
        ({"slice": "8"}, SliceSelection(index=8)),
        ({"slice": 8.0}, SliceSelection(index=8)),
        ({"slice": 0}, SliceSelection(index=0)),
        ({"slice": -1}, SliceSelection()),
        ({"slice": None}, SliceSelection()),
        ({"slice": "  "}, SliceSelection()),
        ({"position": [1, -2.5, 3]}, SliceSelection(position_lps_mm=(1.0, -2.5, 3.0))),
        ({"position": "1,-2.5,3"}, SliceSelection(position_lps_mm=(1.0, -2.5, 3.0))),
        ({"position": "[1.0, -2.5, 3]"}, SliceSelection(position_lps_mm=(1.0, -2.5, 3.0))),
        ({"position": "1 -2.5 3"}, SliceSelection(position_lps_mm=(1.0, -2.5, 3.0))),
        ({"position": ["1", "2", "3"]}, SliceSelection(position_lps_mm=(1.0, 2.0, 3.0))),
        ({"plane": "Coronal"}, SliceSelection(plane="coronal")),
        ({"plane": "default"}, SliceSelection()),
        ({"window": " lung "}, SliceSelection(window="lung")),
        ({"window": "40/400"}, SliceSelection(window="40/400")),
    ],
)
def test_the_slice_is_read(values, selection) -> None:
    assert InferParams.parse(values).selection == selection


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), ("true", True), ("Yes", True), (1, True), ("on", True), (False, False),
     ("false", False), ("0", False), (0, False), ("", False), (None, False)],
)  # fmt: skip
def test_truth_values_are_read(value, expected) -> None:
    assert InferParams.parse({"propagate": value}).propagate is expected


def test_what_a_question_is_about_is_read() -> None:
    about = InferParams.parse({"about": ABOUT}).about
    assert about == EarlierTarget("liver", "axial", 3, (8.0, 2.5, 24.0, 12.0))
    without_box = {key: value for key, value in ABOUT.items() if key != "box"}
    assert InferParams.parse({"about": without_box}).about.bbox_xyxy_slice_px is None
    assert InferParams.parse({"about": ""}).about is None


def test_foreground_clicks_come_after_background_clicks() -> None:
    values = {"foreground": [[80, 31, 8], [1, 2, 3.5]], "background": "[[4, 5, 6]]"}
    assert InferParams.parse(values).clicks == (
        Click((4.0, 5.0, 6.0), positive=False),
        Click((80.0, 31.0, 8.0), positive=True),
        Click((1.0, 2.0, 3.5), positive=True),
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"slice": "eight"}, "'slice' is 'eight'; expected a whole number"),
        ({"slice": 2.5}, "'slice' is 2.5; expected a whole number"),
        ({"slice": True}, "'slice' is True; expected a whole number"),
        ({"slice": -2}, "'slice' is -2; expected -1 or more"),
        ({"slice": [8]}, "expected a whole number"),
        ({"slice": "nan"}, "expected a whole number"),
        ({"slice": "1e400"}, "expected a whole number"),
        ({"plane": "axal"}, "expected one of: default, axial, coronal, sagittal"),
        ({"plane": 1}, "'plane' is of type int; expected a text"),
        ({"position": "1,2"}, "LPS millimetres"),
        ({"position": "1,2,3,4"}, "LPS millimetres"),
        ({"position": "1,2,inf"}, "LPS millimetres"),
        ({"position": {"x": 1}}, "LPS millimetres"),
        ({"position": 5}, "LPS millimetres"),
        ({"slice": 3, "position": "1,2,3"}, "give one of them"),
        ({"propagate": "maybe"}, "'propagate' is 'maybe'; expected true or false"),
        ({"samples": "many"}, "'samples' is 'many'"),
        ({"foreground": [[1, 2]]}, r"\[\[i, j, k\], ...\]"),
        ({"foreground": [1, 2, 3]}, r"\[\[i, j, k\], ...\]"),
        ({"foreground": "[[1, 2, 3]"}, r"\[\[i, j, k\], ...\]"),
        ({"background": {"a": 1}}, "'background'"),
        ({"result_extension": ".exe"}, "'result_extension' is '.exe'; expected one of"),
        ({"result_dtype": "complex64"}, "'result_dtype'"),
        ({"query": 7}, "'query' is of type int; expected a text"),
        ({"about": "liver"}, "'about': Input should be"),
        ({"about": {"name": "liver", "plane": "axial"}}, "'about.slice': Field required"),
        ({"about": {**ABOUT, "id": 1}}, "'about.id': Extra inputs are not permitted"),
        ({"about": {**ABOUT, "name": "x" * 65}}, "'about.name': String should have at most 64"),
        ({"about": {**ABOUT, "name": "a\nb"}}, "'about.name': expected one line of text"),
        ({"about": {**ABOUT, "name": 7}}, "'about.name': Input should be a valid string"),
        ({"about": {**ABOUT, "plane": "default"}}, "expected one of: axial, coronal, sagittal"),
        ({"about": {**ABOUT, "slice": -1}}, "'about.slice': Input should be greater"),
        ({"about": {**ABOUT, "slice": True}}, "'about.slice': Input should be a valid integer"),
        ({"about": {**ABOUT, "box": [1, 2, 3]}}, "four numbers x1,y1,x2,y2 in px of the slice"),
        ({"about": {**ABOUT, "box": [1, 2, 3, 1e9]}}, "'about.box.3': Input should be less"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(values, said) -> None:
    with pytest.raises(InputError, match=said):
        InferParams.parse(values)


def test_a_refused_question_is_not_repeated() -> None:
    with pytest.raises(InputError) as caught:
        InferParams.parse({"query": ["where is the tumour of John Doe"]})
    assert "tumour" not in str(caught.value)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(InputError) as caught:
        InferParams.parse({"slice": "9" * 500 + "x"})
    assert len(str(caught.value)) < 160


# --- settings ------------------------------------------------------------------------------------


def test_settings_read_the_texts_of_the_command_line() -> None:
    conf = {
        "reasoner": "medreasoner-7b", "device": "cuda:1", "reasoner_url": "http://gpu:8001/v1",
        "preload": "true", "max_waiting": "3", "data_dir": "/srv/records", "segmenter": "",
        "parallel_questions": "4",
    }  # fmt: skip
    assert AppSettings.from_conf(conf) == AppSettings(
        reasoner="medreasoner-7b",
        device="cuda:1",
        reasoner_url="http://gpu:8001/v1",
        preload=True,
        parallel_questions=4,
        max_waiting=3,
        data_dir=Path("/srv/records"),
    )


def test_settings_keep_the_defaults_of_a_sample_app() -> None:
    defaults = AppSettings(reasoner="a", segmenter="b")
    read = AppSettings.from_conf({"segmenter": "c", "server_mode": "true"}, defaults)
    assert (read.reasoner, read.segmenter) == ("a", "c")


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"resoner": "embedded"}, "'resoner' is unknown.*Did you mean 'reasoner'"),
        ({"device": "gpu"}, "device is 'gpu'; expected auto, cpu, mps, cuda or cuda:N"),
        ({"preload": "perhaps"}, "'preload'"),
        ({"max_waiting": "-1"}, "expected 0 or more"),
        ({"parallel_questions": "0"}, "expected 1 or more"),
        ({"volume_cache_mb": "lots"}, "whole number"),
        ({"reasoner_url": "gpu:8001"}, "http://"),
    ],
)
def test_unusable_settings_are_refused_by_name(conf, said) -> None:
    with pytest.raises(SettingsError, match=said):
        AppSettings.from_conf(conf)
