# SPDX-License-Identifier: Apache-2.0
"""Whose word an info of the datastore is: the server's own keys, and a place for the caller's.

MONAI Label keeps one dictionary for both, so that a caller could say which folder or patient an
image belongs to. Here the caller's words lie under one key of their own; who reads an info gets
both, and what only the server may say is never taken from the caller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from medreasoner_infer.errors import InputError
from monailabel_app.studies.entries import EntryError, check_json

CLIENT = "client"
REVIEW = "segmentationMeta"
READER = "reader"
MAX_CLIENT_BYTES = 256 << 10

SERVER_KEYS = frozenset({
    CLIENT, READER, REVIEW, "AccessionNumber", "Modality", "OtherPatientIDs", "PatientBirthDate",
    "PatientID", "PatientName", "RetrieveURL", "SOPInstanceUID", "SeriesInstanceUID", "StudyDate",
    "StudyInstanceUID", "StudyTime", "checksum", "dicom_folder", "ext", "name",
    "overlapped_segments", "path", "status", "strategy", "ts", "user",
})  # fmt: skip


def client_words(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a caller may say: everything but the server's own keys."""
    return {key: value for key, value in values.items() if key not in SERVER_KEYS}


def told_by(
    values: Mapping[str, Any], reader: str | None, review: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """An info as the datastore keeps it, of what a caller says.

    Args:
        values: the caller's words.
        reader: the account, where the server asks for one.
        review: what a reviewer says of the label, with the server's word on who it was.
    """
    info: dict[str, Any] = {CLIENT: client_words(values)}
    if reader is not None:
        info[READER] = reader
    if review is not None:
        info[REVIEW] = dict(review)
    return info


def merged(info: Mapping[str, Any]) -> dict[str, Any]:
    """An info as it is read: the server's keys, and the caller's words where it has none."""
    said = info.get(CLIENT)
    words = client_words(said) if isinstance(said, Mapping) else {}
    return {**words, **{key: value for key, value in info.items() if key != CLIENT}}


def updated(info: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``info`` with ``changes``; the caller's words are changed key by key as well."""
    changed = {**info, **changes}
    if CLIENT in changes:
        changed[CLIENT] = {**(info.get(CLIENT) or {}), **changes[CLIENT]}
    return changed


def checked_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """``info`` as plain JSON types that can be written and read back.

    Raises:
        InputError: it is nested too deeply, too long, or holds numbers or text that JSON has not.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(info), default=str, allow_nan=False))
        check_json(plain)
    except (ValueError, RecursionError, EntryError) as error:
        reason = str(error) if isinstance(error, EntryError) else type(error).__name__
        raise InputError(
            f"The info cannot be kept: it {_holds(reason)}. Send plain JSON with valid text and "
            "finite numbers."
        ) from None
    if len(json.dumps(plain.get(CLIENT) or {})) > MAX_CLIENT_BYTES:
        raise InputError(
            f"The info that callers keep of an image or label is limited to "
            f"{MAX_CLIENT_BYTES >> 10} kB; send less."
        )
    return plain


def _holds(reason: str) -> str:
    return reason if " " in reason else f"is no JSON ({reason})"
