# SPDX-License-Identifier: Apache-2.0
"""Addresses as they may be shown: without the name and password that a URL can hold."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_WEB = ("http://", "https://")
_BETWEEN = re.compile(r",\s*(?=https?://)")
UNREADABLE_ADDRESS = "an address that cannot be read"


def shown_address(url: str) -> str:
    """``url`` without credentials, query and fragment, any of which may hold a secret.

    Whatever stands before the last ``@`` of the host is taken for credentials. A text that is no
    URL is not shown at all, as it cannot be told which part of it is secret.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return UNREADABLE_ADDRESS
    host = parts.netloc.rpartition("@")[2]
    # A password with a raw "/", "?" or "#" ends the host early, and the "@" stands in what follows.
    if not parts.scheme or not host or any("@" in part for part in parts[2:]):
        return UNREADABLE_ADDRESS
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def is_web_address(text: str) -> bool:
    """Whether ``text`` is an address, and not the path of a folder."""
    return text.startswith(_WEB)


def is_usable_address(text: str) -> bool:
    """Whether ``text`` is an address of http or https with a host, and a port that there can be."""
    try:
        parts = urlsplit(text.strip())
        return f"{parts.scheme}://" in _WEB and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def addresses_in(text: str) -> tuple[str, ...]:
    """The addresses of a text that holds one, or several with commas between; each once.

    A comma before anything but another address belongs to the one before it, maybe to a password.
    """
    return tuple(dict.fromkeys(part.strip() for part in _BETWEEN.split(text)))
