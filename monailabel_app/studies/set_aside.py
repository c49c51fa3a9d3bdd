# SPDX-License-Identifier: Apache-2.0
"""What of the studies is not offered, by name and with the reason, so that nothing goes silently.

Names are for those who may see the studies anyway; the log gets numbers only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_NAMED = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class SetAside:
    """Something that is not offered.

    Attributes:
        name: a path seen from the folder of studies, or a Series Instance UID.
        reason: a sentence without patient identifiers.
    """

    name: str
    reason: str

    def __post_init__(self) -> None:
        """Write what of the name is no text of one line as escapes: a reply holds text only."""
        text = self.name.encode(errors="backslashreplace").decode()
        text = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
        object.__setattr__(self, "name", text)


def told(found: Sequence[SetAside]) -> dict[str, Any]:
    """How many there are, and the first :data:`MOST_NAMED` of them, as JSON."""
    named = [dataclasses.asdict(one) for one in found[:MOST_NAMED]]
    return {"set_aside_total": len(found), "set_aside": named}
