# SPDX-License-Identifier: Apache-2.0
"""Why no training starts, or why it ended."""

from __future__ import annotations

from medreasoner_infer.errors import InputError, MedReasonerError, ServiceError
from monailabel_app.errors import ConflictError, NotFoundError


class TrainOptionError(InputError):
    """An option of a training request is unknown or cannot be used."""


class NothingTrainsError(NotFoundError):
    """There is no training to stop or to look at."""


class TrainingRunsError(ConflictError):
    """A training is running already, maybe one that a killed server left behind."""


class TooFewHeldOutError(InputError):
    """The validation split has fewer patients than the gate needs for a decision."""


class TrainerFailedError(ServiceError):
    """The trainer ended with a fault; its sentence is the message."""


class TrainingStoppedError(MedReasonerError):
    """Somebody asked the training to stop before its trainer was started."""
