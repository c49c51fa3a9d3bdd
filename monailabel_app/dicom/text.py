# SPDX-License-Identifier: Apache-2.0
"""Text of ours as a value representation can hold it.

The standard counts characters (PS3.5, 6.2); some validators and archives count the bytes of UTF-8,
and text that is short enough for them is so for the standard.
"""

from __future__ import annotations

import re

LONG_STRING_BYTES = 64
CUT = "..."
# Control characters have no place in LO, and lone surrogates none in any text (PS3.5, 6.1.3, 6.2).
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def shortened(text: str, most_bytes: int = LONG_STRING_BYTES) -> str:
    """``text`` without what LO forbids, cut to what it holds."""
    clean = " ".join(_FORBIDDEN.sub(" ", text.replace("\\", "/")).split())
    encoded = clean.encode()
    if len(encoded) <= most_bytes:
        return clean
    return encoded[: most_bytes - len(CUT)].decode(errors="ignore") + CUT
