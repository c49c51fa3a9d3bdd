# SPDX-License-Identifier: Apache-2.0
"""Which label was saved last: MONAI Label tells the app an id, but neither tag nor info."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monailabel_app.errors import UnknownImageError
from monailabel_app.framework import ImageNotFoundException
from monailabel_app.store import LabelSubmission
from monailabel_app.store.files import sha256_of
from monailabel_app.studies.indexed import IndexedFolder
from monailabel_app.studies.infos import merged

_UNKNOWN = "The studies hold no image of this id; reload."


class RemembersSubmissions:
    """Mixed into an :class:`IndexedFolder`: remembers what ``save_label`` was given.

    It comes before the datastore in the list of bases.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._submissions: dict[str, LabelSubmission] = {}
        super().__init__(*args, **kwargs)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]
    ) -> str:
        """Save the label as the datastore does, and remember it.

        Raises:
            UnknownImageError: if there is no image of this id.
        """
        try:
            label_id: str = super().save_label(  # type: ignore[misc]
                image_id, label_filename, label_tag, label_info
            )
        except ImageNotFoundException as error:
            raise UnknownImageError(_UNKNOWN) from error
        tag = str(getattr(label_tag, "value", label_tag))
        assert isinstance(self, IndexedFolder)  # nosec B101 # for type checkers
        # The datastore's own copy, as the file that was sent goes with its request.
        kept = self.label_file(label_id, tag)
        self._submissions[image_id] = LabelSubmission(image_id, tag, kept, merged(label_info or {}))
        return label_id

    def take_submission(self, image_id: str) -> LabelSubmission | None:
        """What was saved last for this image, once."""
        return self._submissions.pop(image_id, None)

    @contextmanager
    def label_kept(
        self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any]
    ) -> Iterator[LabelSubmission]:
        """Save a label for as long as the block goes well; if it fails, all is as before.

        If it is killed, :meth:`take_back_unrecorded` decides at the next start.

        Raises:
            UnknownImageError: if there is no image of this id.
            StudiesWriteError, StudiesAwayError: it cannot be written; nothing was changed.
        """
        assert isinstance(self, IndexedFolder)  # nosec B101 # for type checkers
        try:
            about = {
                "image_id": image_id,
                "tag": label_tag,
                "info": merged(label_info or {}),
                "sha256": sha256_of(Path(label_filename)),
            }
            with self.label_taken_back_on_fault(image_id, label_tag, about):
                self.save_label(image_id, label_filename, label_tag, label_info)
                submission = self.take_submission(image_id)
                assert submission is not None  # nosec B101 # for type checkers
                yield submission
        except ImageNotFoundException as error:
            raise UnknownImageError(_UNKNOWN) from error

    def take_back_unrecorded(self, is_recorded: Callable[[LabelSubmission, str], bool]) -> None:
        """Take back a label that a killed process had begun to keep, and not recorded.

        Args:
            is_recorded: whether a submission, of the file of this SHA-256, is.
        """
        assert isinstance(self, IndexedFolder)  # nosec B101 # for type checkers

        def counts(about: Mapping[str, Any]) -> bool:
            submission = LabelSubmission(about["image_id"], about["tag"], None, about["info"])
            return is_recorded(submission, about["sha256"])

        self.take_back_interrupted(counts)
