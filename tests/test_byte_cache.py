# SPDX-License-Identifier: Apache-2.0
"""The bound in bytes of what is kept in memory."""

from __future__ import annotations

from medreasoner_infer.byte_cache import ByteCache


def test_the_value_used_longest_ago_leaves_first() -> None:
    cache: ByteCache[str, bytes] = ByteCache(10, len)
    cache.keep("a", b"1234")
    cache.keep("b", b"1234")
    assert cache.get("a") == b"1234"
    cache.keep("c", b"12345")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (b"1234", None, b"12345")
    assert cache.nbytes == 9


def test_a_value_beyond_the_bound_is_not_kept_and_drives_nothing_out() -> None:
    cache: ByteCache[str, bytes] = ByteCache(10, len)
    cache.keep("a", b"1234567890")
    cache.keep("b", b"12345678901")
    assert (cache.get("a"), cache.get("b"), cache.nbytes) == (b"1234567890", None, 10)


def test_what_is_cleared_takes_no_bytes() -> None:
    cache: ByteCache[str, bytes] = ByteCache(10, len)
    cache.keep("a", b"123")
    cache.clear()
    assert (len(cache), cache.nbytes) == (0, 0)
