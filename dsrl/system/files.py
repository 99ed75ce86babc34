"""Writing to disk so that a failed run never leaves half a file, nor loses the old one.

A file or folder has the name `.<name>.<machine>-<process>.tmp` until it is complete. Killed
processes leave such files; the next process that writes to the folder removes them.
"""

import errno
import os
import platform
import re
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# Process ids are unique in one PID namespace of one machine: a container may have its own.
PID_NAMESPACE = Path("/proc/self/ns/pid")
PLACE = f"{platform.node()} {PID_NAMESPACE.readlink() if PID_NAMESPACE.is_symlink() else ''}"
MACHINE = f"{zlib.crc32(PLACE.encode()):08x}"
# PyTorch adds the last part to the name of what it downloads.
LEFTOVER = re.compile(r"\..+\.([0-9a-f]{8})-(\d{1,9})\.tmp(\.\w+\.partial)?")
DAY = 24 * 3600

# What the standard library raises for a damaged zip file; PyTorch's files are zip files too.
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)

CURES = {
    "make room and repeat the call": (errno.ENOSPC, errno.EDQUOT),
    "allow larger files and repeat the call": (errno.EFBIG,),
    "choose another place, or make this one writable": (errno.EROFS, errno.EACCES, errno.EPERM),
    "choose another place; a file is where a folder should be": (errno.ENOTDIR, errno.EEXIST),
    "choose another name": (errno.EISDIR, errno.ENAMETOOLONG),
}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    On an exception the temporary file is removed, and `path` stays as it was.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}{_suffix()}")
    with errors_that_name(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`.

    On an exception the temporary folder is removed, and `path` stays as it was.

    Raises:
        OSError: the parent folder cannot be created or written, or the disk is full.
    """
    path = Path(path)
    with errors_that_name(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", suffix=_suffix(), dir=path.parent, ignore_cleanup_errors=True
        ) as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old", path.name)
            new.mkdir()
            old.parent.mkdir()
            yield new
            if path.exists():
                path.rename(old)
            try:
                new.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise


def make_folder(path: Path) -> None:
    """Create a folder and its parents, unless they exist.

    Raises:
        OSError: it cannot be created.
    """
    with errors_that_name(path):
        path.mkdir(parents=True, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def errors_that_name(path: Path) -> Iterator[None]:
    """Make an error of writing name `path`, not a temporary file beside it, and the cure."""
    try:
        yield
    except OSError as error:
        named = Path(str(error.filename or path))
        ours = path.parent in named.parents or named in (path, *path.parents)
        cure = next((cure for cure, codes in CURES.items() if error.errno in codes), None)
        if error.errno is None or cure is None or not ours:
            raise
        text = f"cannot be written: {os.strerror(error.errno)}; {cure}"
        raise OSError(error.errno, text, str(path)) from error


def _suffix() -> str:
    return f".{MACHINE}-{os.getpid()}.tmp"


@cache  # once per process: a folder of predictions may be large
def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written in `folder`, and put back the folders that
    they were replacing."""
    for path in folder.glob(".*.tmp*"):
        match = LEFTOVER.fullmatch(path.name)
        if not match or not _is_abandoned(path, match[1], int(match[2])):
            continue
        if path.is_dir() and not path.is_symlink():
            for old in path.glob("old/*"):
                if not (folder / old.name).exists():
                    old.rename(folder / old.name)
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # it may be another user's
                path.unlink()


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    """Whether the process that writes `path` is gone, or, where that cannot be known, as on another
    machine of a cluster, `path` has not changed for a day."""
    if machine == MACHINE:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's process, which may have taken over the number
    try:
        return time.time() - path.stat().st_mtime > DAY
    except FileNotFoundError:  # another process has removed it
        return False
