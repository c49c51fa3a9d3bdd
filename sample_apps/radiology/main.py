# SPDX-License-Identifier: Apache-2.0
"""MedReasoner with the 7B reasoner and MedSAM2; needs a GPU and the weights."""

from __future__ import annotations

from monailabel.interfaces.app import MONAILabelApp

from monailabel_app import app
from monailabel_app.settings import AppSettings


# MONAI Label takes the class of this file that names MONAILabelApp as a direct base.
class RadiologyApp(app.MedReasonerApp, MONAILabelApp):
    """Defaults of a reading room; ``--conf`` overrides each of them."""

    defaults = AppSettings(reasoner="qwen2.5-vl-7b", segmenter="medsam2", device="cuda")
