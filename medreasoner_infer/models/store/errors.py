# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with a site's own models."""

from __future__ import annotations

from medreasoner_infer.errors import InputError, ModelUnavailableError, ServiceError


class CandidateRefusedError(InputError):
    """The folder or its name cannot become a candidate as it stands."""


class UnknownCandidateError(InputError):
    """The store holds no candidate of this name."""


class LiveChangedError(InputError):
    """Another model went live since the comparison on which this promotion rests."""


class NothingToRollBackError(InputError):
    """No candidate is live, so there is nothing to go back from."""


class CandidateChangedError(ModelUnavailableError):
    """A candidate's files are not those that were added."""


class StoreDamagedError(ModelUnavailableError):
    """A file that the store itself writes cannot be read."""


class AdapterNotServedError(ServiceError):
    """The vLLM server does not load or unload the LoRA adapter."""
