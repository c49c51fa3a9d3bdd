# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin that ends a run by one line: what skipped for want of data, programs, packages.

A reason of the form ``<what> is absent: <detail>; <how to get it>`` is counted by what is absent,
the detail (which may be missing) left out, and one of pytest's ``importorskip`` by its package.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable

import pytest

_ABSENT = re.compile(r"(?:Skipped: )?(.+?) (?:is|are) absent(?::[^;]*)?(?:; (.+))?")
_PACKAGE = re.compile(r"could not import '(?P<package>\w+)|the (?P<extra>extra '\w+')")


def closing_line(reasons: Iterable[str]) -> str:
    """One sentence about all skipped tests, empty if there is none."""
    counts = Counter(_want(reason) for reason in reasons)
    other = counts.pop("", 0)
    wants = [f"{count} for want of {want}" for want, count in counts.most_common()]
    wants += [f"{other} for other reasons"] if other else []
    return f"{counts.total() + other} skipped: {', '.join(wants)}." if wants else ""


def _want(reason: str) -> str:
    """What is absent and how to get it, the same for all reasons about it; else an empty text."""
    package = _PACKAGE.search(reason)
    if package is not None:
        return f"the {package['extra'] or 'package ' + package['package']}"
    absent = _ABSENT.fullmatch(reason)
    if absent is None:
        return ""
    return absent[1] + (f" ({absent[2]})" if absent[2] else "")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    """Write the line behind all other summaries, just above the count of passed tests."""
    yield
    skipped = terminalreporter.getreports("skipped")
    line = closing_line(str(report.longrepr[2]) for report in skipped)
    if line:
        terminalreporter.write_line(line, yellow=True)
