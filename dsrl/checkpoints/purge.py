"""Removing weights, checkpoints, histories and TensorBoard logs of training runs."""

from pathlib import Path

from dsrl.checkpoints.stage_folder import is_set_aside
from dsrl.system import lock

PATTERNS = (
    "*.weights",
    "*.checkpoint",
    "*.checkpoint.bak*",
    "*.weights.bak*",
    "history.csv",
    ".history.csv",
    ".final.weights",
    "tensorboard/events.out.tfevents.*",
    lock.NAME,
    ".*.weights.*.tmp",
    ".*.checkpoint.*.tmp",
    ".history.csv.*.tmp",
)


def find(folder: Path, set_aside: bool = False) -> list[Path]:
    """The files below `folder` that training writes; links are not followed.

    Args:
        set_aside: only those of trainings that were set aside.

    Raises:
        NotADirectoryError: it is not a folder.
        OSError: a training is at work there.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder")
    found = {path for pattern in PATTERNS for path in folder.rglob(pattern)}
    files = sorted(path for path in found if path.is_file() and not path.is_symlink())
    if set_aside:
        files = [path for path in files if any(map(is_set_aside, _up_to(folder, path)))]
    for place in {place for path in files for place in (path.parent, path.parents[1])}:
        if lock.is_locked(place):
            raise OSError(f"{place}: a training is at work there; stop it first")
    return files


def _up_to(folder: Path, path: Path) -> list[Path]:
    """The folders above `path`, up to `folder`."""
    return [parent for parent in path.parents if folder in (parent, *parent.parents)]


def remove(folder: Path, files: list[Path]) -> None:
    """Remove `files`, and the folders below `folder` that are empty then."""
    for path in files:
        path.unlink(missing_ok=True)
    for parent in sorted({p for f in files for p in f.parents}, reverse=True):
        inside = folder in parent.parents
        if inside and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
