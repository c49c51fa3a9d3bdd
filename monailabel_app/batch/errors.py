# SPDX-License-Identifier: Apache-2.0
"""Errors of a run over many studies."""

from __future__ import annotations

from medreasoner_infer.errors import InputError, ServiceError


class QuestionListError(InputError):
    """The list of questions cannot be read, or a row of it cannot be asked."""


class BatchFolderError(InputError):
    """The folder for the results holds something else, or may not be used for these studies."""


class BatchRunningError(ServiceError):
    """Another run, or processes that one has left behind, work on the same folder."""


class BatchProcessError(ServiceError):
    """The processes that answer cannot be started."""
