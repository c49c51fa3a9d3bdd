# SPDX-License-Identifier: Apache-2.0
"""How a DICOM file starts, with its preamble (PS3.10, 7.1) or, as old programs wrote it, without.

Nothing but the first bytes is looked at, so that a file is recognised before pydicom is loaded.
"""

from __future__ import annotations

import re
import struct

PREFIX_BYTES = 132  # a preamble and "DICM"
_VR = re.compile(rb"AE|AS|AT|CS|DA|DS|DT|FD|FL|IS|LO|LT|OB|OW|PN|SH|SL|SS|ST|TM|UI|UL|UN|US|UT")
_LONG_VR = (b"OB", b"OW", b"UN", b"UT")
_FIRST_GROUPS = (0x0002, 0x0008)
# The first element is a group's length, a character set, an image type or a UID.
_LAST_ELEMENT, _LONGEST = 0x0018, 128
_LAST_GROUP = 0x0010


def has_preamble(head: bytes) -> bool:
    """Whether "DICM" stands where it should; the 128 bytes before it are anybody's."""
    return head[128:PREFIX_BYTES] == b"DICM"


def is_dicom(head: bytes) -> bool:
    """Whether these are the first bytes of a DICOM file.

    Without the preamble two elements must follow one another as they do at the start of a data
    set: the first of group 2 or 8 and short, the second behind it in the order of tags.
    """
    return has_preamble(head) or any(_starts_with_elements(head, order) for order in "<>")


def _starts_with_elements(head: bytes, order: str) -> bool:
    first = _element(head, 0, order)
    second = None if first is None else _element(head, first[1], order)
    if first is None or second is None:
        return False
    (group, number), end = first
    short = number <= _LAST_ELEMENT and end <= _LONGEST
    return group in _FIRST_GROUPS and short and first[0] < second[0] <= (_LAST_GROUP, 0xFFFF)


def _element(head: bytes, at: int, order: str) -> tuple[tuple[int, int], int] | None:
    """Tag of an element, and where the next one starts; ``None`` where none fits."""
    if len(head) < at + 12:
        return None
    group, number = struct.unpack_from(f"{order}HH", head, at)
    vr = head[at + 4 : at + 6]
    if _VR.fullmatch(vr) is None:
        start, length = at + 8, struct.unpack_from(f"{order}L", head, at + 4)[0]
        if order == ">":  # big endian is explicit always
            return None
    elif vr in _LONG_VR:
        start, length = at + 12, struct.unpack_from(f"{order}L", head, at + 8)[0]
    else:
        start, length = at + 8, struct.unpack_from(f"{order}H", head, at + 6)[0]
    return (group, number), start + length
