# SPDX-License-Identifier: Apache-2.0
"""A three-dimensional torso phantom: labelled CT-like sections and studies from a seed."""

from __future__ import annotations

from .anatomy import Label
from .scanner import PhantomImage, sample_image
from .section import Section, SliceGrid, render_section
from .study import PhantomStudy, torso_ct
from .tissues import Phase, Tissue
from .torso import TorsoPhantom, sample_torso

__all__ = [
    "Label",
    "PhantomImage",
    "PhantomStudy",
    "Phase",
    "Section",
    "SliceGrid",
    "Tissue",
    "TorsoPhantom",
    "render_section",
    "sample_image",
    "sample_torso",
    "torso_ct",
]
