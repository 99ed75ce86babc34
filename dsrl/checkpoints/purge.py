"""Removing weights, checkpoints, histories and TensorBoard logs of training runs."""

from pathlib import Path

PATTERNS = (
    "*.weights",
    "*.checkpoint",
    "*.checkpoint.bak",
    "*.weights.bak",
    "checkpoints/latest",
    "history.csv",
    "tensorboard/events.out.tfevents.*",
    ".*.weights.*.tmp",
    ".*.checkpoint.*.tmp",
    ".history.csv.*.tmp",
)


def find(folder: Path) -> list[Path]:
    """The files below `folder` that training writes; links are not followed.

    Raises:
        NotADirectoryError: it is not a folder.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder")
    found = {path for pattern in PATTERNS for path in folder.rglob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def remove(folder: Path, files: list[Path]) -> None:
    """Remove `files`, and the folders below `folder` that are empty then."""
    for path in files:
        path.unlink(missing_ok=True)
    for parent in sorted({p for f in files for p in f.parents}, reverse=True):
        inside = folder in parent.parents
        if inside and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
