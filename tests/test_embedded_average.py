# SPDX-License-Identifier: Apache-2.0
"""The mean of two stages' weights."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from medreasoner_training.embedded.average import average


@pytest.fixture
def files(tmp_path):
    """Two files of one architecture, and one of another."""
    for name, value, shape in (("first", 1.0, (2, 3)), ("last", 3.0, (2, 3)), ("other", 0.0, (2,))):
        save_file({"neck.weight": torch.full(shape, value)}, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.0), (0.75, 2.5), (1.0, 3.0)])
def test_weights_lie_the_share_of_the_way_from_first_to_last(files, share, value):
    weights = average(files / "first", files / "last", share)
    assert torch.equal(weights["neck.weight"], torch.full((2, 3), value))


def test_weights_of_another_architecture_are_refused(files):
    with pytest.raises(ValueError, match="other names or shapes"):
        average(files / "first", files / "other", 0.5)


def test_share_beyond_the_way_is_refused(files):
    with pytest.raises(ValueError, match="expected 0 to 1"):
        average(files / "first", files / "last", 1.5)
