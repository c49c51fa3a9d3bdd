# SPDX-License-Identifier: Apache-2.0
"""A site's own reasoners: candidates with provenance, which of them is live, and what happened.

Layout of the folder, by default ``~/.medreasoner/models``::

    candidates/NAME/    one immutable model or LoRA adapter with its candidate.json
    live.json           which candidate answers, and which ones it replaced; switched atomically
    history.jsonl       every promotion, refusal and rollback, only ever appended to
    attempts.jsonl      every candidate that was compared with a live model, likewise
"""

from __future__ import annotations

from medreasoner_infer.models.store.candidate import Candidate, Provenance
from medreasoner_infer.models.store.errors import (
    AdapterNotServedError,
    CandidateChangedError,
    CandidateRefusedError,
    LiveChangedError,
    NothingToRollBackError,
    StoreDamagedError,
    UnknownCandidateError,
)
from medreasoner_infer.models.store.history import Event
from medreasoner_infer.models.store.live import LiveReasoner
from medreasoner_infer.models.store.loading import live_reasoner, load_candidate
from medreasoner_infer.models.store.lora_route import set_lora_adapter
from medreasoner_infer.models.store.store import ANY_LIVE, ReasonerStore

__all__ = [
    "ANY_LIVE",
    "AdapterNotServedError",
    "Candidate",
    "CandidateChangedError",
    "CandidateRefusedError",
    "Event",
    "LiveChangedError",
    "LiveReasoner",
    "NothingToRollBackError",
    "Provenance",
    "ReasonerStore",
    "StoreDamagedError",
    "UnknownCandidateError",
    "live_reasoner",
    "load_candidate",
    "set_lora_adapter",
]
