"""Folders that are made once for all of pytest's workers, and only read by the tests."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock


def snapshot(folder: Path, leave_out: str = "") -> dict[str, list[int]]:
    """Every file and folder with what changes when it is written, even with the same content.

    What lies below a folder called `leave_out` does not count.
    """
    paths = (path for path in folder.rglob("*") if leave_out not in path.parts)
    states = {str(path.relative_to(folder)): path.lstat() for path in paths}
    return {
        path: [state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        for path, state in states.items()
    }


@contextmanager
def made_once(path: Path, make: Callable[[Path], None], leave_out: str = "") -> Iterator[Path]:
    """Let the first process that comes `make` a folder, and the others wait until it is complete.

    Raises:
        AssertionError: at the end, if a test has changed the folder.
    """
    complete = path.with_suffix(".json")
    with FileLock(path.with_suffix(".lock")):
        if not complete.exists():
            shutil.rmtree(path, ignore_errors=True)  # of a worker in which `make` failed
            path.mkdir()
            make(path)
            complete.write_text(json.dumps(snapshot(path, leave_out)))
    yield path
    assert snapshot(path, leave_out) == json.loads(complete.read_text()), f"a test changed {path}"
