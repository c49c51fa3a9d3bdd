# SPDX-License-Identifier: Apache-2.0
"""Which licences keep a row out of a training, wherever it is asked."""

from __future__ import annotations

import pytest

from medreasoner_training.licences import is_non_commercial, may_train


@pytest.mark.parametrize(
    "licence",
    ["CC-BY-NC-4.0", "CC_BY_NC_SA", "Non-Commercial", "noncommercial use", "for research only",
     "research and education only (see the card)", "academic use only", "evaluation only"],
)  # fmt: skip
def test_a_restricted_licence_is_never_trained_on_whatever_was_told(licence) -> None:
    assert is_non_commercial(licence)
    assert may_train(licence, True) is False


@pytest.mark.parametrize("licence", ["CC-BY-4.0", "CC0-1.0", "MIT", "BSD-3-Clause", "Ncell", ""])
def test_a_free_licence_leaves_what_was_told(licence) -> None:
    assert not is_non_commercial(licence)
    assert [may_train(licence, told) for told in (True, False, None)] == [True, False, None]
