# SPDX-License-Identifier: Apache-2.0
"""Faults, each with a sentence for the reader."""

from __future__ import annotations


class ReaderError(Exception):
    """Something the reader is told; the message is a sentence."""


class ServerError(ReaderError):
    """The server cannot be reached, refuses, or answers something else than expected."""


class NotFoundError(ServerError):
    """The server has nothing of that name or id (any more)."""


class GridError(ReaderError):
    """A mask lies on other voxels than the volume that is shown."""


class ViewerError(ReaderError):
    """What is shown does not allow what the reader asks for."""


class EmptySegmentError(ViewerError):
    """A segment has no voxel (any more)."""
