"""Graceful shutdown when a scheduler asks for it, or somebody presses Ctrl-C.

Slurm, Kubernetes and most others send SIGTERM some seconds before SIGKILL. A training then writes a
checkpoint and exits with EX_TEMPFAIL ("try again later"), which tells a scheduler that it did not
fail. On SIGINT it does the same and exits with 130, as programs do that Ctrl-C ends; a second one
ends it at once. This module imports no torch, because the command line imports it.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):  # noqa: N818 (not an error, so no name in -Error)
    """The training was asked to stop and can be resumed.

    Args:
        number: of the signal that asked.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(message)
        self.exit_code = 130 if number == signal.SIGINT else os.EX_TEMPFAIL


class StopRequest:
    """Whether a signal has asked this process to stop, and which."""

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def made(self) -> bool:
        """Whether a signal has come."""
        return self.number is not None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Set a flag on SIGTERM and on the first SIGINT instead of ending the process."""
    request = StopRequest()
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ignore_signals(worker: int) -> None:
    """For the processes that load images: the main process handles a signal to the whole process
    group, and ends them when it has written its checkpoint."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
