"""The files that `torch.save` writes: loaded without running code, saved atomically."""

import errno
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dsrl.system.files import ZIP_DAMAGE, atomic_file

# What this version writes, by kind of file. It reads these and no others.
FORMATS = {"weights": 1, "checkpoint": 3}


def load_any(path: Path) -> dict[str, Any]:
    """Read a dictionary that was written by `torch.save`, executing nothing in it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged, contains objects that could run code, or is not a dictionary.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name a file in it, such as final.weights")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with warnings.catch_warnings(action="ignore"):  # of damaged files; an error follows
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are not a pickle make the unpickler raise anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = "truncated, damaged or not a PyTorch file"
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            reason = "it contains Python objects that could run code, so it was not opened"
        raise ValueError(f"{path}: cannot be loaded: {reason}; get or make it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: contains a {type(content).__name__}, not a dictionary")
    return content


def load(path: Path, *kinds: str) -> dict[str, Any]:
    """Read a file of this project that is of one of these kinds; see `load_any` and `check`."""
    content = load_any(path)
    check(content, path, *kinds)
    return content


def check(content: Mapping[str, Any], path: Path, *kinds: str) -> None:
    """Check that `content`, loaded from `path`, is of one of these kinds, and undamaged.

    Raises:
        ValueError: it is of another kind, written by another version, or damaged.
    """
    kind = content.get("kind")
    if kind not in kinds:
        hint = f"it is a {kind} file"
        if kind not in FORMATS:
            hint = "`dsrl import-weights` makes one of a published network"
        raise ValueError(f"{path}: not a {' or '.join(kinds)} file of this project; {hint}")
    if content.get("format") != FORMATS[kind]:
        raise ValueError(
            f"{path}: a {kind} file of format {content.get('format')}, but this version reads "
            f"format {FORMATS[kind]}; use the version that wrote it, or remove it and train again"
        )
    _check_checksums(path)


def _check_checksums(path: Path) -> None:
    """PyTorch writes a checksum of each tensor, but ignores it when it loads."""
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except ZIP_DAMAGE as error:
        raise ValueError(f"{path}: damaged ({error}); get or make it again") from None
    if damaged:
        raise ValueError(f"{path}: damaged: wrong checksum of {damaged}; get or make it again")


def save(path: Path, kind: str, content: Mapping[str, Any]) -> None:
    """Write a file of this kind with `torch.save`, atomically.

    Raises:
        OSError: it cannot be written, or the disk is full.
    """
    write(path, {"kind": kind, "format": FORMATS[kind], **content})


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write any dictionary with `torch.save`, atomically; see `save`."""
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:
            # Where the disk refuses a write, PyTorch raises an error of its own above that one.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
