# SPDX-License-Identifier: Apache-2.0
"""What the reader does goes to the server; what it answers goes to the viewer and the page."""

from __future__ import annotations

import functools
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .background import Background, Tell, Work
from .client import Client, Decision, Server, ServerImage, Stream, Target
from .doubt import Doubt, describe_doubtful, next_doubtful, place_of
from .errors import EmptySegmentError, ReaderError, ViewerError
from .events import Event
from .geometry import onto_grid, plane_of_view, position_on_view, ras_lps, tilt_degrees
from .link import Link
from .masks import Mask
from .prompts import correction_of, prompts_of_answer
from .state import Phase, State
from .viewer import Segment, ShownVolume, Viewer
from .words import describe_tilt

LONGEST_NAME = 64
"""Characters of a target's name that the server takes."""


def _telling(action: Callable[..., None]) -> Callable[..., None]:
    """Let an action of the panel end in a sentence for the reader instead of an exception."""

    @functools.wraps(action)
    def told(panel: Panel, *values: Any, **options: Any) -> None:
        try:
            action(panel, *values, **options)
        except ReaderError as error:
            panel.fail(str(error))

    return told


class Panel:
    """The module without its widgets; used in the window's thread only.

    Args:
        changed: called after every change of :attr:`state` or :attr:`images`.
    """

    def __init__(self, viewer: Viewer, changed: Callable[[], None]) -> None:
        self.state = State()
        self._viewer = viewer
        self._changed = changed
        self._background = Background()
        self._link: Link | None = None
        self._stream: Stream | None = None
        # Of the questions that were asked or shown again, by their inferences.
        self._segments: dict[str, Segment] = {}
        self._asked = 0
        self._draws_agreement = False

    @property
    def images(self) -> tuple[ServerImage, ...]:
        """The images of the server's studies."""
        return () if self._link is None else self._link.images

    def poll(self) -> None:
        """Take over what the server has said; to be called by a timer."""
        self._background.poll()

    def close(self) -> None:
        """Leave; a question under way is stopped by the server."""
        self._background.forget()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def fail(self, sentence: str) -> None:
        """Tell the reader that something did not work."""
        self._set(self.state.failed(sentence))

    @_telling
    def connect(self, server: Server) -> None:
        """Log in and list the server's images."""
        self.close()
        self._link = None
        self._set(State(step="Connecting."))
        client = Client(server)

        def connected(images: list[ServerImage]) -> None:
            self._link = Link(client, tuple(images))
            self._set(State(step=f"Connected; the studies hold {len(images)} images."))
            self.follow()

        self._start(lambda tell: client.connect(), connected)

    @_telling
    def load(self, image: ServerImage) -> None:
        """Fetch an image of the studies and show it."""
        link = self._need_link()

        def arrived(path: Path) -> None:
            try:
                self._viewer.load_volume(path, image.image_id, image.name)
            finally:
                shutil.rmtree(path.parent)
            self._set(State(step="Loaded."))
            self.follow()

        self._set(State(step="Loading."))
        self._start(lambda tell: link.download(image), arrived)

    @_telling
    def follow(self) -> None:
        """List what was asked about the volume that is shown now."""
        volume, link = self._viewer.volume, self._link
        image_id = None if volume is None or link is None else link.image_id(volume)
        if link is None or image_id is None:
            self._set(self.state.listed(()))
            return
        client = link.client
        self._start(
            lambda tell: client.history(image_id),
            lambda records: self._set(self.state.listed(tuple(records))),
        )

    @_telling
    def ask(
        self, question: str, *, propagate: bool, follow_up: bool = False, samples: int = 1
    ) -> None:
        """Ask about the slice in the chosen view; a list of targets one by one.

        Of several ``samples`` it is told where they differ.
        With ``follow_up`` the question goes on from the target that is answered now.
        """
        text = question.strip()
        if not text:
            raise ViewerError("Type a question first.")
        link, volume, view = self._need_link(), self._need_volume(), self._viewer.slice_to_ras
        place = {
            "propagate": propagate,
            "samples": samples,
            "plane": plane_of_view(view),
            "position": position_on_view(view, volume.grid).tolist(),
            **({"about": self._target_followed()} if follow_up else {}),
        }
        note = describe_tilt(tilt_degrees(view, volume.grid))

        def ask_in_turn(questions: list[str]) -> None:
            """Ask the first; those behind it are asked when it is answered."""
            if not questions:
                return
            text, *others = questions
            values = {**place, "query": text}
            self._viewer.show_prompts(None)
            self._viewer.show_agreement(None)
            self._set(self.state.asked(text, volume.key, self._new_segment(text), note))
            self._consume(
                link,
                volume,
                lambda target: link.client.ask(target, values),
                lambda: ask_in_turn(others),
            )

        self._set(self.state.reads())
        self._start(lambda tell: link.client.questions(text), ask_in_turn)

    @_telling
    def correct(self, *, propagate: bool) -> None:
        """Correct the segment by new points, or segment anew by another box."""
        link, volume, answer = self._need_link(), self._need_same_volume(), self.state.answer
        if answer is None:
            raise ViewerError("Ask a question first; box and points belong to its answer.")
        prompts, plane = self._viewer.read_prompts(), answer["slice"]["plane"]
        last = self._on_screen()
        drawn = correction_of(prompts, plane, volume.grid, answer["prompts"], last)
        values = {**drawn, "propagate": propagate}
        self._set(self.state.corrects(last))
        self._consume(link, volume, lambda target: link.client.segment(target, values))

    @_telling
    def cancel(self) -> None:
        """Stop the question that is being answered."""
        client, stream_id = self._need_link().client, self.state.stream_id
        if stream_id is not None:
            self._start(lambda tell: client.cancel(stream_id), lambda nothing: None)

    @_telling
    def jump(self) -> None:
        """Show the slice that was asked about."""
        self._need_same_volume()
        if self.state.answer is not None:
            self._viewer.jump_to(ras_lps(self.state.answer["slice"]["center_lps_mm"]))

    @_telling
    def undo(self) -> None:
        """Take the last correction back, with box, points and mask as they were before it."""
        volume = self._need_same_volume()
        self._show_again(self.state.undone(self._on_screen()), volume)

    @_telling
    def redo(self) -> None:
        """Make the correction that was taken back last again."""
        volume = self._need_same_volume()
        self._show_again(self.state.redone(self._on_screen()), volume)

    @_telling
    def reset(self) -> None:
        """Show box, points and mask as they were answered."""
        volume = self._need_same_volume()
        self._show_again(self.state.reset(self._on_screen()), volume)

    @_telling
    def accept(self) -> None:
        """Submit the answer; a segment that is not as it was answered is submitted as edited."""
        mask = self.state.mask
        if mask is None:
            self._decide("accepted", None)
        elif np.array_equal(self._mask_on_screen(mask).values_ijk, mask.values_ijk):
            self._decide("accepted", mask)
        else:
            self.submit()

    @_telling
    def submit(self) -> None:
        """Submit the segment as it is now."""
        link, volume, mask = self._need_link(), self._need_same_volume(), self.state.mask
        if mask is None or link.image_id(volume) is None:
            raise ViewerError(
                "The server's studies do not hold this volume, so a label of it has no place "
                "there; load it from the server."
            )
        self._decide("edited", self._mask_on_screen(mask))

    @_telling
    def reject(self, reason: str) -> None:
        """Record that the answer is wrong, and why."""
        if not reason.strip():
            raise ViewerError("Say why the answer is rejected.")
        self._decide("rejected", None, reason.strip())

    @_telling
    def show(self, record: Mapping[str, Any]) -> None:
        """Show an earlier question again."""
        client, volume = self._need_link().client, self._need_volume()

        def arrived(found: tuple[Mask | None, Doubt | None]) -> None:
            segment = self._segments.get(record["inference_id"])
            if segment is None:
                segment = self._new_segment(record["result"].get("query") or "")
            self._segments[record["inference_id"]] = segment
            self._set(self.state.shown(record, *found, volume.key, segment))
            self._show_prompts(volume)
            self._show_agreement(volume)
            if not self._viewer.has_segment(segment):  # else it may be edited
                self._show_mask(volume)
            self.jump()

        self._start(lambda tell: (client.mask(record), client.doubt(record)), arrived)

    @_telling
    def draw_agreement(self, wanted: bool) -> None:
        """Lay the map of agreement over the volume, now and with later answers, or take it away."""
        self._draws_agreement = wanted
        self._show_agreement(self._need_same_volume())

    @_telling
    def go(self, step: int) -> None:
        """Show the next doubtful slice (1) or the one before (-1), and say why it is one."""
        volume, answer, doubt = self._need_same_volume(), self.state.answer, self.state.doubt
        if answer is None or doubt is None:
            return
        view, plane = self._viewer.slice_to_ras, answer["slice"]["plane"]
        grid = doubt.grid or (volume.grid if self.state.mask is None else self.state.mask.grid)
        here = grid.to_ijk(position_on_view(view, grid))[grid.cut_axis(plane)]
        found = next_doubtful(doubt.told, int(np.floor(here + 0.5)), step)
        if found is not None:
            self._viewer.jump_to(place_of(answer["slice"], grid, found["index"]))
            self._set(replace(self.state, step=describe_doubtful(found)))

    def _show_agreement(self, volume: ShownVolume) -> None:
        doubt = self.state.doubt if self._draws_agreement else None
        self._viewer.show_agreement(None if doubt is None else doubt.per_cent_on(volume.grid))

    def _show_again(self, state: State, volume: ShownVolume) -> None:
        self._set(state)
        self._show_prompts(volume)
        self._show_mask(volume)

    def _on_screen(self) -> Mask | None:
        """The target's mask as the reader has left it; ``None`` where it has not a voxel."""
        mask = self.state.mask
        if mask is None or not mask.values_ijk.any():
            return None
        try:
            return self._mask_on_screen(mask)
        except EmptySegmentError:
            return None

    def _target_followed(self) -> dict[str, Any]:
        """What a question that goes on from the target says of it, as the server takes it."""
        self._need_same_volume()
        original = self.state.original or self.state
        answers = [answer for answer in (self.state.answer, original.answer) if answer is not None]
        if not any(answer["present"] for answer in answers):
            raise ViewerError("There is no target to follow up on; ask a question first.")
        boxes = [(answer.get("prompts") or {}).get("bbox_xyxy_slice_px") for answer in answers]
        answer, box = next(
            ((known, box) for known, box in zip(answers, boxes) if box), (answers[0], None)
        )
        name = " ".join((self._called().get("name") or self.state.question).split())
        place = {"plane": answer["slice"]["plane"], "slice": answer["slice"]["index"]}
        return {"name": name[:LONGEST_NAME], **place, "box": box}

    def _consume(
        self,
        link: Link,
        volume: ShownVolume,
        start: Callable[[Target], Stream],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Pass a stream's events on; a volume that the server has not is sent first.

        ``then`` is called when the stream has ended with an answer.
        """
        file = None
        if not link.target(volume).query:
            file = Path(tempfile.mkdtemp(prefix="medreasoner-")) / "image.nrrd"
            self._viewer.save_volume(file)

        # The end of an earlier one, if that is still to be heard of, is not the end of this one.
        self._stream = None

        def work(tell: Tell) -> Stream:
            """Open the stream and tell it, then each of its events."""
            try:
                stream = link.open_stream(volume, file, start)
            finally:
                if file is not None:
                    shutil.rmtree(file.parent)
            tell(stream)
            for event in stream:
                tell(event)
            return stream

        def done(stream: Stream) -> None:
            if stream is self._stream:
                self._stream = None
                self._set(self.state.ended())
                if self.state.phase is Phase.ANSWERED:
                    then()
            self.follow()

        self._start(work, done, self._heard)

    def _heard(self, item: Any) -> None:
        if isinstance(item, Stream):
            self._stream = item
            return
        event: Event = item
        self._set(self.state.heard(event))
        if event.name == "record" and self.state.segment and self.state.inference_id:
            self._segments[self.state.inference_id] = self.state.segment
        volume = self._viewer.volume
        if volume is None or volume.key != self.state.volume:
            return
        if event.name == "answer":
            self._show_prompts(volume)
        if event.name == "mask":
            self._show_mask(volume)
        if event.name == "doubt":
            self._show_agreement(volume)

    def _show_prompts(self, volume: ShownVolume) -> None:
        answer = self.state.answer
        prompts = None if answer is None else prompts_of_answer(answer, volume.grid)
        self._viewer.show_prompts(prompts)

    def _new_segment(self, question: str) -> Segment:
        self._asked += 1
        return Segment.of(uuid.uuid4().hex, question, self._asked - 1)

    def _show_mask(self, volume: ShownVolume) -> None:
        segment, mask = self.state.segment, self.state.mask
        if segment is None or (mask is None and not self._viewer.has_segment(segment)):
            return
        if mask is None:
            shown = np.zeros(volume.grid.shape_ijk, np.uint8)
        else:
            shown = onto_grid(mask.values_ijk, mask.grid, volume.grid)
        self._viewer.show_mask(segment, shown)

    def _mask_on_screen(self, mask: Mask) -> Mask:
        """The segment as the reader has left it, on the grid of the server's mask."""
        volume, segment = self._need_same_volume(), self.state.segment
        if segment is None:
            raise ViewerError("There is no segment to submit; ask a question first.")
        return Mask(onto_grid(self._viewer.read_mask(segment), volume.grid, mask.grid), mask.grid)

    def _called(self) -> dict[str, Any]:
        """Name and colour of the target; a name only where the reader has given one."""
        segment = self.state.segment
        if segment is None:
            return {}
        shown = self._viewer.read_segment(segment)
        name = {"name": shown.name} if shown.name not in ("", segment.name) else {}
        return {**name, "color": [round(255 * value) for value in shown.rgb]}

    def _decide(self, outcome: str, mask: Mask | None, reason: str | None = None) -> None:
        link, volume, inference_id = (
            self._need_link(), self._need_same_volume(), self.state.inference_id
        )  # fmt: skip
        if inference_id is None:
            raise ViewerError("There is no answer to decide about; ask a question first.")
        image_id, client = link.image_id(volume), link.client

        decision = Decision(inference_id, outcome, self._called(), reason)

        def work(tell: Tell) -> None:
            if mask is not None and image_id is not None:
                client.submit(image_id, mask, decision)
            else:
                client.decide(decision)

        def done(nothing: None) -> None:
            self._set(self.state.decided(outcome))
            self.follow()

        self._set(self.state.submits())
        self._start(work, done)

    def _start(self, work: Work, done: Tell, told: Tell | None = None) -> None:
        def speak(listener: Tell, value: Any) -> None:
            try:
                listener(value)
            except ReaderError as error:
                self.fail(str(error))

        self._background.run(
            work,
            done=lambda value: speak(done, value),
            failed=self.fail,
            told=None if told is None else lambda value: speak(told, value),
        )

    def _set(self, state: State) -> None:
        self.state = state
        self._changed()

    def _need_link(self) -> Link:
        if self._link is None:
            raise ViewerError("Connect to the server first.")
        return self._link

    def _need_volume(self) -> ShownVolume:
        volume = self._viewer.volume
        if volume is None:
            raise ViewerError("No volume is chosen; load one first.")
        return volume

    def _need_same_volume(self) -> ShownVolume:
        volume = self._need_volume()
        if volume.key != self.state.volume:
            raise ViewerError("The question is about another volume; choose that one first.")
        return volume
