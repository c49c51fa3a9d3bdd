# SPDX-License-Identifier: Apache-2.0
"""What an entry of the datastore's index may be; whoever wrote the file, it is only believed so."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from monailabel_app.common.door import MAX_DIGITS, BoundError, every_value, is_clean_text, is_name
from monailabel_app.framework import DataModel, ImageLabelModel

MAX_DEPTH = 40
MAX_VALUES = 500_000
# Of a label, which other programs may have written; it can be no path.
_LABEL_EXTENSION = re.compile(r"(\.[A-Za-z0-9_-]{1,16}){1,4}")
_LARGEST = 10**MAX_DIGITS


class EntryError(ValueError):
    """An entry or a value cannot be used; the message finishes a sentence and repeats no value."""


def read_entry(image_id: str, raw: Any, image_extensions: Collection[str]) -> ImageLabelModel:
    """One entry of the index as MONAI Label's model.

    Args:
        image_extensions: those that an image may have.

    Raises:
        EntryError: id, tag or extension could be a path, or a value could not be sent as JSON.
    """
    if not is_name(image_id):
        raise EntryError("has an id that is no name")
    fields = _mapping(raw)
    image = _data(fields.get("image"))
    if image.ext not in image_extensions:
        raise EntryError("has an image of no known format")
    labels = {tag: _data(label) for tag, label in _mapping(fields.get("labels", {})).items()}
    for tag, label in labels.items():
        if not is_name(tag) or not _LABEL_EXTENSION.fullmatch(label.ext):
            raise EntryError("has a label whose tag or file is no name")
    return ImageLabelModel(image=image, labels=labels)


def _data(raw: Any) -> DataModel:
    fields = _mapping(raw)
    extension, info = fields.get("ext", ""), _mapping(fields.get("info", {}))
    if not isinstance(extension, str):
        raise EntryError("has an extension that is no text")
    check_json(info)
    return DataModel(ext=extension, info=dict(info))


def _mapping(raw: Any) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise EntryError("is no JSON object where one belongs")
    return raw


def check_json(value: Any) -> None:
    """Whether a value of JSON can be written, read back and sent on.

    Raises:
        EntryError: depth, number of values, a number or a text is beyond what can be.
    """
    try:
        for item in every_value(value, MAX_DEPTH, MAX_VALUES):
            _check_scalar(item)
    except BoundError as error:
        raise EntryError(str(error)) from None


def _check_scalar(item: Any) -> None:
    if isinstance(item, str) and not is_clean_text(item):
        raise EntryError("holds text that is not valid Unicode, or NUL")
    if isinstance(item, float) and not math.isfinite(item):
        raise EntryError("holds a number that is not finite")
    if isinstance(item, int) and not -_LARGEST < item < _LARGEST:
        raise EntryError(f"holds an integer of more than {MAX_DIGITS} digits")
