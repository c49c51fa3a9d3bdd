# SPDX-License-Identifier: Apache-2.0
"""Load what a :class:`~medreasoner_infer.models.registry.ModelSpec` describes."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from medreasoner_infer.models.registry import EMBEDDED
from medreasoner_infer.reasoners.prompts import AS_THE_MODEL_SAYS, Asking
from medreasoner_infer.types import ModelSpec

if TYPE_CHECKING:
    from medreasoner_infer.reasoners.base import Reasoner
    from medreasoner_infer.segmenters.base import Segmenter
    from medreasoner_infer.types import ModelIdentity

logger = logging.getLogger(__name__)

API_KEY_VARIABLE = "MEDREASONER_REASONER_API_KEY"  # pragma: allowlist secret - a name


def load_reasoner(
    spec: ModelSpec,
    *,
    device: str = "auto",
    url: str | None = None,
    adapter: str | None = None,
    asking: Asking = AS_THE_MODEL_SAYS,
) -> Reasoner:
    """Load a reasoner here, or connect to the vLLM server (or replicas) at ``url`` that serves it.

    The key that such a server may want is ``$MEDREASONER_REASONER_API_KEY``.

    Raises:
        ModelUnavailableError: if the weights cannot be loaded.
        ReasonerUnreachableError: if the server at ``url`` does not answer.
    """
    from medreasoner_infer import reasoners

    reasoner: Reasoner
    if url is not None:
        reasoner = reasoners.connect_vllm_reasoner(
            url,
            spec.source,
            input_size=spec.input_size,
            prompt=spec.prompt,
            asking=asking,
            folder=spec.source if spec.is_local else None,
            base=spec.pinned_source,
            model_type=spec.model_type,
            api_key=served_api_key(),
            name=spec.name,
            licence=spec.licence,
            notice=spec.notice,
        )
    else:
        reasoner = reasoners.load_transformers_reasoner(
            spec.source,
            spec.revision,
            device=device,
            adapter=adapter,
            input_size=spec.input_size,
            prompt=spec.prompt,
            asking=asking,
            name=spec.name,
            licence=spec.licence,
            notice=spec.notice,
        )
    _announce(reasoner.identity)
    return reasoner


def served_api_key() -> str | None:
    """What the site's vLLM server wants to be told, from the environment, which nobody logs."""
    return os.environ.get(API_KEY_VARIABLE) or None


def load_segmenter(spec: ModelSpec, *, device: str = "auto") -> Segmenter:
    """Load a segmenter of any family.

    Raises:
        ModelUnavailableError: if the weights cannot be loaded.
        MissingExtraError: if the package that holds them is not installed.
    """
    from medreasoner_infer import segmenters

    segmenter = segmenters.load_segmenter(spec, device=device)
    _announce(segmenter.identity)
    return segmenter


def _announce(identity: ModelIdentity) -> None:
    """Show the licence when a model loads; a restriction is a warning, not a note."""
    level = logging.INFO if identity.name == EMBEDDED else logging.WARNING
    logger.log(level, "Loaded %s, licence %s. %s", identity.name, identity.licence, identity.notice)
