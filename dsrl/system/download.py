"""Downloading a file: all of it or nothing, and no waiting for ever."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from dsrl.system.files import atomic_file


def download_file(
    url: str, sha256: str | None, path: Path, check: Callable[[Path], None], seconds: float
) -> None:
    """Download `url` to the file `path`; on failure nothing is left behind.

    Args:
        sha256: what the checksum must be; None: any.
        check: is called with the file before it gets its name; raises OSError if it is not
            complete.
        seconds: how long to wait for an answer.

    Raises:
        OSError: the download failed, or the file is not the expected one; says why.
    """
    from torch.hub import download_url_to_file

    try:
        with timeout(seconds), atomic_file(path) as temporary:
            download_url_to_file(url, str(temporary), sha256, progress=sys.stderr.isatty())
            check(temporary)  # torch accepts a connection that ends early
    except (OSError, HTTPException, RuntimeError) as error:
        raise OSError(str(error) or type(error).__name__) from None


@contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """In the block, a connection that gives no answer is an error after so many seconds; torch sets
    no limit, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
