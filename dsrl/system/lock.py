"""One process at a time in a folder, on one machine or on several that share a file system."""

import errno
import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dsrl.system.files import errors_that_name, make_folder

NAME = ".lock"
HELD = (errno.EACCES, errno.EAGAIN)  # what POSIX says if another process has the lock


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is created if necessary, and removed if it stays empty.

    It is a POSIX record lock: the kernel releases it when this process ends, however it ends, and
    the processes that it starts do not inherit it.

    Raises:
        OSError: another process holds it; the message names that process. Or the folder cannot be
            written.
    """
    new, path = not folder.exists(), folder / NAME
    make_folder(folder)
    file = _lock(path)
    try:
        with suppress(OSError):  # only the message needs it, and the disk may be full
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)
        if new:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _lock(path: Path) -> int:
    """The open and locked file."""
    while True:
        with errors_that_name(path):
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(file, 500, 0).decode(errors="replace") or "another process"
            os.close(file)
            if error.errno not in HELD:
                raise OSError(f"{path}: cannot be locked ({error.strerror})") from None
            raise OSError(
                f"{path.parent}: in use by {holder}; wait until it has ended, stop it, or choose "
                "another folder"
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)  # the one that held it has just removed it


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    try:
        with (folder / NAME).open("r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in HELD
    return False
