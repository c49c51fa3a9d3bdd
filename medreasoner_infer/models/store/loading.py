# SPDX-License-Identifier: Apache-2.0
"""From a candidate to a reasoner, in this process or on a vLLM server."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from medreasoner_infer.models.loading import load_reasoner, served_api_key
from medreasoner_infer.models.registry import EMBEDDED, resolve_model
from medreasoner_infer.models.store.candidate import Candidate
from medreasoner_infer.models.store.errors import CandidateChangedError
from medreasoner_infer.models.store.live import LiveReasoner
from medreasoner_infer.models.store.lora_route import set_lora_adapter
from medreasoner_infer.models.store.store import ReasonerStore
from medreasoner_infer.types import ModelSpec

if TYPE_CHECKING:
    from medreasoner_infer.reasoners.base import Reasoner


def live_reasoner(
    store: ReasonerStore | None = None, *, device: str = "auto", url: str | None = None
) -> LiveReasoner:
    """The store's live reasoner, or the embedded one while no candidate is live.

    Args:
        store: by default that of ``$MEDREASONER_HOME``.
        device: as in :func:`~medreasoner_infer.models.loading.load_reasoner`.
        url: address of a vLLM server, or of replicas, which serve full models themselves and are
            told to load adapters.
    """
    found = ReasonerStore() if store is None else store

    def load(candidate: Candidate | None) -> Reasoner:
        if candidate is None:
            return load_reasoner(resolve_model("reasoner", EMBEDDED), device=device, url=url)
        return load_candidate(found, candidate, device=device, url=url)

    return LiveReasoner(found, load)


def load_candidate(
    store: ReasonerStore, candidate: Candidate, *, device: str = "auto", url: str | None = None
) -> Reasoner:
    """Check every file's hash, then load the candidate or have the server at ``url`` do so.

    Raises:
        CandidateChangedError: if a file or the adapter's base is not the recorded one.
        AdapterNotServedError: if the server does not load the adapter.
        ServiceError: as :func:`~medreasoner_infer.models.loading.load_reasoner`.
    """
    store.verify(candidate)
    base = resolve_model("reasoner", candidate.provenance.base)
    if candidate.kind == "model":
        return load_reasoner(_full_model(candidate, base), device=device, url=url)
    _check_base(candidate, base)
    if url is not None:
        return _served_adapter(candidate, base, url)
    spec = dataclasses.replace(
        base, name=candidate.name, licence=candidate.licence, notice=candidate.notice
    )
    return load_reasoner(spec, device=device, adapter=str(candidate.folder))


def _full_model(candidate: Candidate, base: ModelSpec) -> ModelSpec:
    """Asked as the base is, unless its own folder says how."""
    asks_itself = (candidate.folder / "prompt.json").is_file()
    return ModelSpec(
        name=candidate.name,
        kind="reasoner",
        source=str(candidate.folder),
        licence=candidate.licence,
        notice=candidate.notice,
        input_size=None if asks_itself else base.input_size,
        prompt=None if asks_itself else base.prompt,
        model_type=base.model_type,
    )


def _served_adapter(candidate: Candidate, base: ModelSpec, url: str) -> Reasoner:
    from medreasoner_infer import reasoners

    def prepare(address: str) -> None:
        set_lora_adapter(address, candidate.name, candidate.folder, api_key=served_api_key())

    return reasoners.connect_vllm_reasoner(
        url,
        candidate.name,
        input_size=base.input_size,
        prompt=base.prompt,
        folder=base.source if base.is_local else None,
        base=base.pinned_source,
        model_type=base.model_type,
        api_key=served_api_key(),
        licence=candidate.licence,
        notice=candidate.notice,
        prepare=prepare,
    )


def _check_base(candidate: Candidate, base: ModelSpec) -> None:
    """An adapter on other weights than it was trained on is another model."""
    from medreasoner_infer.reasoners.weights import weights_sha256

    expected = candidate.provenance.base_weights_sha256
    if expected is None or not base.is_local:
        return
    actual = weights_sha256(Path(base.source))
    if actual != expected:
        raise CandidateChangedError(
            f"The adapter {candidate.name} was trained on weights {expected[:12]}…, but "
            f"{candidate.provenance.base} has {actual[:12]}… now. Train the adapter anew, or merge "
            "it into the base that it was trained on."
        )
