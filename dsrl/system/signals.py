"""Graceful shutdown when a scheduler asks for it.

Slurm, Kubernetes and most others send SIGTERM some seconds before SIGKILL. A training then writes a
checkpoint and exits with EX_TEMPFAIL ("try again later"), which tells a scheduler that it did not
fail. This module imports no torch, because the command line imports it.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):  # noqa: N818 (not an error)
    """The training was asked to stop and can be resumed."""

    exit_code = os.EX_TEMPFAIL


class StopRequest:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.made = True


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Set a flag on SIGTERM instead of ending the process."""
    request = StopRequest()
    previous = signal.signal(signal.SIGTERM, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, previous)


def ignore_sigterm(worker: int) -> None:
    """For the processes that load images: the main process handles a SIGTERM to the whole process
    group, and ends them when it has written its checkpoint."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
