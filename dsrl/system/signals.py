"""Leaving in order when a scheduler asks for it.

Slurm, Kubernetes and most others send SIGTERM some seconds before SIGKILL. A training then writes a
checkpoint and leaves with EX_TEMPFAIL ("try again later"), by which a scheduler can tell it from a
failure. This module imports no torch, as the command line knows `Stopped`.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):  # noqa: N818 (it is no error)
    """The training was asked to stop, and can go on from where it is."""

    exit_code = os.EX_TEMPFAIL


class StopRequest:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.made = True


@contextmanager
def stop_on_sigterm() -> Iterator[StopRequest]:
    """Note SIGTERM instead of dying of it."""
    request = StopRequest()
    previous = signal.signal(signal.SIGTERM, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, previous)


def ignore_sigterm(worker: int) -> None:
    """For the processes that load images: a SIGTERM to the whole process group is the business of
    the main one, which ends them when it has written its checkpoint."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
