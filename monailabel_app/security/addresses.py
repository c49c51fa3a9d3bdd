# SPDX-License-Identifier: Apache-2.0
"""Whom a request comes from, as far as rates and numbers of connections go."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

UNKNOWN = "unknown"
FORWARDED = "forwarded"
_SITE_PREFIX_BITS = 64


def counted_as(host: str) -> str:
    """The address that a client is counted by: of IPv6 its network, which it chooses freely in."""
    try:
        address = ip_address(host)
    except ValueError:
        return host or UNKNOWN
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((int(address), _SITE_PREFIX_BITS), strict=False))


def address_of(scope: Scope, trusts_proxies: bool) -> str:
    """Whom a request counts for.

    Args:
        trusts_proxies: whether the site named proxies whose word on the client's address counts.
    """
    client = scope.get("client")
    if not client:
        return UNKNOWN
    if client[1] == 0 and not trusts_proxies:
        # uvicorn's own start believes X-Forwarded-For of this machine and then knows no port;
        # one who writes that header anew for each guess would count as somebody new.
        return FORWARDED
    return counted_as(client[0])


def is_within(host: str, networks: Sequence[str]) -> bool:
    """Whether an address lies in one of these networks."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in ip_network(network, strict=False) for network in networks)
