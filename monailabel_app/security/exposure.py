# SPDX-License-Identifier: Apache-2.0
"""Telling this machine from the network."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name counts only if it is localhost."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def is_from_network(server: tuple[str, int | None] | None) -> bool:
    """Whether a request came in by an address that other machines reach.

    Args:
        server: ``scope["server"]`` of ASGI; a Unix socket has no port and is local.
    """
    if server is None or server[1] is None:
        return False
    try:
        ip_address(server[0].strip("[]"))
    except ValueError:
        return False
    return not is_loopback(server[0])
