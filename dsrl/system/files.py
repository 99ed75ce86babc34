"""Writing to disk so that a failed run never leaves half a file, nor loses the old one.

What is being written has the name `.<name>.<machine>-<process>.tmp` until it is complete. Killed
processes leave such files; the next process that writes to the folder removes them.
"""

import errno
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path


def _machine() -> str:
    """Tells apart where process numbers mean something else: machines, and containers on one."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{zlib.crc32((platform.node() + namespace).encode()):08x}"


MACHINE = _machine()
LEFTOVER = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)\.tmp")
DAY = 24 * 3600

OTHER_PLACE = "choose another place, or make this one writable"
CURES = {
    errno.ENOSPC: "make room and repeat the call",
    errno.EDQUOT: "make room and repeat the call",
    errno.EFBIG: "allow larger files and repeat the call",
    errno.EROFS: OTHER_PLACE,
    errno.EACCES: OTHER_PLACE,
    errno.EPERM: OTHER_PLACE,
    errno.ENOTDIR: "choose another place; a file is where a folder should be",
    errno.EEXIST: "choose another place; a file is where a folder should be",
    errno.EISDIR: "choose another name; a folder has this one",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    On an exception the temporary file is removed and whatever was at `path` stays as it was.

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
    """Yield a temporary folder beside `path`; on success it takes the place of `path`.

    On an exception the temporary folder is removed and whatever was at `path` stays as it was.

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
            shutil.rmtree(old, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Create a folder, with those above it, unless it is there.

    Raises:
        OSError: it cannot be created.
    """
    with errors_that_name(path):
        path.mkdir(parents=True, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _suffix() -> str:
    return f".{MACHINE}-{os.getpid()}.tmp"


@cache  # once per process, as a folder of predictions may be large
def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left half written in `folder`, and put back what they
    were replacing."""
    for path in folder.glob(".*.tmp"):
        match = LEFTOVER.fullmatch(path.name)
        if match and _is_abandoned(path, match[1], int(match[2])):
            if path.is_dir() and not path.is_symlink():
                for old in path.glob("old/*"):
                    if not (folder / old.name).exists():
                        old.rename(folder / old.name)
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):  # another user's, it may be
                    path.unlink()


def _is_abandoned(path: Path, machine: str, process: int) -> bool:
    """Whether nobody writes `path` any more: its process is gone, or, where that cannot be known,
    as on the other machines of a cluster, it has not changed for a day."""
    if machine == MACHINE:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass  # another user's
    try:
        return time.time() - path.stat().st_mtime > DAY
    except FileNotFoundError:
        return False


@contextmanager
def errors_that_name(path: Path) -> Iterator[None]:
    """Let an error of writing name `path` instead of something beside it, and the cure."""
    try:
        yield
    except OSError as error:
        named = Path(str(error.filename or path))
        ours = path.parent in named.parents or named in (path, *path.parents)
        if error.errno not in CURES or not ours:
            raise
        text = f"cannot be written: {os.strerror(error.errno)}; {CURES[error.errno]}"
        raise OSError(error.errno, text, str(path)) from error
