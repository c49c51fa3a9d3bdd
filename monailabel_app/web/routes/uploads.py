# SPDX-License-Identifier: Apache-2.0
"""Uploaded images and labels: looked at in the scratch folder before anything is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medreasoner_infer.errors import UnreadableImageError
from medreasoner_infer.imaging import Volume, load_volume, write_mask
from monailabel_app.labels.grid import label_of_voxels, require_on_image
from monailabel_app.store import LabelRecord
from monailabel_app.studies.scratch import Scratch
from monailabel_app.web.streaming.events import mask_runs

_HEADER_BYTES = 1 << 20
_BYTES_PER_VOXEL = 8


@contextmanager
def received_image(scratch: Scratch, content: BinaryIO, max_bytes: int) -> Iterator[Path]:
    """An uploaded image that can be read, under the extension of its content.

    Raises:
        InputError: it is longer than ``max_bytes``, or no image that can be read.
        StudiesWriteError: the disk is full.
    """
    with scratch.received(content, max_bytes) as path, scratch.named(path) as image:
        load_volume(image)
        yield image


@contextmanager
def received_label(scratch: Scratch, content: BinaryIO, volume: Volume) -> Iterator[Path]:
    """An uploaded label of ``volume``, under the extension of its content.

    Bare voxels, one byte each and I fastest, become NIfTI on the image's grid.

    Raises:
        InputError: it is too long, cannot be read, or cannot be of this image.
        StudiesWriteError: the disk is full.
    """
    voxels = int(np.prod(volume.shape_ijk))
    max_bytes = voxels * _BYTES_PER_VOXEL + _HEADER_BYTES
    with ExitStack() as stack:
        path = stack.enter_context(scratch.received(content, max_bytes))
        size_bytes = path.stat().st_size
        try:
            label = stack.enter_context(scratch.named(path))
        except UnreadableImageError:
            if size_bytes != voxels:
                raise
            label = stack.enter_context(scratch.file(".nii.gz"))
            write_mask(label_of_voxels(path, volume), volume, label)
        require_on_image(load_volume(label), volume)
        yield label


def voxels_sha256(label: LabelRecord) -> str | None:
    """SHA-256, hexadecimal, of the run lengths of the kept label's mask, whatever its format.

    The lengths are those of :func:`~monailabel_app.web.streaming.events.mask_runs`, decimal, with
    commas between. ``None`` where no copy is kept.
    """
    if label.file is None:
        return None
    runs = mask_runs(load_volume(label.file).array)
    return hashlib.sha256(",".join(map(str, runs)).encode()).hexdigest()
