# SPDX-License-Identifier: Apache-2.0
"""Typed errors of the inference library.

Every message says what was received, what was expected and what to do; it holds no query text and
no patient identifier, so that it may be logged and shown. The server turns the two branches into
HTTP statuses: :class:`InputError` is the caller's to mend (4xx), :class:`ServiceError` is the
site's (503).
"""

from __future__ import annotations

from importlib.util import find_spec

from medreasoner_infer.advice import install_command


class MedReasonerError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(MedReasonerError, ValueError):
    """The request cannot be answered as it stands; the caller can mend it."""


class UnreadableImageError(InputError):
    """The file is missing, is not an image, or its geometry cannot be used."""


class ImageTooLargeError(UnreadableImageError):
    """The file holds, or claims to hold, more than is read; the message says how much that is."""


class MissingDecoderError(UnreadableImageError):
    """The package that decodes the image's compression is not installed; the message names it."""


class SliceOutOfRangeError(InputError):
    """The slice index or patient position lies outside the volume."""


class PromptError(InputError):
    """A box or point prompt is malformed or lies outside the image."""


class ImageKindError(InputError):
    """The pixel kind does not fit the request, e.g. colour where grey is needed."""


class MalformedInferenceError(InputError):
    """The record of an inference has not the fields that it is expected to have."""


class UnknownModelError(InputError):
    """A model name is no registry entry, no local path and no Hugging Face id."""


class AnswerError(MedReasonerError, ValueError):
    """The reasoner's text is not an answer of the agreed format.

    ``completion`` is that text where an engine raised the error; no message repeats it.
    """

    completion: str | None = None


class ServiceError(MedReasonerError, RuntimeError):
    """A part that the answer needs is not available now; the request itself is fine."""


class ModelUnavailableError(ServiceError):
    """Weights are missing, do not match their hash, or could not be loaded."""


class ReasonerUnreachableError(ServiceError):
    """The reasoner's server did not answer, or answered with a fault."""


class OutOfMemoryError(ServiceError):
    """The device ran out of memory; the models are still loaded and usable."""


class CancelledError(MedReasonerError):
    """The caller cancelled the inference."""


class MissingExtraError(MedReasonerError, ImportError):
    """A dependency is not installed; the message names the extra that it belongs to, if any."""

    def __init__(self, package: str, extra: str | None = None) -> None:
        super().__init__(
            f"The package {package!r} is needed for this and is not installed. "
            f"Install it with: {install_command(extra)}"
        )
        self.package = package
        self.extra = extra


def require_package(package: str, extra: str) -> None:
    """Check, before any work, that a package is installed.

    Raises:
        MissingExtraError: it is not; ``extra`` brings it.
    """
    if find_spec(package) is None:
        raise MissingExtraError(package, extra)
