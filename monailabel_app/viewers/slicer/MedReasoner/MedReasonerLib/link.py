# SPDX-License-Identifier: Apache-2.0
"""The server that the module is connected to, and which of its images a volume is."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .client import Client, ServerImage, Stream, Target
from .errors import NotFoundError, ServerError
from .viewer import ShownVolume


@dataclass(frozen=True)
class Link:
    """A client, the images that the server listed, and the sessions opened for other volumes."""

    client: Client
    images: tuple[ServerImage, ...]
    sessions: dict[str, str] = field(default_factory=dict)

    def image_id(self, volume: ShownVolume) -> str | None:
        """The server's image that the volume is, by its id or its DICOM series."""
        for image in self.images:
            if volume.image_id == image.image_id:
                return image.image_id
            if volume.series_uid and volume.series_uid in (image.series_uid, image.image_id):
                return image.image_id
        return None

    def target(self, volume: ShownVolume) -> Target:
        """What a question about the volume names; neither id means that it must be sent."""
        image_id = self.image_id(volume)
        return Target(image_id, None if image_id else self.sessions.get(volume.key))

    def open_stream(
        self, volume: ShownVolume, file: Path | None, start: Callable[[Target], Stream]
    ) -> Stream:
        """Start a stream about the volume, which is sent as ``file`` first if there is one.

        Raises:
            ServerError: if the server refuses; a session that is over is forgotten.
        """
        if file is not None:
            self.sessions[volume.key] = self.client.open_session(file)
        target = self.target(volume)
        try:
            return start(target)
        except NotFoundError:
            self.sessions.pop(volume.key, None)
            raise

    def download(self, image: ServerImage) -> Path:
        """Fetch an image into a folder of its own, which the caller removes.

        Raises:
            ServerError: if it does not arrive.
        """
        folder = Path(tempfile.mkdtemp(prefix="medreasoner-"))
        try:
            return self.client.download(image.image_id, folder)
        except ServerError:
            shutil.rmtree(folder)
            raise
