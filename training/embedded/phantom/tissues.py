# SPDX-License-Identifier: Apache-2.0
"""Tissues of the torso phantom and their CT numbers.

Typical attenuation values in Hounsfield units without contrast agent, the spread between patients,
and what an iodine bolus adds in the arterial and in the portal venous phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Tissue(IntEnum):
    """Tissue index of one phantom voxel."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    SOFT = 4
    CORTICAL_BONE = 5
    MARROW = 6
    CARTILAGE = 7
    LUNG = 8
    LUNG_VESSEL = 9
    HEART = 10
    ARTERY = 11
    VEIN = 12
    LIVER = 13
    LIVER_VESSEL = 14
    BILE = 15
    SPLEEN = 16
    PANCREAS = 17
    STOMACH_CONTENT = 18
    GAS = 19
    RENAL_CORTEX = 20
    RENAL_MEDULLA = 21
    URINE = 22
    BOWEL_CONTENT = 23
    FAECES = 24
    CORD = 25
    LIVER_LESION = 26
    LUNG_TUMOUR = 27
    CYST = 28
    EFFUSION = 29
    TABLE = 30
    MYOCARDIUM = 31


@dataclass(frozen=True)
class Attenuation:
    """CT number of one tissue: mean, spread between patients, gain by phase (all in HU)."""

    mean_hu: float
    spread_hu: float
    arterial_hu: float = 0.0
    venous_hu: float = 0.0


ATTENUATION: dict[Tissue, Attenuation] = {
    Tissue.AIR: Attenuation(-1000, 0),
    Tissue.SKIN: Attenuation(10, 10, 0, 5),
    Tissue.FAT: Attenuation(-103, 7),
    Tissue.MUSCLE: Attenuation(48, 8, 5, 12),
    Tissue.SOFT: Attenuation(38, 8, 20, 45),
    Tissue.CORTICAL_BONE: Attenuation(620, 130),
    Tissue.MARROW: Attenuation(190, 55),
    Tissue.CARTILAGE: Attenuation(95, 20),
    Tissue.LUNG: Attenuation(-845, 35, 5, 5),
    Tissue.LUNG_VESSEL: Attenuation(20, 25, 100, 50),
    Tissue.HEART: Attenuation(40, 5, 200, 95),
    Tissue.ARTERY: Attenuation(42, 5, 250, 105),
    Tissue.VEIN: Attenuation(40, 5, 40, 110),
    Tissue.LIVER: Attenuation(56, 9, 15, 55),
    Tissue.LIVER_VESSEL: Attenuation(40, 6, 20, 115),
    Tissue.BILE: Attenuation(8, 7),
    Tissue.SPLEEN: Attenuation(48, 5, 70, 70),
    Tissue.PANCREAS: Attenuation(38, 7, 60, 50),
    Tissue.STOMACH_CONTENT: Attenuation(22, 18),
    Tissue.GAS: Attenuation(-960, 25),
    Tissue.RENAL_CORTEX: Attenuation(34, 4, 140, 130),
    Tissue.RENAL_MEDULLA: Attenuation(30, 4, 40, 110),
    Tissue.URINE: Attenuation(6, 5, 0, 0),
    Tissue.BOWEL_CONTENT: Attenuation(20, 14, 0, 5),
    Tissue.FAECES: Attenuation(0, 40),
    Tissue.CORD: Attenuation(30, 8, 0, 5),
    Tissue.LIVER_LESION: Attenuation(22, 8, 15, 15),
    Tissue.LUNG_TUMOUR: Attenuation(38, 10, 25, 30),
    Tissue.CYST: Attenuation(5, 6),
    Tissue.EFFUSION: Attenuation(8, 7),
    Tissue.TABLE: Attenuation(-420, 140),
    Tissue.MYOCARDIUM: Attenuation(48, 6, 60, 60),
}


class Phase(IntEnum):
    """Contrast phase of a CT examination."""

    NATIVE = 0
    ARTERIAL = 1
    VENOUS = 2


def sample_hu_table(rng: np.random.Generator, phase: Phase) -> np.ndarray:
    """Draw one patient's CT number for each tissue.

    Returns:
        float32 of shape (number of tissues,), indexed by :class:`Tissue`, in HU.
    """
    strength = rng.uniform(0.6, 1.15)
    table = np.zeros(len(Tissue), np.float32)
    for tissue, entry in ATTENUATION.items():
        gain = (0.0, entry.arterial_hu, entry.venous_hu)[phase]
        table[tissue] = entry.mean_hu + rng.normal(0.0, entry.spread_hu) + strength * gain
    return table


def sample_mr_table(rng: np.random.Generator) -> np.ndarray:
    """Draw a random MR-like signal in 0...1 for each tissue; air, gas, cortex and lung stay dark.

    Returns:
        float32 of shape (number of tissues,), indexed by :class:`Tissue`.
    """
    table = rng.uniform(0.15, 0.8, len(Tissue)).astype(np.float32)
    table[Tissue.FAT] = table[Tissue.MARROW] = rng.uniform(0.1, 1.0)
    fluid = rng.uniform(0.1, 1.0)
    for tissue in (Tissue.URINE, Tissue.BILE, Tissue.CYST, Tissue.EFFUSION):
        table[tissue] = fluid
    table[Tissue.LIVER_LESION] = np.clip(table[Tissue.LIVER] + rng.choice([-0.3, 0.3]), 0.05, 1.0)
    table[Tissue.HEART] = table[Tissue.ARTERY] = table[Tissue.VEIN] = rng.uniform(0.05, 1.0)
    for tissue in (Tissue.AIR, Tissue.GAS, Tissue.TABLE):
        table[tissue] = 0.0
    for tissue in (Tissue.CORTICAL_BONE, Tissue.LUNG):
        table[tissue] = rng.uniform(0.02, 0.12)
    return table
