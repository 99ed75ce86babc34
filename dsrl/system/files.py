"""Writing to disk so that a failed run never leaves half a file, nor loses the old one.

A file or folder has the name `.<name>.<machine>-<process>.tmp` until it is complete. Killed
processes leave such files; the next process that writes to the folder removes them. Nothing is
written over an input of the command.
"""

import errno
import hashlib
import os
import platform
import re
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
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
    NotImplementedError,  # a compression or version that zipfile does not know
    RuntimeError,  # encrypted
)

CURES = {
    "make room and repeat the call": (errno.ENOSPC, errno.EDQUOT),
    "allow larger files and repeat the call": (errno.EFBIG,),
    "choose another place, or make this one writable": (errno.EROFS, errno.EACCES, errno.EPERM),
    "choose another place; a file is where a folder should be": (errno.ENOTDIR, errno.EEXIST),
    "choose another name": (errno.EISDIR, errno.ENAMETOOLONG),
}

# The inputs of the command, by device and inode: links and other spellings lead to the same.
_inputs: dict[tuple[int, int], Path] = {}


@contextmanager
def keep_inputs(paths: Iterable[Path]) -> Iterator[None]:
    """In the block, nothing replaces one of these files, nor a folder with one of them in it.

    Paths that do not exist are ignored.
    """
    before = dict(_inputs)
    for path in paths:
        with suppress(OSError):
            _inputs[_identity(path)] = path
    try:
        yield
    finally:
        _inputs.clear()
        _inputs.update(before)


def check_output(path: Path, folder: bool = False) -> None:
    """Check before long work that the file `path`, or files in the folder `path`, can be written.

    Raises:
        OSError: they cannot.
        ValueError: the file is an input of the command.
    """
    with errors_that_name(path):
        if not folder:
            _check_file(path)
        place = path if folder else path.parent
        while not place.exists():
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "", str(place))
        if not os.access(place, os.W_OK | os.X_OK):
            read_only = os.statvfs(place).f_flag & os.ST_RDONLY
            raise OSError(errno.EROFS if read_only else errno.EACCES, "", str(place))


def check_replaced(folder: Path) -> None:
    """Check that the content of `folder` may go.

    Raises:
        ValueError: an input of the command is in it.
    """
    if not folder.exists():
        return
    for found in _inputs.values():
        full, real = found.absolute(), found.resolve()
        if _identity(folder) in map(_identity, {full, *full.parents, real, *real.parents}):
            raise ValueError(f"{folder}: would overwrite the input {found}; choose another output")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    On an exception the temporary file is removed, and `path` stays as it was.

    Raises:
        OSError: the folder cannot be created or written, or the disk is full.
        ValueError: `path` is an input of the command.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}{_suffix()}")
    with errors_that_name(path):
        _check_file(path)
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
        ValueError: an input of the command is in `path`.
    """
    path = Path(path)
    with errors_that_name(path):
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "", str(path))
        check_replaced(path)
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


def sha256(path: Path) -> str:
    """The checksum of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _check_file(path: Path) -> None:
    """Check that no folder and no input is where a file is to be written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "", str(path))
    if path.exists() and (found := _inputs.get(_identity(path))):
        raise ValueError(f"{path}: would overwrite the input {found}; choose another output")


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
