# SPDX-License-Identifier: Apache-2.0
"""Which targets of the vocabulary the embedded models are taught."""

from __future__ import annotations

from medreasoner_infer.language import unsided

from ..queries import known_targets

REAL_LABELS: dict[str, str] = {
    "airways": "airways",
    "all nuclei": "cell nuclei",
    "aorta": "aorta",
    "benign breast lesion": "benign breast lesion",
    "brain lesion": "brain lesion",
    "breast tumour": "breast tumour",
    "cardiomediastinum": "cardiomediastinum",
    "consolidation": "consolidation",
    "foveal avascular zone deep": "foveal avascular zone",
    "foveal avascular zone superficial": "foveal avascular zone",
    "ground glass opacities": "ground-glass opacity",
    "inferior vena cava": "inferior vena cava",
    "kidney": "kidney",
    "left atrium": "left atrium",
    "left lung": "lung",
    "left ventricle": "left ventricle",
    "liver": "liver",
    "malignant breast lesion": "malignant breast lesion",
    "nucleus": "cell nuclei",
    "nucleus 2": "cell nuclei",
    "optic disc": "optic disc",
    "pancreas": "pancreas",
    "polyp": "polyp",
    "pulmonary artery": "pulmonary artery",
    "right atrium": "right atrium",
    "right lung": "lung",
    "right ventricle": "right ventricle",
    "skin lesion": "skin lesion",
    "spinal cord": "spinal cord",
    "superior vena cava": "superior vena cava",
}
"""Target of the vocabulary for each label of the public images that are trained on."""


def known_names() -> frozenset[str]:
    """Names in the vocabulary of the phantoms' targets and of the public images' labels."""
    phantom = {unsided(target.name) for target in known_targets().values()}
    return frozenset(phantom | set(REAL_LABELS.values()))
