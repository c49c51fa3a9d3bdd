# SPDX-License-Identifier: Apache-2.0
"""Which label was saved last: MONAI Label tells the app an id, but neither tag nor info."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monailabel_app.errors import UnknownImageError
from monailabel_app.framework import ImageNotFoundException, LocalDatastore
from monailabel_app.store import LabelSubmission


class RemembersSubmissions:
    """Mixed into a datastore: remembers what ``save_label`` was given until it is taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._submissions: dict[str, LabelSubmission] = {}
        super().__init__(*args, **kwargs)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
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
            raise UnknownImageError("The studies hold no image of this id; reload.") from error
        tag = str(getattr(label_tag, "value", label_tag))
        # The datastore's own copy: clients may send bare voxels, which it gives a geometry.
        kept = Path(LocalDatastore.get_label_uri(self, label_id, tag))
        self._submissions[image_id] = LabelSubmission(image_id, tag, kept, dict(label_info or {}))
        return label_id

    def take_submission(self, image_id: str) -> LabelSubmission | None:
        """What was saved last for this image, once."""
        return self._submissions.pop(image_id, None)
