# SPDX-License-Identifier: Apache-2.0
"""Writing the picture that a person looks at as a PNG; matplotlib is loaded when one is drawn."""

from __future__ import annotations

import os
from pathlib import Path

from medreasoner_infer.atomic import replacing
from medreasoner_infer.imaging.overlay_content import OverlayContent


def write_overlay(content: OverlayContent, path: str | os.PathLike[str]) -> Path:
    """Draw the slice with its findings beside the question, reasoning and outcome; atomic PNG.

    The picture grows downwards as the text needs, so that no word is ever cut off.

    Returns:
        The path written.
    """
    from medreasoner_infer.imaging.overlay_figure import overlay_figure

    target = Path(path)
    figure = overlay_figure(content)
    with replacing(target, ".png") as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor())
    return target
