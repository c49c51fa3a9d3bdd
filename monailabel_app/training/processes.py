# SPDX-License-Identifier: Apache-2.0
"""Processes told apart for certain, and signals to whole groups of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from dataclasses import dataclass

import psutil

# The kernel counts in hundredths of a second; the clock may be set while a process runs.
_SAME_START_S = 1.0


@dataclass(frozen=True)
class ProcessMark:
    """A process: its id, which the system gives away again, and when it started (UNIX time).

    ``host`` is the machine's name; marks of earlier versions, without one, are of this machine.
    """

    pid: int
    started_at_s: float
    host: str | None = None

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """Mark a running process.

        Raises:
            psutil.NoSuchProcess: there is none of this id.
        """
        return cls(pid, psutil.Process(pid).create_time(), socket.gethostname())

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host in (None, socket.gethostname())

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs; one that has ended and was not yet reaped does not.

        One of another machine, which cannot be looked at from here, is taken to run.
        """
        if not self.is_here:
            return True
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at_s) < _SAME_START_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the process and, if it leads a group, all processes of the group.

        One of another machine is left alone.
        """
        if not self.is_here or not self.is_alive:
            return
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
