# SPDX-License-Identifier: Apache-2.0
"""What the module knows, as a value, and how it changes: no window, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from .doubt import Doubt, read_doubt
from .events import Event
from .masks import Mask, PackedMask, read_mask
from .viewer import Segment
from .words import is_puzzled

CANCELLED_STATUS = 499
_STAGES = {"search": "Slices looked at", "propagate": "Slices segmented", "doubt": "Readings"}


class Phase(Enum):
    """Where a question stands."""

    IDLE = "idle"
    WORKING = "working"
    ANSWERED = "answered"
    FAILED = "failed"


@dataclass(frozen=True)
class State:
    """One question, or none.

    Attributes:
        volume: the volume in Slicer that the question is about.
        answer: the data of the ``answer`` event, or the result of an earlier question.
        note: what is odd about the view that was asked in.
        segment: where the target is shown.
        mask: on the slice first, then through the volume.
        doubt: of several answers, where the model doubts.
        inference_id: the question that a submitted label belongs to; a correction keeps it.
        corrected: the mask is the reader's own box and points, no longer the answer's.
        original: as it was answered, before the reader's first correction.
        before: what the last correction was made of.
        after: what was undone last.
        decision: accepted, edited or rejected.
        history: earlier questions on the image, the latest first.
    """

    phase: Phase = Phase.IDLE
    volume: str | None = None
    question: str = ""
    stream_id: str | None = None
    step: str = ""
    note: str = ""
    reasoning: str = ""
    answer: Mapping[str, Any] | None = None
    segment: Segment | None = None
    mask: Mask | None = None
    doubt: Doubt | None = None
    inference_id: str | None = None
    corrected: bool = False
    original: State | None = None
    before: Left | None = None
    after: Left | None = None
    decision: str | None = None
    error: str = ""
    history: tuple[Mapping[str, Any], ...] = ()

    def asked(self, question: str, volume: str, segment: Segment, note: str = "") -> State:
        """A question is on its way."""
        fresh = State(Phase.WORKING, volume, question, note=note, history=self.history)
        return replace(fresh, segment=segment, step="Waiting for the model.")

    def reads(self) -> State:
        """What the reader has typed is being read."""
        step = "Waiting for the server."
        return replace(self, phase=Phase.WORKING, step=step, stream_id=None, error="")

    def corrects(self, on_screen: Mask | None = None) -> State:
        """The reader's own prompt is on its way; ``on_screen`` is the mask as they left it."""
        return replace(
            self,
            before=Left.of(self, on_screen),
            after=None,
            phase=Phase.WORKING,
            step="Segmenting.",
            stream_id=None,
            corrected=True,
            original=self.original or self,
            error="",
        )

    def reset(self, on_screen: Mask | None = None) -> State:
        """All is again as it was answered; this, too, can be undone."""
        before = Left.of(self, on_screen)
        original = replace(self.original or self, before=before, after=None)
        return replace(original, history=self.history, decision=self.decision, error="")

    def undone(self, on_screen: Mask | None) -> State:
        """All is again as it was before the last correction."""
        return self._back_to(self.before, after=Left.of(self, on_screen))

    def redone(self, on_screen: Mask | None) -> State:
        """All is again as it was before the last undo."""
        return self._back_to(self.after, before=Left.of(self, on_screen))

    def _back_to(self, left: Left | None, **kept: Left) -> State:
        if left is None:
            return self
        state = left.again()
        return replace(state, history=self.history, decision=self.decision, error="", **kept)

    def heard(self, event: Event) -> State:
        """After an event of the server; unknown ones change nothing."""
        change = _EVENTS.get(event.name)
        return self if change is None else change(self, event.data)

    def ended(self) -> State:
        """The stream is over."""
        if self.phase is not Phase.WORKING:
            return self
        return self.failed("The server ended the answer early; ask again.")

    def failed(self, sentence: str) -> State:
        """Something did not work."""
        return replace(self, phase=Phase.FAILED, step="", stream_id=None, error=sentence)

    def submits(self) -> State:
        """The reader's decision is on its way."""
        return replace(self, step="Submitting.", error="")

    def decided(self, decision: str) -> State:
        """The reader's decision is recorded."""
        return replace(self, decision=decision, error="", step="")

    def listed(self, history: tuple[Mapping[str, Any], ...]) -> State:
        """The earlier questions are known."""
        return replace(self, history=history)

    def shown(
        self,
        record: Mapping[str, Any],
        mask: Mask | None,
        doubt: Doubt | None,
        volume: str,
        segment: Segment,
    ) -> State:
        """An earlier question is shown again."""
        result = record["result"]
        return State(
            phase=Phase.ANSWERED,
            volume=volume,
            question=result.get("query") or "",
            reasoning=result.get("reasoning") or "",
            answer=result,
            segment=segment,
            mask=mask,
            doubt=doubt,
            inference_id=record["inference_id"],
            decision=(record.get("decision") or {}).get("outcome"),
            history=self.history,
        )

    @property
    def may(self) -> Mapping[str, bool]:
        """What the reader may do now, by the button's name."""
        working = self.phase is Phase.WORKING
        recorded = self.inference_id is not None and not working
        undecided = recorded and self.decision is None
        return {
            "connect": not working,
            "load": not working,
            "show": not working,
            "ask": not working,
            "cancel": working and self.stream_id is not None,
            "jump": self.answer is not None,
            "agreement": self.doubt is not None and self.doubt.counts_ijk is not None,
            "previous": self._has_doubtful_slices(),
            "next": self._has_doubtful_slices(),
            "correct": not working and self.answer is not None,
            "undo": not working and self.before is not None,
            "redo": not working and self.after is not None,
            "follow_up": not working and self.answer is not None and bool(self.answer["present"]),
            "reset": not working and (self.mask is not None or self.original is not None),
            "accept": undecided and not self.corrected and not self._says_nothing(),
            "submit": recorded and self.mask is not None,
            "reject": undecided,
        }

    def _has_doubtful_slices(self) -> bool:
        return (
            self.phase is not Phase.WORKING
            and self.answer is not None
            and self.doubt is not None
            and bool(self.doubt.told["doubtful_slices"])
        )

    def _says_nothing(self) -> bool:
        """Whether nothing was answered; accepted, it would stand for a target that is not there."""
        if self.answer is None or not is_puzzled(self.answer):
            return False
        return self.mask is None or not self.mask.values_ijk.any()


@dataclass(frozen=True)
class Left:
    """A state that one may come back to, with the mask as it was on the screen then."""

    state: State
    mask: PackedMask | None

    @classmethod
    def of(cls, state: State, on_screen: Mask | None) -> Left:
        """A state that is left."""
        return cls(
            replace(state, mask=None), None if on_screen is None else PackedMask.of(on_screen)
        )

    def again(self) -> State:
        """The state with its mask."""
        return replace(self.state, mask=None if self.mask is None else self.mask.unpacked())


_Data = Mapping[str, Any]


def _answered(state: State, data: _Data) -> State:
    step = "Segmenting through the volume." if data["present"] else ""
    reasoning = data.get("reasoning") or state.reasoning
    return replace(state, answer=data, reasoning=reasoning, mask=None, step=step)


def _recorded(state: State, data: _Data) -> State:
    inference = state.inference_id or data["inference_id"]
    return replace(state, phase=Phase.ANSWERED, step="", stream_id=None, inference_id=inference)


def _faulty(state: State, data: _Data) -> State:
    if data["status"] == CANCELLED_STATUS:
        return replace(state, phase=Phase.IDLE, step="", stream_id=None, error="")
    return state.failed(data["detail"])


def _read_on(state: State, data: _Data) -> State:
    return replace(state, reasoning=state.reasoning + data["text"], step="Reasoning.")


_EVENTS: Mapping[str, Callable[[State, _Data], State]] = {
    "accepted": lambda state, data: replace(state, stream_id=data["stream_id"]),
    "slice": lambda state, data: replace(
        state, step=f"Reading the {data['plane']} slice. {data['explanation']}"
    ),
    "progress": lambda state, data: replace(
        state, step=f"{_STAGES[data['stage']]}: {data['done']} of {data['total']}."
    ),
    "text": _read_on,
    "answer": _answered,
    "mask": lambda state, data: replace(state, mask=read_mask(data)),
    "doubt": lambda state, data: replace(state, doubt=read_doubt(data)),
    "record": _recorded,
    "error": _faulty,
}
