# SPDX-License-Identifier: Apache-2.0
"""The modalities of images, which decide how grey values are shown."""

from __future__ import annotations

from medreasoner_infer.errors import InputError

# Defined terms of Modality (0008,0060) for images, PS3.3 C.7.3.1.1.1.
KNOWN_MODALITIES = (
    "CT", "MR", "US", "CR", "DX", "MG", "XA", "RF", "PT", "NM", "OPT", "OP", "ES", "IVUS", "GM",
    "SM", "XC", "PX", "IO", "OT",
)  # fmt: skip


def known_modality(text: str) -> str:
    """The DICOM code that somebody has typed, in capitals.

    Raises:
        InputError: it is none of :data:`KNOWN_MODALITIES`.
    """
    code = text.strip().upper()
    if code not in KNOWN_MODALITIES:
        raise InputError(
            f"{text!r} is no modality of images; expected one of {', '.join(KNOWN_MODALITIES)}."
        )
    return code
