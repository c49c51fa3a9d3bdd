# SPDX-License-Identifier: Apache-2.0
"""The options of the checks, as clients and the command line give and get them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monailabel")

from pathlib import Path

from medreasoner_infer.checks import Checks, RemovalTest, StatementCheck
from medreasoner_infer.errors import InputError
from medreasoner_infer.imaging import Volume
from medreasoner_infer.types import EarlierTarget
from monailabel_app.cli.checks import checks_as_lines
from monailabel_app.images.source import ImageSource
from monailabel_app.inference.call import ASK_TASK, Call
from monailabel_app.inference.params import InferParams

LIVER = {"name": "liver", "plane": "axial", "slice": 3, "box": [1, 2, 30, 40]}


@pytest.mark.parametrize("said", [True, "true"])
def test_what_a_client_says_reaches_the_pipeline(said) -> None:
    params = InferParams.parse({"query": "Where?", "removal_test": said, "known": [LIVER]})
    volume = Volume(np.zeros((4, 4, 4), np.int16), np.eye(4), "CT", "key", Path("x"))
    request = Call(ASK_TASK, ImageSource(Path("x.nii.gz")), params).request(volume)
    assert request.removal_test is True
    assert request.known == (EarlierTarget("liver", "axial", 3, (1.0, 2.0, 30.0, 40.0)),)
    plain = InferParams.parse({"query": "Where?", "removal_test": "", "known": []})
    assert (plain.removal_test, plain.known) == (False, ())


@pytest.mark.parametrize(
    "values", [{"removal_test": "perhaps"}, {"known": [{**LIVER, "slice": -2}]}, {"known": [1]},
               {"known": [LIVER] * 33}]
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(values) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        InferParams.parse({"query": "Where?", **values})


def test_the_terminal_tells_each_statement_in_the_models_words() -> None:
    reasoning = "A bright region on the left."
    statements = (
        StatementCheck("brightness", 2, 8, "bright", "holds", "mean 80 HU inside, 40 HU around"),
        StatementCheck("side", 16, 27, "the patient's left", "does not hold", "34 mm right"),
    )
    removal = RemovalTest(False, "present", 0.9, 100, "It does not depend on it.")
    lines = [str(line).strip() for line in checks_as_lines(Checks(statements, removal), reasoning)]
    assert lines == [
        "✓ holds: “bright” (bright): mean 80 HU inside, 40 HU around",
        "✗ does not hold: “on the left” (the patient's left): 34 mm right",
        "It does not depend on it.",
    ]
