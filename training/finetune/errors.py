# SPDX-License-Identifier: Apache-2.0
"""Why a fine-tuning run cannot start or go on; every message says what to do."""

from __future__ import annotations

from medreasoner_infer.errors import InputError, ServiceError


class FineTuneConfigError(InputError):
    """A key of the configuration is unknown, or its value means nothing."""


class TrackerMissingError(InputError):
    """Figures are to go to a tracker whose package is not installed."""


class ProgressError(InputError):
    """A run's ``progress.json`` is missing or is none."""


class TooFewSamplesError(InputError):
    """The data set has too few samples for one step."""


class NoValidationError(InputError):
    """The data set holds no patient on whom a candidate could be compared."""


class ImageSizeError(InputError):
    """The data set's images have another size than the model reads."""


class NoChatTemplateError(InputError):
    """The model cannot be asked: its processor holds no chat template."""


class RunChangedError(InputError):
    """The configuration or the data set of a run differs from those it was begun with."""


class DiskFullError(ServiceError):
    """There is no room for checkpoints."""


class NonFiniteLossError(ServiceError):
    """The loss or its gradient became NaN or infinite."""


class NothingLearntError(ServiceError):
    """A training ended with the weights that it began with."""


class FrozenWeightsChangedError(ServiceError):
    """Weights that must not learn are not those that were loaded."""


class UnknownArchitectureError(InputError):
    """The sizes of a model are not known, so its memory cannot be reckoned."""
