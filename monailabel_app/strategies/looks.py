# SPDX-License-Identifier: Apache-2.0
"""What was seen of an image when it was looked at once, and the files that keep it.

A file for each image in ``next_case/`` beside the records, named by a hash of the image's id and
version. It holds a pseudonym of the patient, codes of the header and the figures of
:func:`medreasoner_training.next_case.appearance`; neither identifiers nor pixels.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from medreasoner_infer.atomic import replacing
from medreasoner_training.next_case import FEATURES
from monailabel_app.common.private_files import private_folder
from monailabel_app.images.source import ImageSource
from monailabel_app.strategies.sorting import Sorts

logger = logging.getLogger(__name__)

FOLDER_NAME = "next_case"
# Whoever changes what is kept, or how features are made, raises it.
_VERSION = "1"
_SUFFIX = ".json"


@dataclass(frozen=True)
class Look:
    """What was seen of an image.

    Attributes:
        patient: pseudonym.
        sorts: what its header tells.
        feature: of :func:`medreasoner_training.next_case.appearance`; empty where the image cannot
            be read, or is too large to be looked at.
    """

    patient: str
    sorts: Sorts
    feature: tuple[float, ...] = ()

    @property
    def vector(self) -> NDArray[np.float32] | None:
        """The figures of the image, float32 (:data:`FEATURES`,)."""
        return np.array(self.feature, np.float32) if len(self.feature) == FEATURES else None


_LOOK = TypeAdapter(Look)


class LookFiles:
    """The kept looks of a site."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Look | None:
        """What was kept under a name; ``None`` where nothing was, or the file is damaged."""
        try:
            return _LOOK.validate_json((self._folder / f"{name}{_SUFFIX}").read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("A look that was kept cannot be read (%s)", type(error).__name__)
            return None

    def write(self, name: str, look: Look) -> None:
        """Keep it.

        Raises:
            OSError: it cannot be written.
        """
        private_folder(self._folder)
        with replacing(self._folder / f"{name}{_SUFFIX}", _SUFFIX) as unfinished:
            unfinished.write_bytes(_LOOK.dump_json(look))

    def keep_only(self, names: Collection[str]) -> None:
        """Remove what was kept of images, or versions of images, that are gone."""
        if not self._folder.is_dir():
            return
        for path in self._folder.glob(f"*{_SUFFIX}"):
            is_unfinished = path.name.startswith(".")
            if path.stem not in names and not is_unfinished:
                path.unlink(missing_ok=True)


def look_name(source: ImageSource) -> str | None:
    """Under what the look of an image is kept; ``None`` where its file is gone."""
    try:
        status = os.stat(source.path)
    except OSError:
        return None
    parts = (_VERSION, str(source.image_id), str(status.st_mtime_ns), str(status.st_size))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
