"""A second name for a file, so that it survives when somebody deletes the first one.

Snakemake deletes the outputs of a rule before it runs the rule again. The workflow keeps what takes
hours to compute by a hidden hard link beside it, from which `dsrl train` restores it.
"""

import os
import shutil
from pathlib import Path

from dsrl.system.files import atomic_file


def kept_name(path: Path) -> Path:
    """The second name: `.final.weights` of `final.weights`."""
    return path.with_name(f".{path.name}")


def keep(path: Path) -> None:
    """Give a file its second name; nothing if there is no such file."""
    kept = kept_name(path)
    if path.is_file() and not (kept.exists() and kept.samefile(path)):
        _link(path, kept)


def restore(path: Path) -> None:
    """Bring a file back that was deleted."""
    kept = kept_name(path)
    if kept.is_file() and not path.exists():
        _link(kept, path)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none; replaces `target`."""
    with atomic_file(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)
